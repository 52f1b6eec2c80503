# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guest's clock and its timers."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from bpferry.commandline.context import Context, unsupported
from bpferry.commandline.parts import Environment, Option, Part, join
from bpferry.domain.model.accelerator import Accelerator
from bpferry.domain.model.clock import Clock, Timer

TRACKS: Final = {"guest": "vm", "wall": "host", "realtime": "rt"}
"""QEMU's words for what drives the clock."""

TICK_POLICIES: Final = {"rtc": ("delay", "catchup"), "pit": ("delay", "catchup", "discard")}
"""What QEMU's devices can do with ticks that are late."""


def machine_properties(context: Context) -> dict[str, object]:
    """Return the properties of the machine that come from its timers."""
    timer = _timer(context, "hpet")
    if timer is None or timer.present is None:
        return {}
    if not context.capabilities.has_machine_property(context.machine_type, "hpet"):
        if timer.present:
            raise unsupported("clock", f"'{context.machine_type}' has no timer 'hpet'")
        return {}
    return {"hpet": timer.present}


def parts(context: Context) -> Iterator[Part]:
    """Yield the clock and the timers that are not part of machine and processor."""
    for index, timer in enumerate(context.machine.clock.timers):
        _check(timer, f"clock.timers[{index}]")
    clock = context.machine.clock
    rtc = _timer(context, "rtc")
    yield Option(
        "-rtc",
        join(
            "",
            base=_base(clock),
            clock=TRACKS[rtc.track] if rtc and rtc.track else None,
            driftfix="slew" if rtc and rtc.tick_policy == "catchup" else None,
        ),
    )
    if clock.offset == "timezone" and clock.timezone:
        yield Environment("TZ", clock.timezone)
    yield from _interval_timer(context)


def _timer(context: Context, name: str) -> Timer | None:
    return next((timer for timer in context.machine.clock.timers if timer.name == name), None)


def _base(clock: Clock) -> str:
    if clock.timezone is not None and clock.offset != "timezone":
        raise unsupported("clock.timezone", "it goes with the offset 'timezone'")
    if clock.start is not None and clock.offset != "absolute":
        raise unsupported("clock.start", "it goes with the offset 'absolute'")
    if clock.offset != "absolute":
        return "utc" if clock.offset == "utc" else "localtime"
    if clock.start is None:
        raise unsupported("clock.offset", "an absolute time needs a start")
    return datetime.fromtimestamp(clock.start, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _check(timer: Timer, key: str) -> None:
    possible = TICK_POLICIES.get(timer.name, ())
    if timer.tick_policy is not None and timer.tick_policy not in possible:
        words = f"it has {' and '.join(possible)}" if possible else "it has none"
        raise unsupported(f"{key}.tick-policy", f"'{timer.name}' has no such policy: {words}")
    if timer.track is not None and timer.name != "rtc":
        raise unsupported(f"{key}.track", "it goes with the timer 'rtc'")
    if timer.frequency is not None and timer.name != "tsc":
        raise unsupported(f"{key}.frequency", "it goes with the timer 'tsc'")
    if timer.present is False and timer.name in ("rtc", "pit", "tsc"):
        raise unsupported(f"{key}.present", f"'{timer.name}' is always there")


def _interval_timer(context: Context) -> Iterator[Option]:
    """Yield what becomes of late ticks of the PIT, which KVM runs itself.

    To catch up is the default of KVM's; that of QEMU delivers them late, whatever is said.
    """
    for index, timer in enumerate(context.machine.clock.timers):
        if timer.name != "pit":
            continue
        policy = timer.tick_policy or "delay"
        if context.accelerator is not Accelerator.KVM and policy != "delay":
            raise unsupported(
                f"clock.timers[{index}].tick-policy", "it is one of KVM's timer; this VM has none"
            )
        if context.accelerator is Accelerator.KVM and policy != "catchup":
            yield Option("-global", f"kvm-pit.lost_tick_policy={policy}")
