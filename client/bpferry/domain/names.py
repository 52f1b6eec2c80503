# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the parts of a VM are called: by their key in the document, and by an id for QEMU.

An id is the alias that the user chose, or the kind and number of the device, as in libvirt.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from msgspec import Struct

from bpferry.domain.model.base import Device
from bpferry.domain.remaining import numbered
from bpferry.errors import Mistaken, Unsupported

if TYPE_CHECKING:
    # The whole model takes a while to import, and a single card does not need it.
    from bpferry.domain.model.cards import Card
    from bpferry.domain.model.characters import Character
    from bpferry.domain.model.machine import Machine

T_co = TypeVar("T_co", covariant=True)
U = TypeVar("U")
D = TypeVar("D", bound=Device)

USER_PREFIX = "ua-"
"""How a user's own alias begins (docs/formatdomain, 'alias'); others are from a past run."""


class Named(Struct, Generic[T_co], frozen=True):
    """A part of a VM: its value, and what it is called."""

    key: str
    """In the native form, such as ``disks[0]``; ``domain.origins`` turns it into a place."""
    id: str
    """In QEMU. A part of a device has the device's id."""
    value: T_co

    @property
    def number(self) -> int:
        """Its place in the list that it is in, from 0."""
        return int(self.key.rpartition("[")[2].rstrip("]"))

    def refusal(self, field: str, sentence: str, hint: str) -> Unsupported:
        """Return the error that refuses *field* of it, or all of it if *field* is empty.

        Args:
            field: as the native form or as the class of the model calls it.
            sentence: why; it does not repeat the place.
            hint: what the user can do.
        """
        return Unsupported(sentence, hint, self._key_of(field))

    def mistake(self, field: str, sentence: str, hint: str) -> Mistaken:
        """Return the error that *field* of it cannot be like this in any VM.

        Args:
            field: as for ``refusal``.
            sentence: why; it does not repeat the place.
            hint: what the user can do.
        """
        return Mistaken(sentence, hint, self._key_of(field))

    def part(self, field: str, value: U) -> "Named[U]":
        """Return what is in *field* of it."""
        return Named(self._key_of(field), self.id, value)

    def parts(self, field: str, values: Sequence[U]) -> "Iterator[Named[U]]":
        """Yield the entries of its list *field*, which are *values*."""
        for number, value in numbered(values):
            yield self.part(f"{field}[{number}]", value)

    def field_of(self, key: str) -> str:
        """Return which field of it is at *key*; empty if that is all of it, or another part."""
        prefix = f"{self.key}." if self.key else ""
        return key.removeprefix(prefix) if key.startswith(prefix) else ""

    def _key_of(self, field: str) -> str:
        return ".".join(filter(None, (self.key, field.replace("_", "-"))))


def named(devices: Sequence[D], key: str, prefix: str) -> Iterator[Named[D]]:
    """Yield each of *devices* with its key and id, such as ``rngs[0]`` and ``rng0``."""
    for number, device in numbered(devices):
        yield Named(f"{key}[{number}]", chosen(device) or f"{prefix}{number}", device)


def listed(values: Sequence[U], key: str) -> Iterator[Named[U]]:
    """Yield each of *values*, which have no ids, with its key."""
    for number, value in numbered(values):
        yield Named(f"{key}[{number}]", "", value)


def before(part: Named[U], values: Sequence[U]) -> Iterator[U]:
    """Yield those of *values* that come before *part*, which is one of them."""
    return (value for number, value in numbered(values) if number < part.number)


def single(device: D, key: str) -> Named[D]:
    """Return a *device* of which a VM has one, such as ``balloon``, with its id ``balloon0``."""
    return Named(key, chosen(device) or f"{key}0", device)


def chosen(device: Device) -> str | None:
    """Return the id that the user chose for *device*, if any."""
    alias = device.alias
    return alias if alias is not None and alias.startswith(USER_PREFIX) else None


def characters_of(machine: "Machine") -> "Iterator[Named[Character]]":
    """Yield each character device with its key, of all kinds."""
    for key, devices in (
        ("serials", machine.serials),
        ("parallels", machine.parallels),
        ("consoles", machine.consoles),
        ("channels", machine.channels),
        ("redirected-devices", machine.redirected_devices),
        ("smart-cards", machine.smart_cards),
    ):
        yield from listed(devices, key)


def cards_of(machine: "Machine") -> "Iterator[Named[Card]]":
    """Yield each network card."""
    return named(machine.cards, "cards", "net")
