# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each key of a description counts, is refused, or is said to have no effect where it is.

Small documents have a table of each kind. Each key that a table does not have yet is added to it,
for each of the kinds (such as types and models) that the table may be of, and the command line is
held against that without it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import pytest

from bpferry.commandline.parts import Device, Option
from bpferry.domain.binding import Form, Table
from bpferry.domain.bounds import is_possible
from bpferry.domain.model.machine import Machine
from bpferry.domain.shape import Field, fields_of
from bpferry.errors import BpferryError
from tests.client.commandline.small_vms import DOCUMENTS, composed, read

EXEMPT: Final[Mapping[str, str]] = {
    "title": "for people",
    "description": "the same",
    "accelerator": "chosen before the command line is built",
    "tcg-fallback": "the same",
    "qemu": "the same",
    "require-ebpf": "what the plans of cards have to be",
    "default-rss": "of cards with several queues",
    "stop-timeout": "what happens when the VM is stopped",
    "boot": "a kind of device that the VM does not have is not booted from",
    "cpu.match": "'exact' and 'strict' are both the model that is named",
    "cpu.fallback": "no model is ever replaced by another",
    "vcpu-list.order": "of processors that are there from the start, the guest finds all",
    "nvram.type": "there is one word for it",
    "disks.driver": "the same",
    "disks.socket-type": "the same",
    "cards.socket-type": "the same",
    "disks.startup-policy": "it counts where a medium is missing (absent_media)",
    "host-devices.startup-policy": "the same, of a device",
    "host-devices.managed": "bpferry binds no device to a driver, which the document page says",
    "disks.read-only": "a CD always is",
    "disks.format": "of a drive without a medium, documents have it all the same",
    "sysinfo.bios.value": "that the table has no effect is said of its list",
    "clock.timers.catchup.threshold": "that QEMU has a rate of its own is said of the table",
    "clock.timers.catchup.slew": "the same",
    "clock.timers.catchup.limit": "the same",
    "cards.vhost-device": "opened before QEMU starts",
    "cards.bridge": "libvirt notes the bridge of a network here",
    "consoles.port": "the number of a console, which follows from its place",
    "tpms.persistent-state": "the state of a TPM is always kept",
    "videos.primary": "the first graphics card is",
}
"""Keys that change no command line, and why that is right."""

KINDS: Final = frozenset(
    [
        "type",
        "model",
        "backend",
        "device",
        "mode",
        "source",
        "protocol",
        "offset",
        "transport",
        "bus",
        "format",
        "policy",
    ]
)
"""Keys by which a table has other keys that count."""

TEXTS: Final = (
    "ua-x", "x", "/x/y", "br0", "10.0.0.1", "52:54:00:11:22:33", "1", "0-1", "1.2", "11",
    "00000000-0000-0000-0000-00000000000a", "5000000000000000", "2026-01-01T00:00:00", "0x1",
    "GenuineIntel",
)  # fmt: skip
NUMBERS: Final = (1, 4096, 2, 0, 3, 64, 77, 512, 1024, 16384, 65535)
SIZES: Final = ("2 MiB", "4 KiB", "1 GiB", "128 MiB", "128 bytes")
MOST: Final = 6


@dataclass(frozen=True)
class Spot:
    """A table of a document."""

    table: type[Table]
    way: tuple[str | int, ...]

    @property
    def name(self) -> str:
        """Its key, without numbers."""
        return ".".join(step for step in self.way if isinstance(step, str))


def outcome(plain: Mapping[str, object]) -> tuple[str, object]:
    """Return the whole of what comes of a description, or how it is refused."""
    try:
        made = composed(plain)
    except (msgspec.ValidationError, BpferryError) as error:
        return "refused", str(error)
    if made.refusals:
        return "refused", [refusal.error.message for refusal in made.refusals]
    others = [repr(part) for part in made.built.parts if not isinstance(part, Device | Option)]
    return "done", (made.built.argv, others, repr(made.requests), repr(made.context.plans))


def spots(
    plain: Mapping[str, Any], table: type[Table], way: tuple[str | int, ...] = ()
) -> Iterator[Spot]:
    """Yield each table that *plain* has."""
    yield Spot(table, way)
    for bound in fields_of(table):
        value = plain.get(bound.key)
        if bound.table is None or value is None:
            continue
        if bound.many:
            for number, single in enumerate(value):
                yield from spots(single, bound.table, (*way, bound.key, number))
        else:
            yield from spots(value, bound.table, (*way, bound.key))


def at(plain: Any, way: tuple[str | int, ...]) -> Any:  # noqa: ANN401 - of any depth
    """Return the table at *way*."""
    for step in way:
        plain = plain[step]
    return plain


def with_key(plain: Mapping[str, Any], spot: Spot, key: str, value: object) -> dict[str, Any]:
    """Return *plain* with *value* at *key* of the table *spot*."""
    copy: dict[str, Any] = msgspec.msgpack.decode(msgspec.msgpack.encode(plain))
    at(copy, spot.way)[key] = value
    return copy


def values_of(bound: Field) -> list[object]:
    """Return some values that *bound* may have, but what it has anyway."""
    pool: tuple[object, ...]
    if bound.choices:
        pool = bound.choices
    elif bound.scalar is bool:
        pool = (True, False)
    elif bound.at.form is Form.SIZE:
        return [[size] if bound.many else size for size in SIZES]
    else:
        pool = NUMBERS if bound.scalar is int else TEXTS
    found = [value for value in pool if is_possible(bound, value)][:MOST]
    return [[value] if bound.many else value for value in found if value != bound.default]


def variants(plain: dict[str, Any], spot: Spot) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield *plain*, and the same with another kind of the table *spot*, each with the kind."""
    yield "", plain
    for bound in fields_of(spot.table):
        if bound.key in KINDS and bound.choices and not bound.many:
            for choice in bound.choices:
                yield f"{bound.key}={choice}", with_key(plain, spot, bound.key, choice)


SEEN: set[tuple[object, ...]] = set()


def silent_keys(text: str) -> Iterator[tuple[str, object]]:
    """Yield each key that has no effect in the document *text*, with the table that it is in."""
    whole = read(text)
    for spot in spots(whole, Machine):
        for kind, plain in variants(whole, spot):
            before = outcome(plain)
            if before[0] == "done":
                around = at(plain, spot.way)
                said = kind or (str(sorted(around)) if spot.way else "")
                yield from _silent(plain, spot, before, said)


def _silent(
    plain: dict[str, Any], spot: Spot, before: object, kind: str
) -> Iterator[tuple[str, object]]:
    around = at(plain, spot.way)
    for bound in fields_of(spot.table):
        known = (spot.table, kind, bound.key)
        if bound.table is not None or bound.key in around or known in SEEN:
            continue
        SEEN.add(known)
        values = values_of(bound)
        if values and all(
            outcome(with_key(plain, spot, bound.key, one)) == before for one in values
        ):
            yield f"{spot.name}.{bound.key}".lstrip("."), around


@pytest.mark.parametrize("name", DOCUMENTS)
def test_document_is_accepted(name: str) -> None:
    """What is added to a document shows only if nothing else of it is refused."""
    assert "done" == outcome(read(DOCUMENTS[name]))[0], outcome(read(DOCUMENTS[name]))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_key_is_silent() -> None:
    """Each key that has no effect is one that has none anywhere, for a reason."""
    silent = {key: around for text in DOCUMENTS.values() for key, around in silent_keys(text)}

    assert {key: around for key, around in silent.items() if key not in EXEMPT} == {}
    assert set(EXEMPT) <= set(silent), "no longer silent"
