# SPDX-License-Identifier: LGPL-2.1-or-later
"""What one QEMU can do, as a frozen value. ``probe`` finds it out; this module uses no other.

An empty table means that this QEMU has nothing of the kind, except for the two that say otherwise.
Whether what is here works on this host is another question (``accelerator`` asks it about KVM).

Parts of QEMU may be loadable modules, which packages install one by one. Devices, objects, back
ends of chardevs and accelerators are listed only if their module is installed. Netdevs, blockdevs,
audiodevs and displays are what QEMU was built for; a module may be missing.

There is nothing about JSON for ``-chardev``: no QEMU up to 11.1 takes it.
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

CARD: Final = "virtio-net-pci"

VERSION_SUFFIX: Final = r"-\d+\.\d+(\.\d+)?$"
"""The end of the name of a versioned machine type: pc-q35-10.0, virt-7.2, pc-i440fx-2.11.1."""


SAME_CLASS: Final = {"isapc": "pc-i440fx"}
"""Families that are not asked about, and the family of the same class (hw/i386/pc.c) that is."""


class EbpfObject(msgspec.Struct, frozen=True):
    """One ELF file that a QEMU contains."""

    data: bytes
    digest: bytes
    """SHA-256 of the data."""


class MachineType(msgspec.Struct, frozen=True, rename="kebab"):
    """One type of machine, in the words of ``query-machines``."""

    name: str
    alias: str = ""
    """A shorter name that means this one, such as ``q35``; empty if there is none."""
    is_default: bool = False
    deprecated: bool = False
    cpu_max: int = 1
    """The most virtual processors."""
    default_cpu_type: str = ""
    """The QOM type, such as ``qemu64-x86_64-cpu``; empty if QEMU does not say."""
    default_ram_id: str = ""
    """The id that the machine's memory must have; empty if it takes no back end."""


class CpuModel(msgspec.Struct, frozen=True, rename="kebab"):
    """One model of a processor, in the words of ``query-cpu-definitions``.

    This does not say whether this host can provide it: the answer would be different for another
    machine type or accelerator than those of the probe.
    """

    name: str
    typename: str = ""
    """The QOM type, such as ``EPYC-x86_64-cpu``."""
    alias_of: str = ""
    deprecated: bool = False


class Capabilities(msgspec.Struct, frozen=True):
    """What one QEMU can do, as far as a launcher can use it."""

    qemu: str
    version: tuple[int, int, int]
    package: str = ""
    """The distribution's name of its build; may be empty."""
    arch: str = "x86_64"
    """The guest's architecture, by QEMU's name."""
    objects: dict[str, EbpfObject] = {}
    """By the id of ``request-ebpf``; unknown ids are kept like the others."""
    devices: dict[str, dict[str, str]] = {}
    """Driver to property to type, for everything that ``-device`` can make except processors.

    Properties that begin with ``x-`` are left out: QEMU considers them unstable.
    """
    object_types: dict[str, frozenset[str]] = {}
    """Types of ``-object``, to their parameters."""
    machines: dict[str, MachineType] = {}
    """By their whole names, without aliases."""
    machine_properties: dict[str, dict[str, str]] = {}
    """Family of machine types (``family_of``) to property to type, from its newest member.

    It has only families of machines with many devices, and not microvm, since asking about that one
    can abort QEMU.
    """
    cpu_models: dict[str, CpuModel] = {}
    cpu_properties: dict[str, str] = {}
    """What ``-cpu`` takes besides the model, to its type; empty if there is no model ``max``."""
    accelerators: frozenset[str] = frozenset()
    """Those that are built in or installed, such as ``kvm`` and ``tcg``."""
    options: dict[str, frozenset[str]] = {}
    """Option of the command line, to its parameters as far as QEMU lists them."""
    commands: dict[str, frozenset[str]] = {}
    """Command of QMP, to its features."""
    netdevs: dict[str, frozenset[str]] = {}
    """Type of ``-netdev``, to its parameters."""
    blockdevs: dict[str, frozenset[str]] = {}
    """Driver of ``-blockdev``, to its parameters."""
    chardevs: dict[str, frozenset[str]] = {}
    """Back end of ``-chardev`` as QMP calls it, to its parameters."""
    audiodevs: dict[str, frozenset[str]] = {}
    """Driver of ``-audiodev``, to its parameters; empty if QEMU does not say (before 8.0)."""
    displays: dict[str, frozenset[str]] = {}
    """Type of ``-display``, to its parameters."""
    tpm_types: frozenset[str] = frozenset()
    """Types of ``-tpmdev``."""

    @property
    def version_text(self) -> str:
        """The version as people write it."""
        return ".".join(str(number) for number in self.version)

    @property
    def card_properties(self) -> Mapping[str, str]:
        """The properties of a PCI network card; none on a QEMU of machines without PCI."""
        return self.devices.get(CARD, {})

    @property
    def has_rss(self) -> bool:
        """Whether its cards can offer RSS to the guest."""
        return "rss" in self.card_properties

    @property
    def takes_ebpf_fds(self) -> bool:
        """Whether its cards take programs and maps that another process loaded."""
        return "ebpf-rss-fds" in self.card_properties

    @property
    def sandbox(self) -> bool:
        """Whether it takes ``-sandbox``."""
        return "sandbox" in self.options

    @property
    def exit_with_parent(self) -> bool:
        """Whether it takes ``-run-with exit-with-parent=on``."""
        return "exit-with-parent" in self.options.get("run-with", ())

    @property
    def netdev_json(self) -> bool:
        """Whether ``-netdev`` takes JSON.

        QEMU 7.2 added it together with the type dgram; nothing else tells.
        """
        return "dgram" in self.netdevs

    @property
    def device_json(self) -> bool:
        """Whether ``-device`` takes JSON, and such a device can be unplugged later (QEMU 6.2)."""
        return "json-cli-hotplug" in self.commands.get("device_add", ())

    @property
    def default_machine(self) -> str:
        """The machine type that QEMU takes if none is named; empty if it has to be named."""
        return next((name for name, found in self.machines.items() if found.is_default), "")

    def has_device(self, driver: str) -> bool:
        """Say whether ``-device`` can make *driver*."""
        return driver in self.devices

    def has_property(self, driver: str, name: str) -> bool:
        """Say whether the device or the object *driver* has the property *name*."""
        return name in self.devices.get(driver, ()) or name in self.object_types.get(driver, ())

    def machine_name(self, name: str) -> str:
        """Return the full name of the machine type or alias *name*; empty if there is none."""
        if name in self.machines:
            return name
        return next((whole for whole, found in self.machines.items() if found.alias == name), "")

    def find_machine(self, name: str) -> MachineType | None:
        """Return the machine type or alias *name*."""
        return self.machines.get(self.machine_name(name))

    def has_machine_property(self, machine: str, name: str) -> bool:
        """Say whether the machine type or alias *machine* has the property *name*.

        This is a heuristic for older members of a family: they are assumed to have what the newest
        one has. It says no for families that were not asked about, such as microvm.
        """
        family = family_of(self.machine_name(machine))
        return name in self.machine_properties.get(SAME_CLASS.get(family, family), ())


def family_of(machine: str) -> str:
    """Return the name of the machine type *machine* without its version, such as ``pc-q35``."""
    return re.sub(VERSION_SUFFIX, "", machine)
