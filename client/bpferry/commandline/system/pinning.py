# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which processors of the host QEMU's threads run on, and how they are scheduled.

QEMU has no option for either: bpferry does it, once QEMU says which thread is which, and before the
guest runs.
"""

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Final, TypeAlias

from bpferry.commandline.context import Context, mistaken
from bpferry.commandline.numbers import parse_numbers
from bpferry.commandline.parts import (
    ALL,
    EMULATOR,
    Affinity,
    Found,
    Part,
    Remark,
    Scheduling,
    Threads,
)
from bpferry.commandline.system.topology import enabled_vcpus
from bpferry.commandline.threads import iothreads_of
from bpferry.domain.names import Named, listed

if TYPE_CHECKING:
    from bpferry.domain.model.tuning import (
        CpuTune,
        EmulatorScheduler,
        IoThreadScheduler,
        VcpuScheduler,
    )

KEY: Final = "cpu-tune"

REAL_TIME: Final = ("fifo", "rr")

Scheduler: TypeAlias = "VcpuScheduler | IoThreadScheduler | EmulatorScheduler"


def parts(context: Context) -> Iterator[Found]:
    """Yield where threads run; settings for one thread come after those for all."""
    machine = context.machine
    if machine.vcpu_placement == "auto":
        yield _remark_of_placement("vcpu-placement")
    elif machine.vcpu_affinity is not None:
        yield _affinity(machine.vcpu_affinity, "vcpu-affinity", ALL)
    tune = machine.cpu_tune
    if tune is not None:
        yield from _pins(context, tune)
        yield from _schedulers(context, tune)


def _remark_of_placement(key: str) -> Remark:
    text = (
        "bpferry does not ask numad, as libvirt does, which processors and nodes of the host are "
        "best for the VM: the kernel decides"
    )
    return Remark(text, "name the processors", key)


def _affinity(numbers: str, key: str, threads: Threads) -> Affinity:
    return Affinity(frozenset(parse_numbers(numbers, key)), key, threads)


def _pins(context: Context, tune: "CpuTune") -> Iterator[Part]:
    if tune.emulator is not None:
        yield _affinity(tune.emulator, f"{KEY}.emulator", EMULATOR)
    seen: set[Threads] = set()
    for pin in listed(tune.vcpus, f"{KEY}.vcpus"):
        threads = Threads("vcpu", pin.value.vcpu)
        _check_once(threads, seen, pin)
        remark = _remark_of_absence(context, pin.value.vcpu, pin)
        yield remark or _affinity(pin.value.processors, f"{pin.key}.processors", threads)
    for of_io in listed(tune.iothreads, f"{KEY}.iothreads"):
        threads = Threads("iothread", of_io.value.iothread)
        _check_once(threads, seen, of_io)
        _check_iothreads(context, (of_io.value.iothread,), f"{of_io.key}.iothread")
        yield _affinity(of_io.value.processors, f"{of_io.key}.processors", threads)


def _remark_of_absence(context: Context, number: int, part: Named[object]) -> Remark | None:
    """Return a remark if processor *number* is not there when the guest starts."""
    if number in enabled_vcpus(context.machine):
        return None
    text = f"it has no effect: the guest starts without processor {number}"
    return Remark(text, "", part.key)


def _schedulers(context: Context, tune: "CpuTune") -> Iterator[Part]:
    seen: set[Threads] = set()
    if tune.emulator_scheduler is not None:
        scheduler = Named(f"{KEY}.emulator-scheduler", "", tune.emulator_scheduler)
        yield _scheduling(scheduler, EMULATOR)
    for of_vcpus in listed(tune.vcpu_schedulers, f"{KEY}.vcpu-schedulers"):
        for number in parse_numbers(of_vcpus.value.vcpus, f"{of_vcpus.key}.vcpus"):
            _check_once(Threads("vcpu", number), seen, of_vcpus)
            remark = _remark_of_absence(context, number, of_vcpus)
            yield remark or _scheduling(of_vcpus, Threads("vcpu", number))
    for of_io in listed(tune.iothread_schedulers, f"{KEY}.iothread-schedulers"):
        numbers = parse_numbers(of_io.value.iothreads, f"{of_io.key}.iothreads")
        _check_iothreads(context, numbers, f"{of_io.key}.iothreads")
        for number in numbers:
            _check_once(Threads("iothread", number), seen, of_io)
            yield _scheduling(of_io, Threads("iothread", number))


def _scheduling(part: "Named[Scheduler]", threads: Threads) -> Scheduling:
    scheduler = part.value
    if scheduler.policy in REAL_TIME and scheduler.priority is None:
        sentence = f"'{scheduler.policy}' needs a priority"
        raise part.mistake("", sentence, "give one from 1 to 99")
    priority = scheduler.priority if scheduler.policy in REAL_TIME else None
    return Scheduling(scheduler.policy, priority or 0, part.key, threads)


def _check_once(threads: Threads, seen: set[Threads], part: Named[object]) -> None:
    if threads in seen:
        raise part.mistake("", f"there is another for {threads}", "write one for each thread")
    seen.add(threads)


def _check_iothreads(context: Context, numbers: Collection[int], key: str) -> None:
    have = [thread.id for thread in iothreads_of(context.machine)]
    for number in numbers:
        if number not in have:
            raise mistaken(
                key,
                f"the VM has no I/O thread {number}",
                f"name a thread that the VM has, or give it {number} or more I/O threads",
            )
