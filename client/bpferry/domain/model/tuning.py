# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which processors of the host the threads of QEMU run on, and how the kernel schedules them."""

from typing import Annotated, Literal

import msgspec

from bpferry.domain.binding import At, Table
from bpferry.domain.model.iothreads import ThreadId
from bpferry.domain.model.numa import NumberSet

VcpuId = Annotated[int, msgspec.Meta(ge=0, le=65535)]

Priority = Annotated[int, msgspec.Meta(ge=1, le=99)]
"""Of a real-time policy (sched(7))."""

Policy = Literal["batch", "idle", "fifo", "rr"]


class VcpuPin(Table, frozen=True, kw_only=True):
    """Where one processor of the guest runs."""

    vcpu: Annotated[VcpuId, At("@vcpu")]
    processors: Annotated[NumberSet, At("@cpuset")]


class IoThreadPin(Table, frozen=True, kw_only=True):
    """Where one I/O thread runs."""

    iothread: Annotated[ThreadId, At("@iothread")]
    processors: Annotated[NumberSet, At("@cpuset")]


class VcpuScheduler(Table, frozen=True, kw_only=True):
    """How processors of the guest are scheduled."""

    vcpus: Annotated[NumberSet, At("@vcpus")]
    policy: Annotated[Policy, At("@scheduler")]
    priority: Annotated[Priority | None, At("@priority")] = None
    """For ``fifo`` and ``rr``, which need permission for real-time scheduling (RLIMIT_RTPRIO)."""


class IoThreadScheduler(Table, frozen=True, kw_only=True):
    """How I/O threads are scheduled."""

    iothreads: Annotated[NumberSet, At("@iothreads")]
    policy: Annotated[Policy, At("@scheduler")]
    priority: Annotated[Priority | None, At("@priority")] = None


class EmulatorScheduler(Table, frozen=True, kw_only=True):
    """How all other threads of QEMU are scheduled."""

    policy: Annotated[Policy, At("@scheduler")]
    priority: Annotated[Priority | None, At("@priority")] = None


class CpuTune(Table, frozen=True, kw_only=True):
    """Where threads of QEMU run. The emulator's are those for neither processors nor I/O."""

    vcpus: Annotated[tuple[VcpuPin, ...], At("vcpupin")] = ()
    emulator: Annotated[NumberSet | None, At("emulatorpin/@cpuset")] = None
    iothreads: Annotated[tuple[IoThreadPin, ...], At("iothreadpin")] = ()
    vcpu_schedulers: Annotated[tuple[VcpuScheduler, ...], At("vcpusched")] = ()
    iothread_schedulers: Annotated[tuple[IoThreadScheduler, ...], At("iothreadsched")] = ()
    emulator_scheduler: Annotated[EmulatorScheduler | None, At("emulatorsched")] = None
