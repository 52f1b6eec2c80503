# SPDX-License-Identifier: LGPL-2.1-or-later
"""Numbers by which a guest may name its PCI devices (ACPI's _DSM, function 7), as eno7 for a card.

Any device may be given one, so all of them are handled here.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from bpferry.commandline.context import mistaken
from bpferry.commandline.parts import Device, Part, Refusal, Slot
from bpferry.domain.model import base
from bpferry.domain.model.machine import Machine
from bpferry.domain.remaining import numbered
from bpferry.domain.shape import fields_of
from bpferry.errors import Unsupported

ON_PCI = (Slot.EXPRESS, Slot.CONVENTIONAL, Slot.INTEGRATED)


def indexed(
    parts: Sequence[Part], machine: Machine
) -> tuple[tuple[Part, ...], tuple[Unsupported, ...]]:
    """Return *parts* with each device's number among its properties, and what is refused of them.

    Refused are numbers that two devices share, and that of a device that is not on PCI.
    """
    wanted = dict(_indexes(machine))
    errors = tuple(_check(parts, wanted))
    lost = {error.element for error in errors}
    kept = {key: index for key, index in wanted.items() if _field(key) not in lost}
    made = (_with_index(part, kept) if isinstance(part, Device) else part for part in parts)
    return tuple(made), errors


def _field(key: str) -> str:
    return f"{key}.acpi-index"


def _check(parts: Sequence[Part], wanted: Mapping[str, int]) -> Iterator[Unsupported]:
    on_pci = {part.key for part in parts if isinstance(part, Device) and part.slot in ON_PCI}
    # Nothing can be said about a device that is refused itself.
    gone = {part.error.element for part in parts if isinstance(part, Refusal)}
    seen: set[int] = set()
    for key, index in wanted.items():
        if key not in on_pci and key not in gone:
            yield mistaken(
                _field(key),
                "it is for devices on PCI",
                "leave the index out: this device has no place on PCI",
            )
        elif index in seen:
            yield mistaken(
                _field(key),
                f"another device already has the index {index}",
                "give it another index, or none",
            )
        seen.add(index)


def _with_index(device: Device, wanted: Mapping[str, int]) -> Device:
    index = wanted.get(device.key)
    if index is None or device.slot not in ON_PCI:
        return device
    return msgspec.structs.replace(device, properties={**device.properties, "acpi-index": index})


def _indexes(machine: Machine) -> Iterator[tuple[str, int]]:
    for field in fields_of(Machine):
        value = getattr(machine, field.name)
        for number, single in numbered(value if field.many else (value,)):
            if isinstance(single, base.Device) and single.acpi_index is not None:
                yield f"{field.key}[{number}]" if field.many else field.key, single.acpi_index
