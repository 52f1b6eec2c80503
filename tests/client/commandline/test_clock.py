# SPDX-License-Identifier: LGPL-2.1-or-later
"""The clock and its timers on the command line."""

from datetime import datetime, timedelta, timezone

import pytest
from msgspec.structs import replace

from bpferry.commandline.parts import Environment, Remark
from bpferry.commandline.system.clock import cpu_words
from bpferry.domain.model.accelerator import Accelerator
from tests.client.commandline.system_parts import all_parts, context_of, of_kind, values
from tests.client.refusals import refusal_of

KVM = Accelerator.KVM
EAST = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("clock", "expected"),
    [
        ("", "base=utc"),
        ("<clock offset='utc'/>", "base=utc"),
        ("<clock offset='localtime'/>", "base=localtime"),
        ("<clock offset='timezone' timezone='Europe/Paris'/>", "base=localtime"),
        ("<clock offset='absolute' start='0'/>", "base=1970-01-01T00:00:00"),
        ("<clock offset='absolute' start='253402300799'/>", "base=9999-12-31T23:59:59"),
        (
            "<clock offset='utc'><timer name='rtc' tickpolicy='catchup' track='guest'/></clock>",
            "base=utc,clock=vm,driftfix=slew",
        ),
        ("<clock offset='utc'><timer name='rtc' track='wall'/></clock>", "base=utc,clock=host"),
        ("<clock offset='variable'/>", "base=2026-03-01T11:00:00"),
        ("<clock offset='variable' adjustment='-3600'/>", "base=2026-03-01T10:00:00"),
        ("<clock offset='variable' adjustment='60' basis='utc'/>", "base=2026-03-01T11:01:00"),
        (
            "<clock offset='variable' adjustment='60' basis='localtime'/>",
            "base=2026-03-01T13:01:00",
        ),
        ("<clock offset='utc' adjustment='86400'/>", "base=2026-03-02T11:00:00"),
        ("<clock offset='localtime' adjustment='-60'/>", "base=2026-03-01T12:59:00"),
        ("<clock offset='utc' adjustment='reset'/>", "base=utc"),
    ],
)
def test_clock(clock: str, expected: str) -> None:
    """What the clock is set to, and what drives it, is one option."""
    context = replace(context_of(clock), now=datetime(2026, 3, 1, 13, microsecond=999, tzinfo=EAST))

    assert [expected] == values(context, "-rtc")


def test_what_the_guest_sets_is_not_kept() -> None:
    """Who has a clock that is ahead is told that the guest's own changes are lost."""
    (remark,) = of_kind(context_of("<clock offset='utc' adjustment='60'/>"), Remark)

    assert "clock.adjustment" == remark.key
    assert [] == of_kind(context_of("<clock offset='utc' adjustment='reset'/>"), Remark)


def test_time_zone() -> None:
    """A time zone is a variable of QEMU's environment."""
    context = context_of("<clock offset='timezone' timezone='Europe/Paris'/>")

    assert of_kind(context, Environment) == [Environment("TZ", "Europe/Paris")]


@pytest.mark.parametrize(
    ("timer", "option", "word"),
    [
        ("name='hpet' present='no'", "-machine", "hpet=off"),
        ("name='hpet' present='yes'", "-machine", "hpet=on"),
        ("name='kvmclock' present='no'", "-cpu", "kvmclock=off"),
        ("name='hypervclock' present='yes'", "-cpu", "hv-time=on"),
        ("name='tsc' frequency='4567890000'", "-cpu", "tsc-frequency=4567890000"),
        ("name='pit' tickpolicy='delay'", "-global", "kvm-pit.lost_tick_policy=delay"),
        ("name='pit' tickpolicy='discard'", "-global", "kvm-pit.lost_tick_policy=discard"),
    ],
)
def test_timers(timer: str, option: str, word: str) -> None:
    """Each timer is a word of machine, processor or a device."""
    context = context_of(f"<clock offset='utc'><timer {timer}/></clock>", accelerator=KVM)

    (value,) = values(context, option)
    assert value is not None
    assert word in value.split(",")


def test_late_ticks_are_caught_up_by_default() -> None:
    """What KVM's timer does anyway is not said."""
    timer = "<clock offset='utc'><timer name='pit' tickpolicy='catchup'/></clock>"

    assert [] == values(context_of(timer, accelerator=KVM), "-global")


