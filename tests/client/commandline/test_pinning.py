# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which processors of the host threads run on, as parts of a command line."""

import pytest

from bpferry.commandline.parts import (
    ALL,
    EMULATOR,
    Affinity,
    Remark,
    Scheduling,
    Threads,
)
from tests.client.commandline.system_parts import all_parts, context_of, of_kind
from tests.client.refusals import refusal_of

PINS = """\
<vcpu cpuset='0-2,^1'>2</vcpu>
<iothreads>1</iothreads>
<cputune>
  <vcpupin vcpu='1' cpuset='3'/>
  <emulatorpin cpuset='4-5'/>
  <iothreadpin iothread='1' cpuset='6'/>
</cputune>
"""


def test_whole_vm() -> None:
    """Processors can be named that all of QEMU may run on."""
    context = context_of("<vcpu cpuset='0-2,^1'>2</vcpu><cputune/>")

    assert [Affinity(frozenset({0, 2}), "vcpu-affinity", ALL)] == of_kind(context, Affinity)


def test_each_thread() -> None:
    """A processor of the guest, an I/O thread and the emulator have their own places."""
    context = context_of(PINS)

    assert [
        Affinity(frozenset({0, 2}), "vcpu-affinity", ALL),
        Affinity(frozenset({4, 5}), "cpu-tune.emulator", EMULATOR),
        Affinity(frozenset({3}), "cpu-tune.vcpus[0].processors", Threads("vcpu", 1)),
        Affinity(frozenset({6}), "cpu-tune.iothreads[0].processors", Threads("iothread", 1)),
    ] == of_kind(context, Affinity)


def test_schedulers() -> None:
    """Each thread that a scheduler names has it; a priority counts for a real-time policy only."""
    context = context_of(
        "<vcpu>3</vcpu><iothreads>1</iothreads><cputune>"
        "<vcpusched vcpus='0-2,^1' scheduler='fifo' priority='7'/>"
        "<iothreadsched iothreads='1' scheduler='idle'/>"
        "<emulatorsched scheduler='batch' priority='9'/></cputune>"
    )

    assert [
        Scheduling("batch", 0, "cpu-tune.emulator-scheduler", EMULATOR),
        Scheduling("fifo", 7, "cpu-tune.vcpu-schedulers[0]", Threads("vcpu", 0)),
        Scheduling("fifo", 7, "cpu-tune.vcpu-schedulers[0]", Threads("vcpu", 2)),
        Scheduling("idle", 0, "cpu-tune.iothread-schedulers[0]", Threads("iothread", 1)),
    ] == of_kind(context, Scheduling)


def test_processor_that_is_not_there_at_the_start() -> None:
    """Its place is passed over, as in libvirt, and the user is told."""
    context = context_of(
        "<vcpu current='1'>2</vcpu><cputune><vcpupin vcpu='1' cpuset='0'/>"
        "<vcpupin vcpu='9' cpuset='0'/><vcpusched vcpus='1' scheduler='idle'/></cputune>"
    )

    assert 3 == len(of_kind(context, Remark))
    assert [] == of_kind(context, Affinity) + of_kind(context, Scheduling)


def test_placement_that_libvirt_asks_about() -> None:
    """Where numad would choose the processors, the kernel does, and the user is told."""
    context = context_of("<vcpu placement='auto' cpuset='3'>2</vcpu>")

    (remark,) = of_kind(context, Remark)
    assert remark.key == "vcpu-placement"
    assert [] == of_kind(context, Affinity)


@pytest.mark.parametrize(
    ("inner", "key"),
    [
        ("<vcpupin vcpu='0' cpuset='1'/><vcpupin vcpu='0' cpuset='2'/>", "vcpus[1]"),
        ("<vcpupin vcpu='0' cpuset='1,^1'/>", "vcpus[0].processors"),
        ("<iothreadpin iothread='2' cpuset='1'/>", "iothreads[0].iothread"),
        ("<iothreadsched iothreads='2' scheduler='idle'/>", "iothread-schedulers[0].iothreads"),
        ("<vcpusched vcpus='0' scheduler='rr'/>", "vcpu-schedulers[0]"),
        (
            "<vcpusched vcpus='0' scheduler='idle'/><vcpusched vcpus='0' scheduler='batch'/>",
            "vcpu-schedulers[1]",
        ),
    ],
)
def test_refusals(inner: str, key: str) -> None:
    """What cannot be is refused with its key."""
    refusal = refusal_of(all_parts, context_of(f"<cputune>{inner}</cputune>"))
    assert refusal.element == f"cpu-tune.{key}"
