# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which part of the document QEMU complains about when it does not start.

QEMU puts the option that it was reading, as it was given, before its message. What the option
creates has an id, by which others refer to it, up to a device that has a place in the document: a
disk's ``-blockdev`` is named by another one, and that by the ``-device``. If there is no option,
there may be the path of a file, or the message is about one thing only.
"""

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from bpferry.commandline.build import Built
from bpferry.commandline.parts import Device, Endpoint
from bpferry.domain.binding import PATHS
from bpferry.domain.checks import texts_of
from bpferry.domain.model.machine import Machine

QUOTED: Final = re.compile(r"""'(/[^']*)'|"(/[^"]*)"|\[(/[^\]]*)\]""")
"""Paths, as QEMU's messages have them."""

KEYS: Final[Mapping[str, str]] = {
    "-accel": "accelerator",
    "-append": "command-line",
    "-boot": "boot",
    "-cpu": "cpu",
    "-initrd": "initrd",
    "-kernel": "kernel",
    "-m": "memory",
    "-machine": "machine-type",
    "-numa": "cpu",
    "-rtc": "clock",
    "-smp": "vcpus",
}
"""The keys of the model whose values such options have."""

DISPLAYS: Final = {"-vnc": "vnc", "-spice": "spice"}
"""The types of graphics whose options have no id."""

WORDS: Final = (
    (re.compile("CPU model|CPU feature|for CPU"), "cpu"),
    (re.compile("machine type|-machine"), "machine-type"),
    (re.compile("initrd|ram disk"), "initrd"),
    (re.compile("kernel header|kernel image|kernel too|multiboot"), "kernel"),
    (re.compile("guest memory|guest RAM|maximum memory"), "memory"),
    (re.compile("KVM|kvm|accelerator"), "accelerator"),
)
"""Messages that come without the option that they are about."""


class Made(NamedTuple):
    """What one option creates."""

    option: str
    value: str
    id: str
    names: frozenset[str]
    """All other values in it that may be the id of something else."""

    def is_in(self, line: str) -> bool:
        """Say whether QEMU was reading this option when it wrote *line*."""
        return f" {self.option} {self.value}: " in line


def find_key(lines: Iterable[str], built: Built, machine: Machine) -> str:
    """Return the key of the model that QEMU's *lines* are about, by the last one; may be empty."""
    options = [_made(*pair) for pair in itertools.pairwise(built.argv) if pair[0][:1] == "-"]
    owners = _owners(built)
    for line in reversed(tuple(lines)):
        made = next((one for one in options if one.is_in(line)), None)
        around = _key_of_option(made, options, owners, machine) if made else ""
        key = _key_of_path(line, machine, around) or around or _key_of_words(line)
        if key:
            return key
    return ""


def _owners(built: Built) -> dict[str, str]:
    """Return the keys of what has an id in QEMU and a place in the document."""
    chardevs = {one.chardev: one.key for one in built.of(Endpoint) if one.chardev and one.key}
    devices = {one.id: one.key for one in built.of(Device) if one.key}
    return chardevs | devices


def _made(option: str, value: str) -> Made:
    try:
        fields = json.loads(value) if value.startswith("{") else None
    except (ValueError, RecursionError):
        fields = None  # A user's own option may be anything.
    if fields is not None:
        name = str(fields.get("id") or fields.get("node-name") or "")
        words = frozenset(_texts(fields))
    else:
        pairs = [word.partition("=") for word in value.replace(",,", "\0").split(",")]
        name = next((text for key, _, text in pairs if key == "id"), "")
        words = frozenset(text for _, _, text in pairs)
    return Made(option, value, name, words - {name, ""})


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for single in value.values():
            yield from _texts(single)
    elif isinstance(value, list):
        for single in value:
            yield from _texts(single)


def _key_of_option(
    made: Made, options: Sequence[Made], owners: Mapping[str, str], machine: Machine
) -> str:
    own = [*machine.qemu_arguments]
    if made.value in own:
        return f"qemu-arguments[{own.index(made.value)}]"
    waiting, seen = [made], {made.id}
    while waiting:
        made = waiting.pop(0)
        key = owners.get(made.id) or _key_of_kind(made, machine)
        if key or made.option == "-device":
            return key  # The bus of another device is not part of it.
        users = [one for one in options if made.id in one.names and one.id not in seen]
        waiting += users
        seen |= {one.id for one in users if one.id}
    return ""


def _key_of_kind(made: Made, machine: Machine) -> str:
    if made.option in DISPLAYS:
        kinds = [one.type for one in machine.graphics]
        wanted = DISPLAYS[made.option]
        return f"graphics[{kinds.index(wanted)}]" if wanted in kinds else ""
    if made.option == "-object" and any(name.startswith("memory-backend-") for name in made.names):
        return "memory"
    return KEYS.get(made.option, "")


def _key_of_path(line: str, machine: Machine, around: str) -> str:
    """Return where the document has a path of *line*, preferably within the key *around*."""
    paths = {path for found in QUOTED.findall(line) for path in found if path}
    keys = [
        key for key, field, text in texts_of(machine) if text in paths and field.at.form in PATHS
    ]
    within = [key for key in keys if key.startswith(f"{around}.")]
    return next(iter(within or ([] if "[" in around else keys)), "")


def _key_of_words(line: str) -> str:
    return next((key for pattern, key in WORDS if pattern.search(line)), "")
