# SPDX-License-Identifier: LGPL-2.1-or-later
"""What has to be true of a VM beyond the types of its fields, whichever document it came from."""

import re
from collections.abc import Iterator
from typing import Final

from bpferry.domain.binding import PATHS, Form, Table
from bpferry.domain.model.features import Hyperv
from bpferry.domain.model.machine import Machine
from bpferry.domain.origins import Origins
from bpferry.domain.remaining import numbered
from bpferry.domain.shape import Field, fields_of
from bpferry.domain.shown import shown
from bpferry.errors import BadInput

CONTROL: Final = r"[\x00-\x1f\x7f]"

SURROGATE: Final = r"[\ud800-\udfff]"
"""What Python has in place of a byte of a path that is not UTF-8 (PEP 383)."""

MAX_PATH_BYTES: Final = 4095
"""PATH_MAX without its final zero byte (linux/limits.h)."""

PASSTHROUGH: Final = Hyperv(mode="passthrough")
"""The only settings in this mode."""


def find_mistakes(machine: Machine, origins: Origins) -> Iterator[BadInput]:
    """Yield what is wrong with *machine*: with the place, what was found, and what is possible."""
    yield from _faults_of_texts(machine, origins)
    yield from _contradictions(machine, origins)


def wrong_keys(machine: Machine) -> Iterator[str]:
    """Yield the keys of what ``find_mistakes`` finds."""
    for key, bound, value in texts_of(machine):
        if _problem_of(bound, value):
            yield key
    for key, _, _ in contradictions_of(machine):
        yield key


def _faults_of_texts(machine: Machine, origins: Origins) -> Iterator[BadInput]:
    for key, bound, value in texts_of(machine):
        problem = _problem_of(bound, value)
        if problem:
            yield BadInput(
                f"{origins.describe(key)} is {shown(value, bound)}: {problem}",
                element=origins.element_of(key),
            )


def _contradictions(machine: Machine, origins: Origins) -> Iterator[BadInput]:
    for key, sentence, hint in contradictions_of(machine):
        yield BadInput(f"{origins.describe(key)}: {sentence}", hint, origins.element_of(key))


def _wrong_names(machine: Machine) -> Iterator[tuple[str, str, str]]:
    """Yield what is wrong with the name of the VM, as libvirt has it (virDomainDefPostParse)."""
    if not machine.name:
        yield "name", "the name of the VM is empty", "give the VM a name, such as web"
    elif "/" in machine.name:
        yield "name", f"a VM cannot be called '{machine.name}'", "write a name without '/'"


def contradictions_of(machine: Machine) -> Iterator[tuple[str, str, str]]:
    """Yield what is wrong with fields that have the right types.

    Beside the name, a domain document cannot express it, since it is ignored there (``ignored``).
    Each is a key, what is wrong with it, and what to do.
    """
    yield from _wrong_names(machine)
    for number, card in numbered(machine.cards):
        if card.tap is not None and card.type != "ethernet":
            yield (
                f"cards[{number}].tap",
                f"a card of type '{card.type}' has no tap with a name",
                "leave 'tap' out, or use the type 'ethernet' for a tap that exists",
            )
        if card.vlan in card.tagged_vlans:
            yield (
                f"cards[{number}].vlan",
                f"VLAN {card.vlan} is here for frames without a tag and for those with one",
                "leave it out of one of the two",
            )
    hyperv = machine.features.hyperv
    if hyperv is not None and hyperv.mode == "passthrough" and hyperv != PASSTHROUGH:
        yield (
            "features.hyperv",
            "the mode 'passthrough' turns on everything that the host supports",
            "leave single features out, or leave 'mode' out",
        )


def texts_of(table: Table, prefix: str = "") -> Iterator[tuple[str, Field, str]]:
    """Yield each string in *table* with its key and its field."""
    for bound in fields_of(type(table)):
        value = getattr(table, bound.name)
        if value is None:
            # As most fields are; a check looks at all of them.
            continue
        key = f"{prefix}{bound.key}"
        singles = (
            [(f"{key}[{number}]", single) for number, single in numbered(value)]
            if bound.many
            else [(key, value)]
        )
        for single_key, single in singles:
            if isinstance(single, Table):
                yield from texts_of(single, f"{single_key}.")
            elif isinstance(single, str):
                yield single_key, bound, single


def _problem_of(bound: Field, text: str) -> str:
    """Return what is wrong with *text*; empty if nothing is.

    No text of a document reaches QEMU with anything that could end a string, a line or an option
    there: control characters, and what is not a character at all.
    """
    if bound.at.lines:
        text = re.sub(r"[\n\t]", "", text)
    # What can be printed has none of them, so that the expressions are seldom needed.
    if not text.isprintable():
        if re.search(CONTROL, text):
            return "it contains a control character"
        if re.search(SURROGATE, text):
            return "it is not UTF-8"
    if bound.at.form is Form.FOLDER and not text:
        return "expected the path of a folder"
    if bound.at.form in (Form.FILE, Form.PLACE) and not text.rstrip("/"):
        return "expected the path of a file"
    if bound.at.form in PATHS and len(text.encode()) > MAX_PATH_BYTES:
        return f"a path has at most {MAX_PATH_BYTES} bytes"
    return ""
