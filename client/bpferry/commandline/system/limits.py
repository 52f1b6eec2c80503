# SPDX-License-Identifier: LGPL-2.1-or-later
"""How much QEMU may take of the host, as properties of a unit of systemd.

They are those of systemd.resource-control(5). Who sets them, and where that is possible, is for the
code that starts QEMU.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from bpferry.commandline.context import Context, mistaken, unsupported
from bpferry.commandline.parts import Found, Limit, Remark
from bpferry.domain.forms import either
from bpferry.domain.model.machine import Machine
from bpferry.domain.model.memory import UNLIMITED
from bpferry.domain.names import Named, listed
from bpferry.errors import Unsupported

if TYPE_CHECKING:
    from bpferry.domain.model.memory import MemoryLimits
    from bpferry.domain.model.tuning import CpuTune, DeviceTune

KIB: Final = 1024

MOST_WEIGHT: Final = 10_000
"""Of CPUWeight= and IOWeight=; libvirt hands its own over as they are (vircgroupv2.c)."""

USUAL_PERIOD_US: Final = 100_000
"""The kernel's, where a document says none."""

LEAST_US: Final = 1000
"""The shortest quota and period that the kernel takes (kernel/sched/core.c)."""

RATES: Final = {
    "read_bytes_sec": "IOReadBandwidthMax",
    "write_bytes_sec": "IOWriteBandwidthMax",
    "read_iops_sec": "IOReadIOPSMax",
    "write_iops_sec": "IOWriteIOPSMax",
}
"""The properties for what QEMU may do with one disk of the host."""


def parts(context: Context) -> Iterator[Found]:
    """Yield the limits of QEMU as a whole."""
    machine = context.machine
    if machine.cpu_tune is not None:
        yield from _of_time(machine.cpu_tune)
    if machine.memory_limits is not None:
        yield from _of_memory(machine.memory_limits, machine)
    if machine.io_tune is not None:
        if machine.io_tune.weight is not None:
            yield _weight("IOWeight", machine.io_tune.weight, "io-tune.weight")
        for device in listed(machine.io_tune.devices, "io-tune.devices"):
            yield from _of_device(device)


def _of_time(tune: "CpuTune") -> Iterator[Found]:
    if tune.weight is not None:
        yield _weight("CPUWeight", tune.weight, "cpu-tune.weight")
    quota, period = tune.global_quota or 0, tune.global_period or 0
    for name, value in (("quota", quota), ("period", period)):
        if 0 < value < LEAST_US:
            sentence = f"{value} µs is too short for the kernel"
            raise mistaken(f"cpu-tune.global-{name}", sentence, f"write {LEAST_US} or more")
    if quota <= 0:
        if period:
            hint = "write " + either("global-quota", "<global_quota>") + " as well"
            yield Remark("it has no effect: there is no quota", hint, "cpu-tune.global-period")
        return
    percent = f"{100 * quota / (period or USUAL_PERIOD_US):.2f}".rstrip("0").rstrip(".")
    yield Limit("CPUQuota", f"{percent}%", "cpu-tune.global-quota")
    if period not in (0, USUAL_PERIOD_US):
        yield Limit("CPUQuotaPeriodSec", f"{period}us", "cpu-tune.global-period")


def _of_memory(limits: "MemoryLimits", machine: Machine) -> Iterator[Found]:
    hard = _limited(limits.hard)
    if hard is not None:
        yield Limit("MemoryMax", _size(hard), "memory-limits.hard")
        if hard <= machine.memory:
            text = (
                f"the guest has {machine.memory // KIB:,} KiB of memory, and QEMU needs some for "
                "itself: the kernel kills QEMU when it would use more than this"
            )
            yield Remark(text, "leave several hundred MiB for QEMU itself", "memory-limits.hard")
    soft = _limited(limits.soft)
    if soft is not None:
        yield Limit("MemoryHigh", _size(soft), "memory-limits.soft")
    both = _limited(limits.swap)
    if both is not None:
        yield _of_swap(both, hard)


def _of_swap(both: int, hard: int | None) -> Limit | Unsupported:
    """Return the limit of swap alone, which systemd wants: *both* is with memory."""
    key = "memory-limits.swap"
    if hard is None:
        return unsupported(
            key,
            "it is for memory and swap together, and systemd limits each of them",
            "write " + either("hard", "<hard_limit>") + ", the limit of memory, as well",
        )
    if both < hard:
        sentence = "it is for memory and swap together, and less than the limit of memory alone"
        return mistaken(key, sentence, "write as much for no swap, or more")
    return Limit("MemorySwapMax", _size(both - hard), key)


def _limited(size: int | None) -> int | None:
    """Return *size* if it limits anything, as libvirt sees it."""
    return size if size is not None and 0 < size < UNLIMITED else None


def _size(size: int) -> str:
    return f"{size // KIB}K" if size and size % KIB == 0 else str(size)


def _of_device(device: "Named[DeviceTune]") -> Iterator[Found]:
    tune = device.value
    if not tune.path.startswith("/") or any(sign.isspace() for sign in tune.path):
        sentence = "systemd takes the whole path of a disk of the host, without spaces"
        raise device.mistake("path", sentence, "write a path such as '/dev/sda'")
    if tune.weight:
        yield _weight("IODeviceWeight", tune.weight, f"{device.key}.weight", f"{tune.path} ")
    for name, own in RATES.items():
        value = getattr(tune, name)
        if value:
            yield Limit(own, f"{tune.path} {value}", f"{device.key}.{name.replace('_', '-')}")


def _weight(name: str, value: int, key: str, path: str = "") -> Limit | Unsupported:
    if 0 < value <= MOST_WEIGHT:
        return Limit(name, f"{path}{value}", key)
    return unsupported(
        key,
        f"{value} is not a weight that systemd and control groups v2 take",
        f"write a number from 1 to {MOST_WEIGHT}; units without one have 100",
    )
