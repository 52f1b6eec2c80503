# SPDX-License-Identifier: LGPL-2.1-or-later
"""The whole command line, in the order in which QEMU is to see it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from bpferry.commandline.acpi_index import with_indexes
from bpferry.commandline.buses import build as buses
from bpferry.commandline.buses.placement import place_devices
from bpferry.commandline.characters import build as characters
from bpferry.commandline.context import Context, unsupported
from bpferry.commandline.displays import build as displays
from bpferry.commandline.extras import build as extras
from bpferry.commandline.network import build as network
from bpferry.commandline.overrides import with_overrides
from bpferry.commandline.parts import Device, Option, Part, Pause, SocketPair, join, json_of
from bpferry.commandline.storage import build as storage
from bpferry.commandline.system import build as system
from bpferry.commandline.system import iommu

QMP: Final = "qmp"
"""The name of the socket pair of the monitor."""

ALIASES: Final = {"virtio-iommu": "virtio-iommu-pci"}
"""Names that QEMU has for devices beside those that it lists (system/qdev-monitor.c)."""

P = TypeVar("P", bound=Part)


@dataclass(frozen=True, slots=True)
class Built:
    """A command line, and what has to be there before it is started."""

    argv: tuple[str, ...]
    parts: tuple[Part, ...]
    """All of them; those that are no words of the command line are for who starts it."""
    devices: tuple[Device, ...]
    """With their places, in the order of the command line."""

    def of(self, kind: type[P]) -> tuple[P, ...]:
        """Return the parts of one kind, such as ``Listen``."""
        return tuple(part for part in self.parts if isinstance(part, kind))


def build(context: Context) -> Built:
    """Return the command line of the VM of *context*.

    Raises:
        Unsupported: with the key of the model that cannot be done here.
    """
    parts = with_indexes(tuple(_parts(context)), context.machine)
    devices = [part for part in parts if isinstance(part, Device)]
    _check_names(devices)
    placed = place_devices(devices, context)
    for device in placed.all:
        _check_driver(device, context)
    final = with_overrides(placed.all, context.machine)
    argv = (context.capabilities.qemu, *_words(parts, placed.added, final))
    return Built(argv, tuple(parts), tuple(final.values()))


def _parts(context: Context) -> Iterator[Part]:
    yield from system.parts(context)
    yield from _monitor(context)
    yield from iommu.parts(context)
    yield from buses.parts(context)
    yield from storage.parts(context)
    yield from network.parts(context)
    yield from characters.parts(context)
    yield from displays.parts(context)
    yield from extras.parts(context)
    yield from system.own_words(context)


def _monitor(context: Context) -> Iterator[Part]:
    yield SocketPair(QMP)
    yield Option("-chardev", join("socket", id=QMP, fd=context.fd(QMP)))
    yield Option("-mon", join("", chardev=QMP, mode="control"))


def _words(
    parts: Sequence[Part], added: Sequence[Device], final: Mapping[str, Device]
) -> Iterator[str]:
    """Yield the words of all options; what was *added* comes before the first device."""
    if any(isinstance(part, Pause) for part in parts):
        yield "-S"
    waiting = tuple(added)
    for part in parts:
        if isinstance(part, Option):
            yield part.name
            if part.value is not None:
                yield part.value
        elif isinstance(part, Device):
            for device in (*waiting, part):
                yield from ("-device", _device(final[device.id]))
            waiting = ()
    for device in waiting:
        yield from ("-device", _device(final[device.id]))


def _device(device: Device) -> str:
    return json_of({"driver": device.driver, "id": device.id, **device.properties})


def _check_names(devices: Sequence[Device]) -> None:
    seen: dict[str, str] = {}
    for device in devices:
        if seen.setdefault(device.id, device.key) != device.key:
            raise unsupported(
                f"{device.key}.alias",
                f"another device is called '{device.id}' already",
                "give each device a name of its own, or none",
            )


def _check_driver(device: Device, context: Context) -> None:
    known = context.capabilities
    if not known.has_device(ALIASES.get(device.driver, device.driver)):
        raise unsupported(
            device.key,
            f"'{known.qemu}' (QEMU {known.version_text}) has no device '{device.driver}'",
            "choose another model, or a QEMU that has it (it may be in a package of modules)",
        )
