# SPDX-License-Identifier: LGPL-2.1-or-later
"""The whole command line, in the order in which QEMU has to see it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from bpferry.commandline import families, unused
from bpferry.commandline.acpi_index import indexed
from bpferry.commandline.attempt import attempt_section
from bpferry.commandline.buses import build as buses
from bpferry.commandline.buses.placement import place_devices
from bpferry.commandline.context import Context, mistaken, unsupported
from bpferry.commandline.extras import build as extras
from bpferry.commandline.overrides import with_overrides
from bpferry.commandline.parts import (
    Device,
    Endpoint,
    Listen,
    Option,
    Part,
    Refusal,
    SocketPair,
    join,
    json_of,
)
from bpferry.commandline.system import build as system
from bpferry.commandline.system import iommu
from bpferry.errors import Unsupported

QMP: Final = "qmp"
"""The name of the socket pair of the monitor."""

TOOLS: Final = "qmp-tools"
"""The name of the socket on which the user's other tools reach a second monitor."""

ALIASES: Final = {"virtio-iommu": "virtio-iommu-pci"}
"""Names that QEMU has for devices besides those that it lists (system/qdev-monitor.c)."""

P = TypeVar("P", bound=Part)


class Built(Struct, frozen=True):
    """A command line, and what has to be there before it is started."""

    argv: tuple[str, ...]
    parts: tuple[Part, ...]
    """All of them; those that are not words of the command line are for the code that starts it."""
    devices: tuple[Device, ...]
    """With their places, in the order of the command line."""
    refusals: tuple[Refusal, ...] = ()
    """What cannot be done; the command line lacks it."""

    def of(self, kind: type[P]) -> tuple[P, ...]:
        """Return the parts of one kind, such as ``Listen``."""
        return tuple(part for part in self.parts if isinstance(part, kind))


def build(context: Context) -> Built:
    """Return the command line of the VM of *context*, and what cannot be done of it."""
    made = [part for family in FAMILIES for part in attempt_section(family, context)]
    parts, errors = indexed(made, context.machine)
    devices = [part for part in parts if isinstance(part, Device)]
    parts = (*parts, *unused.remarks(context, devices))
    faults = [*_same_names(devices), *_unassigned(devices), *_unknown_drivers(devices, context)]
    lost = [fault.device for fault in faults]
    placed = place_devices([one for one in devices if one not in lost], context)
    added = _unknown_drivers(placed.bridges, context)
    refusals = (
        *(part for part in parts if isinstance(part, Refusal)),
        *(Refusal(fault.error) for fault in (*faults, *added)),
        *(Refusal(error) for error in (*errors, *placed.refusals)),
    )
    final, vain = with_overrides(placed.all, context)
    # A device that is not there may be one that is refused.
    vain = [msgspec.structs.replace(one, follows=one.follows or bool(refusals)) for one in vain]
    bridges = [final[bridge.id] for bridge in placed.bridges]
    argv = (context.capabilities.qemu, *_words(parts, bridges, final))
    return Built(argv, tuple(parts), tuple(final.values()), (*refusals, *vain))


def _monitor(context: Context) -> Iterator[Part]:
    yield SocketPair(QMP)
    yield Option("-chardev", join("socket", id=QMP, fd=context.fd(QMP)))
    yield Option("-mon", join("", chardev=QMP, mode="control"))
    path = f"{context.folders.runtime}/qmp.sock"
    yield Listen(TOOLS, path)
    yield Endpoint("qmp", "unix", "", path=path, chardev=TOOLS)
    listening = join("socket", id=TOOLS, fd=context.fd(TOOLS), server=True, wait=False)
    yield Option("-chardev", listening)
    yield Option("-mon", join("", chardev=TOOLS, mode="control"))


FAMILIES: Final[tuple[Callable[[Context], Iterator[Part]], ...]] = (
    system.parts,
    _monitor,
    iommu.parts,
    buses.parts,
    families.storage,
    families.network,
    families.characters,
    families.displays,
    families.host_devices,
    extras.parts,
    system.own_words,
)
"""What makes the parts, in the order in which QEMU has to see them."""


def _words(
    parts: Sequence[Part], bridges: Sequence[Device], final: Mapping[str, Device]
) -> Iterator[str]:
    """Yield the words of all options.

    Bridges come before all other devices, except the IOMMU.
    """
    waiting = tuple(bridges)
    others = {name: device for name, device in final.items() if device not in waiting}
    for part in parts:
        if isinstance(part, Option):
            yield part.name
            if part.value is not None:
                yield part.value
        elif isinstance(part, Device) and part.id in others:
            if part.family != "iommu":
                yield from _device_words(waiting)
                waiting = ()
            yield from _device_words([others[part.id]])
    yield from _device_words(waiting)


def _device_words(devices: Sequence[Device]) -> Iterator[str]:
    for device in devices:
        yield "-device"
        yield json_of({"driver": device.driver, "id": device.id, **device.properties})


class _Fault(Struct, frozen=True):
    """A device that cannot be put on the command line."""

    device: Device
    error: Unsupported


def _same_names(devices: Sequence[Device]) -> Iterator[_Fault]:
    seen: dict[str, str] = {}
    for device in devices:
        if seen.setdefault(device.id, device.key) != device.key:
            sentence = f"another device is called '{device.id}' already"
            hint = "give each device a name of its own, or none"
            yield _Fault(device, mistaken(f"{device.key}.alias", sentence, hint))


def _unassigned(devices: Sequence[Device]) -> Iterator[_Fault]:
    """Refuse to keep something from the guest that is not a device of the host."""
    for device in devices:
        if device.address is not None and device.address.type == "unassigned":
            sentence = "it says that the guest does not get the device"
            hint = "leave out the device, or its address"
            yield _Fault(device, mistaken(f"{device.key}.address", sentence, hint))


def _unknown_drivers(devices: Sequence[Device], context: Context) -> Iterator[_Fault]:
    known = context.capabilities
    for device in devices:
        if not known.has_device(ALIASES.get(device.driver, device.driver)):
            sentence = f"'{known.qemu}' (QEMU {known.version_text}) has no device '{device.driver}'"
            hint = "choose another model, or a QEMU that has it (it may be in a package of modules)"
            yield _Fault(device, unsupported(device.key, sentence, hint))
