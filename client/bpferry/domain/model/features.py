# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the machine has besides its devices, and what the hypervisor tells the guest."""

from typing import Annotated, Literal

import msgspec

from bpferry.domain.binding import At, Form, Placed, Table

Switch = bool | None


def _state(path: str) -> At:
    """Return the binding of a switch that libvirt requires wherever its element is."""
    return At(f"{path}/@state", Form.ON_OFF, demanded=True)


def _imply(table: Table, switch: str, detail: object) -> None:
    """Turn the *switch* of *table* on if a *detail* is given and the switch is not set."""
    if detail is not None and getattr(table, switch) is None:
        msgspec.structs.force_setattr(table, switch, True)  # noqa: FBT003 - the value itself


class HypervStimer(Table, frozen=True, kw_only=True):
    """Timers of Hyper-V."""

    state: Placed[bool, At("@state", Form.ON_OFF, always=True, demanded=True)] = True
    direct: Placed[Switch, _state("direct")] = None


class HypervTlbFlush(Table, frozen=True, kw_only=True):
    """Flushes of address translations by a call to the hypervisor."""

    state: Placed[bool, At("@state", Form.ON_OFF, always=True, demanded=True)] = True
    direct: Placed[Switch, _state("direct")] = None
    extended: Placed[Switch, _state("extended")] = None


class Hyperv(Table, frozen=True, kw_only=True):
    """Features of Hyper-V, which Windows uses to run well."""

    mode: Placed[Literal["custom", "passthrough"], At("@mode")] = "custom"
    relaxed: Placed[Switch, _state("relaxed")] = None
    vapic: Placed[Switch, _state("vapic")] = None
    spinlocks: Placed[Switch, _state("spinlocks")] = None
    spinlock_retries: Placed[
        Annotated[int, msgspec.Meta(ge=0xFFF, lt=2**32)] | None, At("spinlocks/@retries")
    ] = None
    """libvirt and Hyper-V want at least 4095."""
    vpindex: Placed[Switch, _state("vpindex")] = None
    runtime: Placed[Switch, _state("runtime")] = None
    synic: Placed[Switch, _state("synic")] = None
    stimer: Placed[HypervStimer | None, At("stimer")] = None
    reset: Placed[Switch, _state("reset")] = None
    vendor: Placed[Switch, _state("vendor_id")] = None
    vendor_id: Placed[
        Annotated[
            str,
            msgspec.Meta(
                pattern=r"^[\x20-\x2b\x2d-\x7e]{1,12}$",
                description="1 to 12 letters without a comma",
            ),
        ]
        | None,
        At("vendor_id/@value"),
    ] = None
    frequencies: Placed[Switch, _state("frequencies")] = None
    reenlightenment: Placed[Switch, _state("reenlightenment")] = None
    tlbflush: Placed[HypervTlbFlush | None, At("tlbflush")] = None
    ipi: Placed[Switch, _state("ipi")] = None
    evmcs: Placed[Switch, _state("evmcs")] = None
    avic: Placed[Switch, _state("avic")] = None
    emsr_bitmap: Placed[Switch, _state("emsr_bitmap")] = None
    xmm_input: Placed[Switch, _state("xmm_input")] = None

    def __post_init__(self) -> None:
        """Turn on each feature that has details."""
        _imply(self, "spinlocks", self.spinlock_retries)
        _imply(self, "vendor", self.vendor_id)


class Kvm(Table, frozen=True, kw_only=True):
    """Features of KVM that the guest sees."""

    hidden: Placed[Switch, _state("hidden")] = None
    hint_dedicated: Placed[Switch, _state("hint-dedicated")] = None
    poll_control: Placed[Switch, _state("poll-control")] = None
    pv_ipi: Placed[Switch, _state("pv-ipi")] = None
    dirty_ring: Placed[Switch, _state("dirty-ring")] = None
    dirty_ring_size: Placed[
        Annotated[int, msgspec.Meta(ge=1024, le=65536)] | None, At("dirty-ring/@size")
    ] = None
    """Entries; QEMU wants a power of two from 1,024 on."""

    def __post_init__(self) -> None:
        """Turn on the ring that has a size."""
        _imply(self, "dirty_ring", self.dirty_ring_size)


class Features(Table, frozen=True, kw_only=True):
    """What the machine has besides its devices."""

    acpi: Placed[bool, At("acpi", Form.PRESENT, absent=False)] = True
    end_of_interrupt: Placed[Switch, At("apic/@eoi", Form.ON_OFF)] = None
    """Whether a guest under KVM may end an interrupt by writing to memory."""
    hyperv: Placed[Hyperv | None, At("hyperv")] = None
    kvm: Placed[Kvm | None, At("kvm")] = None
    tcg_cache: Placed[int | None, At("tcg/tb-cache", Form.SIZE)] = None
    """Bytes for translated code."""
    spinlocks: Placed[Switch, At("pvspinlock", Form.STATE)] = None
    pmu: Placed[Switch, At("pmu", Form.STATE)] = None
    """Counters of events in the processor."""
    vmport: Placed[Switch, At("vmport", Form.STATE)] = None
    ps2: Placed[Switch, _state("ps2")] = None
    smm: Placed[Switch, At("smm", Form.STATE)] = None
    """System management mode."""
    tseg: Placed[int | None, At("smm/tseg", Form.SIZE, unit="MiB")] = None
    """Bytes of memory for it."""
    io_apic: Placed[Literal["qemu", "kvm", None], At("ioapic/@driver")] = None
    gic: Placed[Literal["2", "3", "host", None], At("gic/@version")] = None
    """The interrupt controller of arm machines."""
    async_teardown: Placed[Switch, At("async-teardown/@enabled", Form.YES_NO)] = None
    """It has no effect: bpferry waits until the memory of a VM that ends is free again."""
    vmcoreinfo: Placed[Switch, At("vmcoreinfo", Form.STATE)] = None
    """Let the guest leave a note that helps to analyse a dump of its memory."""

    def __post_init__(self) -> None:
        """Turn on system management mode if its memory is given."""
        _imply(self, "smm", self.tseg)
