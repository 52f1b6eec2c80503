# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the machine has beside its devices, and what the hypervisor tells the guest."""

from typing import Annotated, Literal

import msgspec

from bpferry.domain.binding import At, Form, Table

Switch = bool | None


class HypervStimer(Table, frozen=True, kw_only=True):
    """Timers of Hyper-V."""

    state: Annotated[bool, At("@state", Form.ON_OFF, always=True)] = True
    direct: Annotated[Switch, At("direct/@state", Form.ON_OFF)] = None


class HypervTlbFlush(Table, frozen=True, kw_only=True):
    """Flushes of address translations by a call to the hypervisor."""

    state: Annotated[bool, At("@state", Form.ON_OFF, always=True)] = True
    direct: Annotated[Switch, At("direct/@state", Form.ON_OFF)] = None
    extended: Annotated[Switch, At("extended/@state", Form.ON_OFF)] = None


class Hyperv(Table, frozen=True, kw_only=True):
    """What Windows is told so that it runs well."""

    mode: Annotated[Literal["custom", "passthrough"], At("@mode")] = "custom"
    relaxed: Annotated[Switch, At("relaxed/@state", Form.ON_OFF)] = None
    vapic: Annotated[Switch, At("vapic/@state", Form.ON_OFF)] = None
    spinlocks: Annotated[Switch, At("spinlocks/@state", Form.ON_OFF)] = None
    spinlock_retries: Annotated[
        Annotated[int, msgspec.Meta(ge=0xFFF, lt=2**32)] | None, At("spinlocks/@retries")
    ] = None
    """libvirt and Hyper-V want at least 4095."""
    vpindex: Annotated[Switch, At("vpindex/@state", Form.ON_OFF)] = None
    runtime: Annotated[Switch, At("runtime/@state", Form.ON_OFF)] = None
    synic: Annotated[Switch, At("synic/@state", Form.ON_OFF)] = None
    stimer: Annotated[HypervStimer | None, At("stimer")] = None
    reset: Annotated[Switch, At("reset/@state", Form.ON_OFF)] = None
    vendor: Annotated[Switch, At("vendor_id/@state", Form.ON_OFF)] = None
    vendor_id: Annotated[
        Annotated[str, msgspec.Meta(pattern=r"^[\x20-\x2b\x2d-\x7e]{1,12}$")] | None,
        At("vendor_id/@value"),
    ] = None
    frequencies: Annotated[Switch, At("frequencies/@state", Form.ON_OFF)] = None
    reenlightenment: Annotated[Switch, At("reenlightenment/@state", Form.ON_OFF)] = None
    tlbflush: Annotated[HypervTlbFlush | None, At("tlbflush")] = None
    ipi: Annotated[Switch, At("ipi/@state", Form.ON_OFF)] = None
    evmcs: Annotated[Switch, At("evmcs/@state", Form.ON_OFF)] = None
    avic: Annotated[Switch, At("avic/@state", Form.ON_OFF)] = None
    emsr_bitmap: Annotated[Switch, At("emsr_bitmap/@state", Form.ON_OFF)] = None
    xmm_input: Annotated[Switch, At("xmm_input/@state", Form.ON_OFF)] = None


class Kvm(Table, frozen=True, kw_only=True):
    """What guests are told about KVM."""

    hidden: Annotated[Switch, At("hidden/@state", Form.ON_OFF)] = None
    hint_dedicated: Annotated[Switch, At("hint-dedicated/@state", Form.ON_OFF)] = None
    poll_control: Annotated[Switch, At("poll-control/@state", Form.ON_OFF)] = None
    pv_ipi: Annotated[Switch, At("pv-ipi/@state", Form.ON_OFF)] = None
    dirty_ring: Annotated[Switch, At("dirty-ring/@state", Form.ON_OFF)] = None
    dirty_ring_size: Annotated[
        Annotated[int, msgspec.Meta(ge=1024, le=65536)] | None, At("dirty-ring/@size")
    ] = None
    """Entries; QEMU wants a power of two from 1,024 on."""


class Features(Table, frozen=True, kw_only=True):
    """What the machine has beside its devices."""

    acpi: Annotated[bool, At("acpi", Form.PRESENT, absent=False)] = True
    end_of_interrupt: Annotated[Switch, At("apic/@eoi", Form.ON_OFF)] = None
    """Whether a guest under KVM may end an interrupt by writing to memory."""
    hyperv: Annotated[Hyperv | None, At("hyperv")] = None
    kvm: Annotated[Kvm | None, At("kvm")] = None
    tcg_cache: Annotated[int | None, At("tcg/tb-cache", Form.SIZE)] = None
    """Bytes for translated code."""
    spinlocks: Annotated[Switch, At("pvspinlock/@state", Form.ON_OFF)] = None
    pmu: Annotated[Switch, At("pmu", Form.STATE)] = None
    """Counters of events in the processor."""
    vmport: Annotated[Switch, At("vmport", Form.STATE)] = None
    ps2: Annotated[Switch, At("ps2/@state", Form.ON_OFF)] = None
    smm: Annotated[Switch, At("smm/@state", Form.ON_OFF)] = None
    """System management mode."""
    tseg: Annotated[int | None, At("smm/tseg", Form.SIZE, unit="MiB")] = None
    """Bytes of memory for it."""
    io_apic: Annotated[Literal["qemu", "kvm"] | None, At("ioapic/@driver")] = None
    gic: Annotated[Literal["2", "3", "host"] | None, At("gic/@version")] = None
    """The interrupt controller of arm machines."""
    vmcoreinfo: Annotated[Switch, At("vmcoreinfo", Form.STATE)] = None
    """Let the guest leave a note for who analyses a dump of its memory."""
