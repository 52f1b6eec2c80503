# SPDX-License-Identifier: LGPL-2.1-or-later
"""The clock and its timers on the command line."""

import pytest

from bpferry.commandline.parts import Environment
from bpferry.domain.model.accelerator import Accelerator
from tests.client.commandline.system_parts import context_of, of_kind, refused, values

KVM = Accelerator.KVM


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
    ],
)
def test_clock(clock: str, expected: str) -> None:
    """What the clock is set to, and what drives it, is one option."""
    assert [expected] == values(context_of(clock), "-rtc")


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
        ("name='rtc' present='no'", ".present"),
        ("name='pit' tickpolicy='merge'", ".tick-policy"),
        ("name='pit' track='guest'", ".track"),
        ("name='pit' tickpolicy='discard'", ".tick-policy"),
        ("name='pit' tickpolicy='catchup'", ".tick-policy"),
        ("name='hpet' frequency='3'", ".frequency"),
        ("name='hpet' tickpolicy='delay'", ".tick-policy"),
    ],
)
def test_impossible_timers(timer: str, field: str) -> None:
    """What a timer cannot do under TCG is refused."""
    context = context_of(f"<clock offset='utc'><timer {timer}/></clock>")

    assert refused(context) == f"clock.timers[0]{field}"


@pytest.mark.parametrize(
    ("clock", "key"),
    [
        ("offset='absolute'", "clock.offset"),
        ("offset='utc' start='1'", "clock.start"),
        ("offset='utc' timezone='Europe/Paris'", "clock.timezone"),
    ],
)
def test_half_a_clock(clock: str, key: str) -> None:
    """An offset without what it needs, or with what is another's, is refused."""
    assert refused(context_of(f"<clock {clock}/>")) == key


def test_no_timer_for_events() -> None:
    """A machine without an HPET can do without it, and cannot have it."""
    clock = "<clock offset='utc'><timer name='hpet' present='{}'/></clock>"

    assert "hpet" not in str(values(context_of(clock.format("no"), machine="microvm"), "-machine"))
    assert refused(context_of(clock.format("yes"), machine="microvm")) == "clock"