@pytest.mark.parametrize(
    ("timer", "field"),
    [
        ("name='rtc' tickpolicy='discard'", ".tick-policy"),
        ("name='pit' tickpolicy='merge'", ".tick-policy"),
        ("name='pit' track='guest'", ".track"),
        ("name='kvmclock' tickpolicy='delay'", ".tick-policy"),
        ("name='hpet' frequency='3'", ".frequency"),
        ("name='hpet' mode='native'", ".mode"),
        ("name='armvtimer' tickpolicy='delay'", ""),
    ],
)
def test_impossible_timers(timer: str, field: str) -> None:
    """What a timer cannot do under TCG is refused."""
    context = context_of(f"<clock offset='utc'><timer {timer}/></clock>")

    assert refusal_of(all_parts, context).element == f"clock.timers[0]{field}"


def test_catching_up_needs_its_policy() -> None:
    """How fast ticks are caught up means nothing where they are not."""
    timer = "<clock offset='utc'><timer name='rtc'><catchup slew='1'/></timer></clock>"

    assert refusal_of(all_parts, context_of(timer)).element == "clock.timers[0].catchup"


@pytest.mark.parametrize(
    ("timer", "field"),
    [
        ("name='rtc' present='no'/", "present"),
        ("name='pit' present='no'/", "present"),
        ("name='tsc' present='no'/", "present"),
        ("name='tsc' mode='paravirt'/", "mode"),
        ("name='hpet' tickpolicy='delay'/", "tick-policy"),
        ("name='pit' tickpolicy='discard'/", "tick-policy"),
        ("name='pit' tickpolicy='catchup'/", "tick-policy"),
        ("name='rtc' tickpolicy='catchup'><catchup limit='1'/></timer", "catchup"),
    ],
)
def test_words_without_effect(timer: str, field: str) -> None:
    """What libvirt takes and does nothing with is taken, and the user is told."""
    (remark,) = of_kind(context_of(f"<clock offset='utc'><timer {timer}></clock>"), Remark)

    assert f"clock.timers[0].{field}" == remark.key
    assert remark.text.startswith("it has no effect: ")


@pytest.mark.parametrize("timer", ["mode='native'", "mode='auto'", "present='yes'"])
def test_the_usual_is_not_remarked(timer: str) -> None:
    """Nobody is told of what is so anyway."""
    context = context_of(f"<clock offset='utc'><timer name='tsc' {timer}/></clock>")

    assert [] == of_kind(context, Remark)


@pytest.mark.parametrize(("policy", "value"), [("delay", "off"), ("discard", "on")])
def test_timer_of_arm(policy: str, value: str) -> None:
    """What becomes of ticks of ARM's timer while the VM is paused is a word of the processor."""
    clock = f"<clock offset='utc'><timer name='armvtimer' tickpolicy='{policy}'/></clock>"
    cpu = "<cpu mode='host-passthrough'/>"
    context = context_of(clock + cpu, machine="virt", accelerator=KVM)

    assert f"kvm-no-adjvtime={value}" in list(cpu_words(context))


@pytest.mark.parametrize(
    ("clock", "key"),
    [
        ("offset='absolute'", "clock.offset"),
        ("offset='timezone' timezone='Europe/Paris' adjustment='1'", "clock.adjustment"),
        ("offset='variable' adjustment='999999999999'", "clock.adjustment"),
        ("offset='utc' start='1'", "clock.start"),
        ("offset='utc' timezone='Europe/Paris'", "clock.timezone"),
    ],
)
def test_half_a_clock(clock: str, key: str) -> None:
    """An offset without what it needs, or with what is another's, is refused."""
    assert refusal_of(all_parts, context_of(f"<clock {clock}/>")).element == key


def test_no_timer_for_events() -> None:
    """A machine without an HPET can do without it, and cannot have it."""
    clock = "<clock offset='utc'><timer name='hpet' present='{}'/></clock>"

    assert "hpet" not in str(values(context_of(clock.format("no"), machine="microvm"), "-machine"))
    refusal = refusal_of(all_parts, context_of(clock.format("yes"), machine="microvm"))
    assert refusal.element == "clock.timers[0]"
