# SPDX-License-Identifier: LGPL-2.1-or-later
"""Features of the machine, and what the hypervisor tells the guest."""

from collections.abc import Iterator
from typing import Final

from bpferry.commandline.context import Context, unsupported
from bpferry.commandline.extras import panics
from bpferry.commandline.parts import Device, Option, Part, Remark
from bpferry.commandline.system import clock
from bpferry.domain.model.accelerator import Accelerator
from bpferry.domain.model.features import Hyperv, Kvm

MIB: Final = 2**20

HYPERV: Final = (
    "relaxed", "vapic", "vpindex", "runtime", "synic", "reset", "frequencies",
    "reenlightenment", "ipi", "evmcs", "avic", "emsr_bitmap", "xmm_input",
)  # fmt: skip
"""What is simply on or off; the names are QEMU's (docs/system/i386/hyperv.rst)."""


def machine_properties(context: Context) -> dict[str, object]:
    """Return the properties of the machine that come from its features."""
    features = context.machine.features
    found: dict[str, object] = {
        "acpi": _acpi(context),
        "vmport": features.vmport,
        "smm": features.smm,
        "i8042": features.ps2,
        "gic_version": features.gic,
    }
    for name, value in found.items():
        if value is not None and not _has(context, name.replace("_", "-")):
            key = {"i8042": "ps2", "gic_version": "gic"}.get(name, name)
            raise unsupported(f"features.{key}", f"'{context.machine_type}' has no such switch")
    if features.io_apic is not None:
        if not context.is_x86:
            raise unsupported("features.io-apic", f"'{context.machine_type}' has no I/O APIC")
        found["kernel_irqchip"] = "split" if features.io_apic == "qemu" else True
    return found


def _has(context: Context, name: str) -> bool:
    return context.capabilities.has_machine_property(context.machine_type, name)


def _acpi(context: Context) -> bool | None:
    """Return the switch for ACPI; None where the machine has none, and no ACPI either."""
    if _has(context, "acpi"):
        return context.machine.features.acpi
    return None


def parts(context: Context) -> Iterator[Part]:
    """Yield the features that are options and devices of their own."""
    features = context.machine.features
    if features.tseg is not None:
        if context.family != "q35" or not features.smm:
            raise unsupported("features.tseg", "it goes with SMM on a q35 machine")
        if features.tseg % MIB:
            raise unsupported("features.tseg", "it has to be whole MiB")
        yield Option("-global", f"mch.extended-tseg-mbytes={features.tseg // MIB}")
    if features.vmcoreinfo:
        yield Device("vmcoreinfo", "vmcoreinfo0", "features.vmcoreinfo")
    yield from _power(context)


def _power(context: Context) -> Iterator[Option]:
    machine = context.machine
    driver = {"q35": "ICH9-LPC", "pc": "PIIX4_PM"}.get(context.family)
    for key, name, wanted in (
        ("suspend-to-memory", "disable_s3", machine.suspend_to_memory),
        ("suspend-to-disk", "disable_s4", machine.suspend_to_disk),
    ):
        if wanted is not None and driver is None:
            raise unsupported(key, f"'{context.machine_type}' has no such switch")
        if wanted is not None:
            yield Option("-global", f"{driver}.{name}={0 if wanted else 1}")


def accelerator_words(context: Context) -> Iterator[str]:
    """Yield what the accelerator is told."""
    features = context.machine.features
    is_kvm = context.accelerator is Accelerator.KVM
    kvm = features.kvm
    if kvm and kvm.dirty_ring:
        if kvm.dirty_ring_size is None:
            raise unsupported("features.kvm.dirty-ring", "it needs a size")
        if is_kvm:
            yield f"dirty-ring-size={kvm.dirty_ring_size}"
    if features.tcg_cache is not None:
        if features.tcg_cache % MIB:
            raise unsupported("features.tcg-cache", "it has to be whole MiB")
        if is_kvm:
            raise unsupported("features.tcg-cache", "KVM translates no code")
        yield f"tb-size={features.tcg_cache // MIB}"


