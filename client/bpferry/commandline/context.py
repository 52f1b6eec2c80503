# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every part of a command line may know."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from msgspec import Struct, field

from bpferry.domain.identity import Owner
from bpferry.domain.model.accelerator import Accelerator
from bpferry.domain.model.base import VirtioDevice
from bpferry.domain.model.machine import Machine
from bpferry.errors import Mistaken, Unsupported
from bpferry.qemu.capabilities import Capabilities
from bpferry.qemu.defaults import GPU_PROGRAM
from bpferry.steering.plan import CardPlan

if TYPE_CHECKING:
    from bpferry.domain.model.host_devices import Which
    from bpferry.qemu.firmware import Descriptor

EPOCH: Final = datetime.fromtimestamp(0, UTC)


class Folders(Struct, frozen=True):
    """Where this VM's own files are, which no document names. They need not exist."""

    runtime: str
    """Sockets; gone with the VM."""
    state: str
    """What outlives a run, such as the firmware's variables."""


class TlsFolder(Struct, frozen=True):
    """Where the user's key and certificates for one protocol are, and whether they are there."""

    folder: str
    are_there: bool = False


NO_TLS: Final = TlsFolder("")


class HostNode(Struct, frozen=True):
    """What is known of a device of the host that the guest should get."""

    path: str = ""
    """The file by which it is used; empty if there is none."""
    by_iommufd: bool = False
    """Whether that file is one for iommufd."""
    problem: str = ""
    """Why the guest cannot get it now; empty if it can."""
    hint: str = ""
    is_absent: bool = False
    """Whether the problem is that it does not exist."""
    field: str = ""
    """What in the description the problem is about, if it is not the device as a whole."""


class Context(Struct, frozen=True):
    """What every part of a command line may know."""

    machine: Machine
    """With its implicit controllers (``implicit``)."""
    capabilities: Capabilities
    accelerator: Accelerator
    plans: Mapping[str, CardPlan]
    """By the id of the card."""
    owner: Owner
    """What the addresses that the document does not give are made from."""
    folders: Folders
    fd: Callable[[str], str]
    """The text for an fd, or for another number that is known only when it is open, by its name."""
    machine_type: str
    """As QEMU calls it, such as ``pc-q35-10.0``, or as the document does, such as ``q35``."""
    firmware: "tuple[Descriptor, ...]" = ()
    """What this host has descriptors for, in order."""
    now: datetime = EPOCH
    """The host's time, in its own time zone; a clock with an offset is set relative to it."""
    has_vsock: bool = True
    """Whether this host's kernel has vhost-vsock, and so can give a CID."""
    host_nodes: "Mapping[Which, HostNode]" = field(default_factory=dict)
    """By what the document says of the device."""
    spice_certificates: TlsFolder = NO_TLS
    vnc_certificates: TlsFolder = NO_TLS
    in_xml: bool = False
    """Whether the document is libvirt's: what is left out means something else there."""
    gpu_program: str = GPU_PROGRAM
    """The program that implements graphics cards outside QEMU: a path, or a name to look for."""

    @property
    def family(self) -> str:
        """The machine type without its version: pc, q35, virt, microvm, isapc."""
        name = self.machine_type
        for prefix, family in (("pc-q35", "q35"), ("pc-i440fx", "pc"), ("virt-", "virt")):
            if name.startswith(prefix):
                return family
        return name

    @property
    def is_x86(self) -> bool:
        """Whether the machine is a PC of some kind."""
        return self.family in ("pc", "q35", "microvm", "isapc")

    @property
    def has_pci_express(self) -> bool:
        """Whether the root bus is PCI Express."""
        return self.family in ("q35", "virt")

    @property
    def has_pci(self) -> bool:
        """Whether there is any PCI bus."""
        return self.family in ("pc", "q35", "virt")

    def virtio(self, name: str, model: str | None = None) -> str:
        """Return the driver of the virtio device *name*, such as virtio-blk, on this machine."""
        if not self.has_pci:
            return f"{name}-device"
        variant = (model or "").removeprefix("virtio")
        return f"{name}-pci{variant if variant.endswith('transitional') else ''}"


def virtio_properties(device: VirtioDevice) -> dict[str, object]:
    """Return the properties that every virtio device takes."""
    return {
        "iommu_platform": device.iommu,
        "ats": device.ats,
        "packed": device.packed,
        "page-per-vq": device.page_per_vq,
    }


def unsupported(key: str, sentence: str, hint: str) -> Unsupported:
    """Return the error that refuses what is at *key* of the model, which another QEMU may do."""
    return Unsupported(sentence, hint, key)


def mistaken(key: str, sentence: str, hint: str) -> Mistaken:
    """Return the error that what is at *key* of the model cannot be like this in any VM."""
    return Mistaken(sentence, hint, key)
