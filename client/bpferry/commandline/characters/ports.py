# SPDX-License-Identifier: LGPL-2.1-or-later
"""Serial and parallel ports, and the consoles that are one of them.

The first console is the first serial port by another name, unless its target is virtio: if there
is no serial port it makes one, and if there is one it adds nothing, whatever source it names. This
is libvirt's rule (virDomainDefAddConsoleCompat).
"""

from collections.abc import Iterator
from functools import partial
from typing import Final

from bpferry.commandline.applicable import check_address
from bpferry.commandline.attempt import attempt
from bpferry.commandline.characters.chardevs import BackEnds, User
from bpferry.commandline.context import Context
from bpferry.commandline.parts import Device, Found, Option, Part, Remark, Slot
from bpferry.domain.model.base import Address
from bpferry.domain.model.characters import Character, Console, Parallel, Serial
from bpferry.domain.model.machine import Machine
from bpferry.domain.names import Named, before, chosen, named
from bpferry.errors import Unsupported

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
    """Return the serial ports, also one that only a console names."""
    serials = tuple(named(machine.serials, "serials", "serial"))
    first = next(named(machine.consoles, "consoles", "console"), None)
    if serials or first is None or first.value.target == "virtio":
        return serials
    return (Named(first.key, chosen(first.value) or "serial0", _as_serial(first.value)),)


def _console(device: Named[Console], context: Context) -> Iterator[Found]:
    """Yield what the user is told of a console whose source is not used."""
    machine = context.machine
    if device.value.target == "virtio":
        return
    if any(before(device, machine.consoles)):
        sentence, hint = "only the first console can be a serial port", "make it virtio"
        if device.value.target == "serial":
            yield device.refusal("", sentence, hint)
        yield Remark(f"it has no effect: {sentence}", hint, device.key)
    elif machine.serials and not _alike(device.value, machine.serials[0]):
        text = (
            "it has no effect: it is the first serial port under another name, which is "
            "connected to something else"
        )
        yield Remark(text, "describe the port once, as a serial port", device.key)


def _as_serial(console: Console) -> Serial:
    """Return the serial port that *console* adds."""
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
    for console in named(context.machine.consoles, "consoles", "console"):
        yield from attempt(_console, console, context)
    ports = serial_ports(context.machine)
    numbers = _numbers([port.value.port for port in ports])
    for device, number in zip(ports, numbers, strict=True):
        yield from attempt(partial(_serial, back_ends, number), device, context)


def _numbers(given: list[int | None]) -> list[int]:
    """Return the number of each port: as given, or one more than the highest so far."""
    numbers = list(given)
    for index, number in enumerate(numbers):
        if number is None:
            numbers[index] = max((known for known in numbers if known is not None), default=-1) + 1
    return [number for number in numbers if number is not None]


def _serial(
    back_ends: BackEnds, number: int, device: Named[Serial], context: Context
) -> Iterator[Found]:
    serial = device.value
    user = User(device, serial.type)
    yield from back_ends.parts(user)
    target = _target(context, serial)
    yield from _check_target(context, device, target)
    if target == "system-serial":
        yield Option("-serial", f"chardev:{user.chardev}")
        return
    properties: dict[str, object] = {"chardev": user.chardev}
    if target == "isa-serial":
        if serial.port is not None and number >= ISA_SERIALS:
            yield device.refusal(
                "port",
                f"there are {ISA_SERIALS} ports, 0 to 3",
                "write a port from 0 to 3, or leave it out",
            )
        elif number >= ISA_SERIALS:
            yield device.refusal(
                "",
                f"there are {ISA_SERIALS} serial ports of ISA",
                "remove this port, or choose another target, such as 'pci-serial' or 'usb-serial'",
            )
        properties["index"] = number
    if TARGETS[target] == "isa":
        properties |= _isa(serial.address)
    slot = SLOTS.get(target, Slot.NONE)
    address = serial.address if slot is not Slot.NONE else None
    yield Device(MODELS[target], device.id, device.key, properties, slot=slot, address=address)


def _target(context: Context, serial: Serial) -> str:
    """Return the target, by default the kind of port that the machine type has."""
    usual = "system-serial" if context.family == "virt" else "isa-serial"
    return usual if serial.target in (None, "isa-serial") else str(serial.target)


def _check_target(context: Context, device: Named[Serial], target: str) -> Iterator[Unsupported]:
    serial = device.value
    if target == "system-serial" and context.family != "virt":
        yield device.refusal(
            "target",
            f"a machine '{context.machine_type}' has none of its own",
            "leave the target out, or choose another one, such as 'pci-serial'",
        )
    model = MODELS.get(target, "pl011")
    if serial.model is not None and serial.model != model:
        yield device.mistake(
            "model",
            f"with the target '{target}' it is '{model}'",
            f"write '{model}', or leave the model out",
        )
    kind = serial.address.type if serial.address else TARGETS[target]
    if kind != TARGETS[target]:
        wanted = TARGETS[target]
        sentence = f"it has to be of type '{wanted}'" if wanted else "its address is fixed"
        yield device.refusal("address", sentence, "leave the address out")


def _isa(address: Address | None) -> dict[str, object]:
    if address is None:
        return {}
    return {"iobase": address.iobase, "irq": address.irq}


def parallel_parts(context: Context, back_ends: BackEnds) -> Iterator[Part]:
    """Yield the parallel ports."""
    for device in named(context.machine.parallels, "parallels", "parallel"):
        yield from attempt(partial(_parallel, back_ends), device, context)


def _parallel(back_ends: BackEnds, device: Named[Parallel], _context: Context) -> Iterator[Found]:
    parallel = device.value
    user = User(device, parallel.type, parallel=True)
    yield from back_ends.parts(user)
    if parallel.port is not None and parallel.port >= ISA_PARALLELS:
        yield device.refusal(
            "port",
            f"there are {ISA_PARALLELS} ports, 0 to 2",
            "write a port from 0 to 2, or leave it out",
        )
    yield from check_address(device, "isa")
    place = {"index": parallel.port, **_isa(parallel.address)}
    yield Device("isa-parallel", device.id, device.key, {"chardev": user.chardev, **place})
