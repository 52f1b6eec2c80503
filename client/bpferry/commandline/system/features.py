# SPDX-License-Identifier: LGPL-2.1-or-later
"""Features of the machine, and what the hypervisor tells the guest."""

from collections.abc import Iterator
from typing import Final

from bpferry.commandline.attempt import split
from bpferry.commandline.context import Context, mistaken, unsupported
from bpferry.commandline.extras import panics
from bpferry.commandline.parts import Device, Found, Option, Remark
from bpferry.commandline.system import clock
from bpferry.domain.model.accelerator import Accelerator
from bpferry.domain.model.features import Hyperv, Kvm
from bpferry.errors import Unsupported

MIB: Final = 2**20

HYPERV: Final = (
    "relaxed", "vapic", "vpindex", "runtime", "synic", "reset", "frequencies",
    "reenlightenment", "ipi", "evmcs", "avic", "emsr_bitmap", "xmm_input",
)  # fmt: skip
"""Features that are just on or off; the names are QEMU's (docs/system/i386/hyperv.rst)."""


SWITCHES: Final = {"vmport": "vmport", "smm": "smm", "i8042": "ps2", "gic-version": "gic"}
"""Properties of machines, and the features that are about them."""


def machine_properties(context: Context) -> dict[str, object]:
    """Return the properties of the machine that come from its features."""
    features = context.machine.features
    found: dict[str, object] = {"acpi": _acpi(context)}
    found |= {name.replace("-", "_"): getattr(features, key) for name, key in SWITCHES.items()}
    if features.io_apic is not None:
        found["kernel_irqchip"] = "split" if features.io_apic == "qemu" else True
    return found


def check_switches(context: Context) -> Iterator[Unsupported]:
    """Yield a refusal of each feature that this machine has no switch for."""
    features = context.machine.features
    for name, key in SWITCHES.items():
        if getattr(features, key) is not None and not _has(context, name):
            yield unsupported(
                f"features.{key}", f"'{context.machine_type}' has no such switch", "leave it out"
            )
    if features.io_apic is not None and not context.is_x86:
        yield unsupported(
            "features.io-apic", f"'{context.machine_type}' has no I/O APIC", "leave it out"
        )


def _has(context: Context, name: str) -> bool:
    return context.capabilities.has_machine_property(context.machine_type, name)


def _acpi(context: Context) -> bool | None:
    """Return the switch for ACPI; None if the machine has neither a switch nor ACPI."""
    if _has(context, "acpi"):
        return context.machine.features.acpi
    return None


def parts(context: Context) -> Iterator[Found]:
    """Yield the features that are options and devices of their own."""
    features = context.machine.features
    if features.tseg is not None:
        if context.family != "q35" or not features.smm:
            yield unsupported(
                "features.tseg",
                "it needs SMM on a q35 machine",
                "leave it out, or use a machine type 'q35' with SMM on",
            )
        elif features.tseg % MIB:
            yield unsupported(
                "features.tseg", "it has to be a whole number of MiB", "write a whole number of MiB"
            )
        yield Option("-global", f"mch.extended-tseg-mbytes={features.tseg // MIB}")
    if features.vmcoreinfo:
        yield Device("vmcoreinfo", "vmcoreinfo0", "features.vmcoreinfo")
    yield from _power(context)


def _power(context: Context) -> Iterator[Found]:
    machine = context.machine
    driver = {"q35": "ICH9-LPC", "pc": "PIIX4_PM"}.get(context.family)
    for key, name, wanted in (
        ("suspend-to-memory", "disable_s3", machine.suspend_to_memory),
        ("suspend-to-disk", "disable_s4", machine.suspend_to_disk),
    ):
        if wanted is not None and driver is None:
            yield unsupported(key, f"'{context.machine_type}' has no such switch", "leave it out")
        if wanted is not None:
            yield Option("-global", f"{driver}.{name}={0 if wanted else 1}")


