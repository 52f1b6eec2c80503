# SPDX-License-Identifier: LGPL-2.1-or-later
"""Serial and parallel ports, and the consoles that are one of them.

The first console is the first serial port by another name, unless its target is virtio: where
there is no serial port it makes one, and where there is one it adds nothing, whatever it says of
what stands behind it. So it is in libvirt (virDomainDefAddConsoleCompat).
"""

from collections.abc import Iterator
from typing import Final

from bpferry.commandline.characters.chardevs import BackEnds, User
from bpferry.commandline.context import Context
from bpferry.commandline.parts import Device, Option, Part, Remark, Slot
from bpferry.domain.model.base import Address
from bpferry.domain.model.characters import Character, Console, Parallel, Serial
from bpferry.domain.model.machine import Machine
from bpferry.domain.names import Named, chosen, named

ISA_SERIALS: Final = 4
"""COM1 to COM4, whose I/O ports are known (hw/char/serial-isa.c)."""

ISA_PARALLELS: Final = 3
"""LPT1 to LPT3 (hw/char/parallel.c)."""

TARGETS: Final = {
    "isa-serial": "isa",
    "isa-debug": "isa",
    "usb-serial": "usb",
    "pci-serial": "pci",
    "system-serial": None,
}
"""What kind of address a serial port of each target may have."""

MODELS: Final = {
    "isa-serial": "isa-serial",
    "isa-debug": "isa-debugcon",
    "usb-serial": "usb-serial",
    "pci-serial": "pci-serial",
}
"""QEMU's device for each target."""

SLOTS: Final = {"usb-serial": Slot.USB, "pci-serial": Slot.CONVENTIONAL}


def serial_ports(machine: Machine) -> tuple[Named[Serial], ...]:
    """Return the serial ports, also one that only a console names.

    Raises:
        Unsupported: a console that can be none of them.
    """
    for number, console in enumerate(named(machine.consoles, "consoles", "console")):
        if number and console.value.target == "serial":
            raise console.refusal(
                "", "only the first console can be a serial port", "make it virtio"
            )
    first = machine.consoles[0] if machine.consoles else None
    serials = tuple(named(machine.serials, "serials", "serial"))
    if first is None or first.target == "virtio" or serials:
        return serials
    return (Named("consoles[0]", chosen(first) or "serial0", _as_serial(first)),)


def console_remarks(machine: Machine) -> Iterator[Remark]:
    """Yield what the user is told of consoles that say what does not happen."""
    for number, console in enumerate(named(machine.consoles, "consoles", "console")):
        if console.value.target == "virtio":
            continue
        if number:
            text = "it has no effect: only the first console can be a serial port"
            yield Remark(text, "make it virtio", console.key)
        elif machine.serials and not _alike(console.value, machine.serials[0]):
            text = (
                "it has no effect: it is the first serial port by another name, and that one "
                "has something else behind it"
            )
            yield Remark(text, "describe the port once, as a serial port", console.key)


def _as_serial(console: Console) -> Serial:
    """Return the serial port that *console* stands for."""
    fields = {
        name: getattr(console, name)
        for name in console.__struct_fields__
        if name not in ("target", "port")
    }
    return Serial(**fields, port=0)


def _alike(console: Console, serial: Serial) -> bool:
    return console.type == serial.type and (
        console.type == "pty" or not console.sources or _ends(console) == _ends(serial)
    )


def _ends(device: Character) -> list[tuple[object, ...]]:
    return [
        (source.mode, source.path, source.host, source.service, source.channel)
        for source in device.sources
    ]


def serial_parts(context: Context, back_ends: BackEnds) -> Iterator[Part]:
    """Yield the serial ports."""
    ports = serial_ports(context.machine)
    yield from console_remarks(context.machine)
    numbers = _numbers([port.value.port for port in ports])
    for device, number in zip(ports, numbers, strict=True):
        user = User(device, device.value.type)
        yield from back_ends.parts(user)
        yield _serial(context, device, user.chardev, number)


def _numbers(given: list[int | None]) -> list[int]:
    """Return the number of each port: as given, or one more than the highest so far."""
    numbers = list(given)
    for index, number in enumerate(numbers):
        if number is None:
            numbers[index] = max((known for known in numbers if known is not None), default=-1) + 1
    return [number for number in numbers if number is not None]


def _serial(context: Context, device: Named[Serial], chardev: str, number: int) -> Part:
    serial = device.value
    target = _target(context, serial)
    _check_target(context, device, target)
    if target == "system-serial":
        return Option("-serial", f"chardev:{chardev}")
    properties: dict[str, object] = {"chardev": chardev}
    if target == "isa-serial":
        if number >= ISA_SERIALS:
            raise device.refusal("port", f"there are {ISA_SERIALS} ports, 0 to 3")
        properties["index"] = number
    if TARGETS[target] == "isa":
        properties |= _isa(serial.address)
    slot = SLOTS.get(target, Slot.NONE)
    address = serial.address if slot is not Slot.NONE else None
    return Device(MODELS[target], device.id, device.key, properties, slot, address)


def _target(context: Context, serial: Serial) -> str:
    """Return the target, by default the one that the machine type has its own place for."""
    usual = "system-serial" if context.family == "virt" else "isa-serial"
    return usual if serial.target in (None, "isa-serial") else str(serial.target)


def _check_target(context: Context, device: Named[Serial], target: str) -> None:
    serial = device.value
    if target == "system-serial" and context.family != "virt":
        raise device.refusal("target", f"a machine '{context.machine_type}' has none of its own")
    model = MODELS.get(target, "pl011")
    if serial.model is not None and serial.model != model:
        raise device.refusal("model", f"with the target '{target}' it is '{model}'")
    kind = serial.address.type if serial.address else TARGETS[target]
    if kind != TARGETS[target]:
        wanted = TARGETS[target]
        sentence = f"it is of the type '{wanted}'" if wanted else "it has a fixed place"
        raise device.refusal("address.type", sentence)


def _isa(address: Address | None) -> dict[str, object]:
    if address is None:
        return {}
    return {"iobase": address.iobase, "irq": address.irq}


def parallel_parts(context: Context, back_ends: BackEnds) -> Iterator[Part]:
    """Yield the parallel ports."""
    for device in named(context.machine.parallels, "parallels", "parallel"):
        user = User(device, device.value.type, parallel=True)
        yield from back_ends.parts(user)
        place = _parallel(device)
        yield Device("isa-parallel", device.id, device.key, {"chardev": user.chardev, **place})


def _parallel(device: Named[Parallel]) -> dict[str, object]:
    parallel = device.value
    if parallel.port is not None and parallel.port >= ISA_PARALLELS:
        raise device.refusal("port", f"there are {ISA_PARALLELS} ports, 0 to 2")
    if parallel.address is not None and parallel.address.type != "isa":
        raise device.refusal("address.type", "it is of the type 'isa'")
    return {"index": parallel.port, **_isa(parallel.address)}
