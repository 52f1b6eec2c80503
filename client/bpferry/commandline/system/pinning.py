# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which processors of the host QEMU's threads run on, and how they are scheduled.

QEMU has no word for either: bpferry does it, as soon as QEMU says which thread is which, and before
the guest runs.
"""

from collections.abc import Collection, Iterator
from typing import Final

from bpferry.commandline.context import Context, unsupported
from bpferry.commandline.numbers import parse_numbers
from bpferry.commandline.parts import (
    ALL,
    EMULATOR,
    Affinity,
    Part,
    Pause,
    Remark,
    Scheduling,
    Threads,
)
from bpferry.commandline.threads import iothreads_of
from bpferry.domain.model.tuning import CpuTune, EmulatorScheduler, IoThreadScheduler, VcpuScheduler

KEY: Final = "cpu-tune"

REAL_TIME: Final = ("fifo", "rr")

Scheduler = VcpuScheduler | IoThreadScheduler | EmulatorScheduler


def parts(context: Context) -> Iterator[Part]:
    """Yield where threads run; what is said of one of them comes after what is said of all."""
    machine = context.machine
    if machine.vcpu_placement == "auto":
        yield _remark_of_placement("vcpu-placement")
    elif machine.vcpu_affinity is not None:
        yield _affinity(machine.vcpu_affinity, "vcpu-affinity", ALL)
    tune = machine.cpu_tune
    if tune is not None:
        found = [*_pins(context, tune), *_schedulers(context, tune)]
        if any(isinstance(part, Affinity | Scheduling) for part in found):
            yield Pause()
        yield from found


def _remark_of_placement(key: str) -> Remark:
    text = (
        f"'{key}': nobody is asked which processors and nodes of the host are best for the VM "
        "(libvirt asks numad): it runs where the kernel puts it"
    )
    return Remark(text, "name the processors", key)


def _affinity(numbers: str, key: str, threads: Threads) -> Affinity:
    return Affinity(frozenset(parse_numbers(numbers, key)), key, threads)


def _pins(context: Context, tune: CpuTune) -> Iterator[Part]:
    if tune.emulator is not None:
        yield _affinity(tune.emulator, f"{KEY}.emulator", EMULATOR)
    seen: set[Threads] = set()
    for index, pin in enumerate(tune.vcpus):
        key, threads = f"{KEY}.vcpus[{index}]", Threads("vcpu", pin.vcpu)
        _check_once(threads, seen, key)
        remark = _remark_of_absence(context, pin.vcpu, key)
        yield remark or _affinity(pin.processors, f"{key}.processors", threads)
    for index, of_io in enumerate(tune.iothreads):
        key, threads = f"{KEY}.iothreads[{index}]", Threads("iothread", of_io.iothread)
        _check_once(threads, seen, key)
        _check_iothreads(context, (of_io.iothread,), f"{key}.iothread")
        yield _affinity(of_io.processors, f"{key}.processors", threads)


def _remark_of_absence(context: Context, number: int, key: str) -> Remark | None:
    """Return what is said of a processor that is not there when the guest starts, as libvirt."""
    machine = context.machine
    if number < (machine.vcpus_at_start or machine.vcpus):
        return None
    return Remark(f"'{key}' has no effect: the guest starts without processor {number}", "", key)


def _schedulers(context: Context, tune: CpuTune) -> Iterator[Part]:
    seen: set[Threads] = set()
    if tune.emulator_scheduler is not None:
        yield _scheduling(tune.emulator_scheduler, f"{KEY}.emulator-scheduler", EMULATOR)
    for index, of_vcpus in enumerate(tune.vcpu_schedulers):
        key = f"{KEY}.vcpu-schedulers[{index}]"
        for number in parse_numbers(of_vcpus.vcpus, f"{key}.vcpus"):
            _check_once(Threads("vcpu", number), seen, key)
            remark = _remark_of_absence(context, number, key)
            yield remark or _scheduling(of_vcpus, key, Threads("vcpu", number))
    for index, of_io in enumerate(tune.iothread_schedulers):
        key = f"{KEY}.iothread-schedulers[{index}]"
        numbers = parse_numbers(of_io.iothreads, f"{key}.iothreads")
        _check_iothreads(context, numbers, f"{key}.iothreads")
        for number in numbers:
            _check_once(Threads("iothread", number), seen, key)
            yield _scheduling(of_io, key, Threads("iothread", number))


def _scheduling(scheduler: Scheduler, key: str, threads: Threads) -> Scheduling:
    if scheduler.policy in REAL_TIME and scheduler.priority is None:
        raise unsupported(key, f"'{scheduler.policy}' needs a priority", "give one from 1 to 99")
    priority = scheduler.priority if scheduler.policy in REAL_TIME else None
    return Scheduling(scheduler.policy, priority or 0, key, threads)


def _check_once(threads: Threads, seen: set[Threads], key: str) -> None:
    if threads in seen:
        raise unsupported(key, f"there is another for {threads}")
    seen.add(threads)


def _check_iothreads(context: Context, numbers: Collection[int], key: str) -> None:
    have = [thread.id for thread in iothreads_of(context.machine)]
    for number in numbers:
        if number not in have:
            raise unsupported(key, f"the VM has no I/O thread {number}")