def paravirtual_features(context: Context) -> Iterator[str]:
    """Yield the properties of ``-cpu`` that say what the hypervisor offers to the guest."""
    features = context.machine.features
    yield from clock.cpu_words(context)
    for name, key, value in (
        ("kvm-pv-eoi", "end-of-interrupt", features.end_of_interrupt),
        ("kvm-pv-unhalt", "spinlocks", features.spinlocks),
    ):
        if value is not None:
            _only_x86(context, key)
            yield _switch(name, value)
    if features.hyperv is not None:
        yield from _checked_hyperv(context, features.hyperv)
    yield from panics.cpu_words(context)
    if features.kvm is not None:
        yield from _kvm(features.kvm)
    if features.pmu is not None:
        yield _switch("pmu", features.pmu)


def remarks(context: Context) -> Iterator[Remark]:
    """Yield what the user is told about features that only KVM has.

    TCG takes the properties of the processor and does nothing with them (QEMU 10.0).
    """
    features = context.machine.features
    offers = {
        "features.end-of-interrupt": features.end_of_interrupt,
        "features.spinlocks": features.spinlocks,
        "features.kvm.dirty-ring": features.kvm and features.kvm.dirty_ring,
        "features.hyperv": features.hyperv and any(_hyperv(features.hyperv)),
    }
    for key, value in offers.items():
        if value and context.accelerator is not Accelerator.KVM:
            text = "this VM runs with TCG, which has none of what KVM offers to guests"
            yield Remark(text, "use KVM, or take it out", key)


def _only_x86(context: Context, key: str) -> None:
    if not context.is_x86:
        raise unsupported(f"features.{key}", "it is for x86 only")


def _checked_hyperv(context: Context, hyperv: Hyperv) -> Iterator[str]:
    words = list(_hyperv(hyperv))
    if words:
        _only_x86(context, "hyperv")
    yield from words


def _hyperv(hyperv: Hyperv) -> Iterator[str]:
    if hyperv.mode == "passthrough":
        yield "hv-passthrough=on"
    for name in HYPERV:
        if getattr(hyperv, name):
            yield f"hv-{name.replace('_', '-')}=on"
    if hyperv.spinlocks:
        if hyperv.spinlock_retries is None:
            raise unsupported("features.hyperv.spinlocks", "it needs a number of retries")
        yield f"hv-spinlocks={hyperv.spinlock_retries:#x}"
    if hyperv.vendor:
        if hyperv.vendor_id is None:
            raise unsupported("features.hyperv.vendor", "it needs a value")
        yield f"hv-vendor-id={hyperv.vendor_id}"
    yield from (f"{name}=on" for name, wanted in _hyperv_details(hyperv) if wanted)


def _hyperv_details(hyperv: Hyperv) -> Iterator[tuple[str, bool | None]]:
    if hyperv.stimer is not None:
        yield "hv-stimer", hyperv.stimer.state
        yield "hv-stimer-direct", hyperv.stimer.direct
    if hyperv.tlbflush is not None:
        yield "hv-tlbflush", hyperv.tlbflush.state
        yield "hv-tlbflush-direct", hyperv.tlbflush.direct
        yield "hv-tlbflush-ext", hyperv.tlbflush.extended


def _kvm(kvm: Kvm) -> Iterator[str]:
    if kvm.hidden:
        yield "kvm=off"
    if kvm.hint_dedicated:
        yield "kvm-hint-dedicated=on"
    if kvm.poll_control is not None:
        yield _switch("kvm-poll-control", kvm.poll_control)
    if kvm.pv_ipi is not None:
        yield _switch("kvm-pv-ipi", kvm.pv_ipi)


def _switch(name: str, value: bool) -> str:  # noqa: FBT001 - it is about a truth value
    return f"{name}={'on' if value else 'off'}"
