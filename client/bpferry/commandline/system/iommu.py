# SPDX-License-Identifier: LGPL-2.1-or-later
"""The unit that translates the addresses of devices."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from bpferry.commandline.applicable import check_address, refuse_others
from bpferry.commandline.attempt import attempt, attempt_section
from bpferry.commandline.context import Context, unsupported
from bpferry.commandline.parts import Device, Found, Part, Slot, on_off
from bpferry.domain.forms import either
from bpferry.domain.names import Named, single
from bpferry.errors import Unsupported

if TYPE_CHECKING:
    from bpferry.domain.model.extras import Iommu

MOST_WITHOUT: Final = 255
"""Processors that an x86 machine can interrupt without extended destination ids."""

INTEL: Final = either(
    'model = "intel", interrupt-remapping = true and extended-interrupts = true in [iommu], and '
    'io-apic = "qemu" in [features]',
    "<iommu model='intel'><driver intremap='on' eim='on'/></iommu>, and <ioapic driver='qemu'/> in "
    "<features>",
)


def parts(context: Context) -> Iterator[Part]:
    """Yield the unit. It comes before all devices whose addresses it translates."""
    yield from attempt_section(_check_processors, context)
    if context.machine.iommu is not None:
        yield from attempt(_iommu, single(context.machine.iommu, "iommu"), context)


def _iommu(device: "Named[Iommu]", context: Context) -> Iterator[Found]:
    if device.value.model == "virtio":
        yield from _check_virtio(context, device)
        where = device.value.address
        yield Device("virtio-iommu", device.id, device.key, {}, slot=Slot.INTEGRATED, address=where)
    else:
        yield from _check_intel(context, device)
        yield Device("intel-iommu", device.id, device.key, _intel(device))


def _check_processors(context: Context) -> Iterator[Unsupported]:
    iommu = context.machine.iommu
    if context.family != "q35" or context.machine.vcpus <= MOST_WITHOUT:
        return
    if iommu is None or iommu.model != "intel" or not iommu.extended_interrupts:
        yield unsupported(
            "vcpus" if iommu is None else "iommu",
            f"more than {MOST_WITHOUT} processors need an IOMMU of model 'intel' with interrupt "
            "remapping and extended interrupts",
            f"write {INTEL}",
        )


def _check_virtio(context: Context, device: "Named[Iommu]") -> Iterator[Unsupported]:
    yield from refuse_others(device, ("model", "address", "alias"), "a virtio IOMMU")
    yield from check_address(device, "pci")
    if not context.has_pci_express:
        yield device.refusal(
            "model",
            "a virtio IOMMU needs a machine with PCI Express",
            "choose the machine type 'q35', or another model",
        )
    if not context.machine.features.acpi:
        yield device.refusal(
            "",
            "the guest learns from ACPI that it has a virtio IOMMU",
            "switch ACPI on, or remove the IOMMU",
        )


def _check_intel(context: Context, device: "Named[Iommu]") -> Iterator[Unsupported]:
    iommu = device.value
    yield from check_address(device)
    if context.family != "q35":
        yield device.refusal(
            "model",
            "Intel's IOMMU is for q35 machines",
            "choose the machine type 'q35', or the model 'virtio'",
        )
    if iommu.interrupt_remapping and context.machine.features.io_apic != "qemu":
        yield device.mistake(
            "interrupt-remapping",
            "interrupts can be remapped where QEMU has the I/O APIC",
            "write " + either('io-apic = "qemu" in [features]', "<ioapic driver='qemu'/>"),
        )
    if iommu.extended_interrupts and not iommu.interrupt_remapping:
        yield device.mistake(
            "extended-interrupts",
            "it needs interrupt remapping",
            "switch interrupt remapping on too, or leave it out",
        )
    known = context.capabilities
    if iommu.dma_translation is not None and not known.has_property(
        "intel-iommu", "dma-translation"
    ):
        yield device.refusal(
            "dma-translation", "this QEMU has no such switch", "leave it out, or use a newer QEMU"
        )


def _intel(device: "Named[Iommu]") -> dict[str, object]:
    iommu = device.value
    return {
        "intremap": on_off(iommu.interrupt_remapping),
        "caching-mode": iommu.caching_mode,
        "eim": on_off(iommu.extended_interrupts),
        "device-iotlb": iommu.device_iotlb,
        "aw-bits": iommu.address_bits,
        "dma-translation": iommu.dma_translation,
    }
