# SPDX-License-Identifier: LGPL-2.1-or-later
"""Numbers by which a guest may name its PCI devices (ACPI's _DSM, function 7), as eno7 for a card.

Any device may be given one, so that one place sees to all.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from bpferry.commandline.context import unsupported
from bpferry.commandline.parts import Device, Part, Slot
from bpferry.domain.model import base
from bpferry.domain.model.machine import Machine
from bpferry.domain.shape import fields_of

ON_PCI = (Slot.EXPRESS, Slot.CONVENTIONAL)


def with_indexes(parts: Sequence[Part], machine: Machine) -> list[Part]:
    """Return *parts* with each device's number among its properties.

    Raises:
        Unsupported: two devices have the same number, or one is not on PCI.
    """
    wanted = dict(_indexes(machine))
    on_pci = {part.key for part in parts if isinstance(part, Device) and part.slot in ON_PCI}
    seen: dict[int, str] = {}
    for key, index in wanted.items():
        if key not in on_pci:
            raise unsupported(f"{key}.acpi-index", "it is for devices on PCI")
        other = seen.setdefault(index, key)
        if other != key:
            raise unsupported(f"{key}.acpi-index", f"another device has the number {index} already")
    return [_with_index(part, wanted) if isinstance(part, Device) else part for part in parts]


def _with_index(device: Device, wanted: Mapping[str, int]) -> Device:
    index = wanted.get(device.key)
    if index is None or device.slot not in ON_PCI:
        return device
    return replace(device, properties={**device.properties, "acpi-index": index})


def _indexes(machine: Machine) -> Iterator[tuple[str, int]]:
    for field in fields_of(Machine):
        value = getattr(machine, field.name)
        for number, single in enumerate(value if field.many else (value,)):
            if isinstance(single, base.Device) and single.acpi_index is not None:
                yield f"{field.key}[{number}]" if field.many else field.key, single.acpi_index