def accelerator_words(context: Context) -> Iterator[str | Unsupported]:
    """Yield the options of the accelerator."""
    features = context.machine.features
    is_kvm = context.accelerator is Accelerator.KVM
    kvm = features.kvm
    if kvm and kvm.dirty_ring:
        if kvm.dirty_ring_size is None:
            yield mistaken("features.kvm.dirty-ring", "it needs a size", "add the size")
        elif is_kvm:
            yield f"dirty-ring-size={kvm.dirty_ring_size}"
    if features.tcg_cache is not None:
        if features.tcg_cache % MIB:
            yield unsupported(
                "features.tcg-cache",
                "it has to be a whole number of MiB",
                "write a whole number of MiB",
            )
        elif is_kvm:
            yield unsupported(
                "features.tcg-cache",
                "it is for TCG, and this VM runs with KVM",
                "leave it out, or use TCG",
            )
        yield f"tb-size={features.tcg_cache // MIB}"


def paravirtual_features(context: Context) -> Iterator[str | Unsupported]:
    """Yield the properties of ``-cpu`` that say what the hypervisor offers to the guest."""
    features = context.machine.features
    yield from clock.cpu_words(context)
    for name, key, value in (
        ("kvm-pv-eoi", "end-of-interrupt", features.end_of_interrupt),
        ("kvm-pv-unhalt", "spinlocks", features.spinlocks),
    ):
        if value is not None:
            yield from _only_x86(context, key)
            yield _switch(name, value)
    if features.hyperv is not None:
        yield from _checked_hyperv(context, features.hyperv)
    yield from panics.cpu_words(context)
    if features.kvm is not None:
        yield from _kvm(features.kvm)
    if features.pmu is not None:
        yield _switch("pmu", features.pmu)


def remarks(context: Context) -> Iterator[Remark]:
    """Yield what the user is told of features that only KVM has, or that bpferry does not use.

    TCG takes the properties of the processor and does nothing with them (QEMU 10.0).
    """
    features = context.machine.features
    if features.async_teardown:
        text = "it has no effect: bpferry always waits until a VM's memory has been freed"
        yield Remark(text, "", "features.async-teardown")
    offers = {
        "features.end-of-interrupt": features.end_of_interrupt,
        "features.spinlocks": features.spinlocks,
        "features.kvm.dirty-ring": features.kvm and features.kvm.dirty_ring,
        "features.hyperv": features.hyperv and any(split(_hyperv(features.hyperv))[0]),
    }
    for key, value in offers.items():
        if value and context.accelerator is not Accelerator.KVM:
            text = "it is a feature of KVM, and this VM runs with TCG"
            yield Remark(text, "use KVM, or remove it", key)


def _only_x86(context: Context, key: str) -> Iterator[Unsupported]:
    if not context.is_x86:
        yield unsupported(f"features.{key}", "it is for x86 only", "leave it out")


def _checked_hyperv(context: Context, hyperv: Hyperv) -> Iterator[str | Unsupported]:
    words = list(_hyperv(hyperv))
    if words:
        yield from _only_x86(context, "hyperv")
    yield from words


def _hyperv(hyperv: Hyperv) -> Iterator[str | Unsupported]:
    if hyperv.mode == "passthrough":
        yield "hv-passthrough=on"
    for name in HYPERV:
        if getattr(hyperv, name):
            yield f"hv-{name.replace('_', '-')}=on"
    if hyperv.spinlocks:
        if hyperv.spinlock_retries is None:
            yield mistaken(
                "features.hyperv.spinlocks",
                "it needs a number of retries",
                "add the number of retries",
            )
        else:
            yield f"hv-spinlocks={hyperv.spinlock_retries:#x}"
    if hyperv.vendor:
        if hyperv.vendor_id is None:
            yield mistaken("features.hyperv.vendor", "it needs a value", "add the value")
        else:
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
