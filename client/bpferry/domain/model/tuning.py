# SPDX-License-Identifier: LGPL-2.1-or-later
"""How much QEMU may take of the host: where its threads run, their time, and their I/O."""

from typing import Annotated, Literal

import msgspec

from bpferry.domain.binding import At, Placed, Table
from bpferry.domain.model.iothreads import ThreadId
from bpferry.domain.model.numa import NumberSet

VcpuId = Annotated[int, msgspec.Meta(ge=0, le=65535)]

Priority = Annotated[int, msgspec.Meta(ge=1, le=99)]
"""Of a real-time policy (sched(7))."""

Weight = Annotated[int, msgspec.Meta(ge=0, le=262_144)]
"""Up to what control groups v1 take; systemd takes 1 to 10,000."""

Quota = Annotated[int, msgspec.Meta(ge=-(2**53), le=17_592_186_044_415)]
"""Up to the longest that the kernel takes (VIR_CGROUP_CPU_QUOTA_MAX of libvirt)."""

Period = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]

Rate = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

Policy = Literal["batch", "idle", "fifo", "rr"]


class VcpuPin(Table, frozen=True, kw_only=True):
    """Where one processor of the guest runs."""

    vcpu: Placed[VcpuId, At("@vcpu")]
    processors: Placed[NumberSet, At("@cpuset")]


class IoThreadPin(Table, frozen=True, kw_only=True):
    """Where one I/O thread runs."""

    iothread: Placed[ThreadId, At("@iothread")]
    processors: Placed[NumberSet, At("@cpuset")]


class VcpuScheduler(Table, frozen=True, kw_only=True):
    """How processors of the guest are scheduled."""

    vcpus: Placed[NumberSet, At("@vcpus")]
    policy: Placed[Policy, At("@scheduler")]
    priority: Placed[Priority | None, At("@priority")] = None
    """For ``fifo`` and ``rr``, which need permission for real-time scheduling (RLIMIT_RTPRIO)."""


class IoThreadScheduler(Table, frozen=True, kw_only=True):
    """How I/O threads are scheduled."""

    iothreads: Placed[NumberSet, At("@iothreads")]
    policy: Placed[Policy, At("@scheduler")]
    priority: Placed[Priority | None, At("@priority")] = None


class EmulatorScheduler(Table, frozen=True, kw_only=True):
    """How all other threads of QEMU are scheduled."""

    policy: Placed[Policy, At("@scheduler")]
    priority: Placed[Priority | None, At("@priority")] = None


class CpuTune(Table, frozen=True, kw_only=True):
    """How much time QEMU gets, and where its threads run.

    The emulator's threads are those for neither processors nor I/O.
    """

    weight: Placed[Weight | None, At("shares")] = None
    """QEMU's share of the time, compared with other units; 100 is usual."""
    global_quota: Placed[Quota | None, At("global_quota")] = None
    """Microseconds of processor time in each period, for all threads together; 0 or less for no
    limit."""
    global_period: Placed[Period | None, At("global_period")] = None
    """Microseconds; 100,000 by default."""
    vcpus: Placed[tuple[VcpuPin, ...], At("vcpupin")] = ()
    emulator: Placed[NumberSet | None, At("emulatorpin/@cpuset")] = None
    iothreads: Placed[tuple[IoThreadPin, ...], At("iothreadpin")] = ()
    vcpu_schedulers: Placed[tuple[VcpuScheduler, ...], At("vcpusched")] = ()
    iothread_schedulers: Placed[tuple[IoThreadScheduler, ...], At("iothreadsched")] = ()
    emulator_scheduler: Placed[EmulatorScheduler | None, At("emulatorsched")] = None


class DeviceTune(Table, frozen=True, kw_only=True):
    """What QEMU may do with one disk of the host. A value of 0 is no limit."""

    path: Placed[str, At("path")]
    """Of its node, or of a file on it."""
    weight: Placed[Weight | None, At("weight")] = None
    read_bytes_sec: Placed[Rate | None, At("read_bytes_sec")] = None
    write_bytes_sec: Placed[Rate | None, At("write_bytes_sec")] = None
    read_iops_sec: Placed[Rate | None, At("read_iops_sec")] = None
    write_iops_sec: Placed[Rate | None, At("write_iops_sec")] = None


class IoTune(Table, frozen=True, kw_only=True):
    """How much QEMU may read and write."""

    weight: Placed[Weight | None, At("weight")] = None
    """QEMU's share of each disk's time, compared with other units; 100 is usual."""
    devices: Placed[tuple[DeviceTune, ...], At("device")] = ()
