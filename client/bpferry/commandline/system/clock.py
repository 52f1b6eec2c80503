# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guest's clock and its timers."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from bpferry.commandline.context import Context, mistaken, unsupported
from bpferry.commandline.parts import Environment, Found, Option, Remark, join, on_off
from bpferry.domain.model.accelerator import Accelerator
from bpferry.domain.model.clock import Clock, Timer
from bpferry.domain.names import Named, listed
from bpferry.domain.shown import all_of
from bpferry.errors import Unsupported

TRACKS: Final = {"guest": "vm", "wall": "host", "realtime": "rt"}
"""QEMU's words for what drives the clock."""

TICK_POLICIES: Final = {
    "rtc": ("delay", "catchup"),
    "pit": ("delay", "catchup", "discard"),
    "armvtimer": ("delay", "discard"),
    "kvmclock": (),
    "hypervclock": (),
}
"""What each timer can do with late ticks; for other timers libvirt takes any and ignores it."""

ALWAYS_THERE: Final = ("rtc", "pit", "tsc")

ONLY_MODES: Final = ("auto", "native")
"""How the guest reads the TSC: under KVM it is the processor's own."""


def machine_properties(context: Context) -> dict[str, object]:
    """Return the properties of the machine that come from its timers."""
    timer = _timer(context, "hpet")
    if timer is None or timer.present is None:
        return {}
    return {"hpet": timer.present} if _has_hpet(context) else {}


def _has_hpet(context: Context) -> bool:
    return context.capabilities.has_machine_property(context.machine_type, "hpet")


def check_hpet(context: Context) -> Iterator[Unsupported]:
    """Yield a refusal of a timer that this machine does not have."""
    for part in _timers(context):
        if part.value.name == "hpet" and part.value.present and not _has_hpet(context):
            yield part.refusal(
                "", f"'{context.machine_type}' has no timer 'hpet'", "leave the timer out"
            )


def cpu_words(context: Context) -> Iterator[str | Unsupported]:
    """Yield the properties of ``-cpu`` that come from timers."""
    for part in _timers(context):
        timer = part.value
        if timer.name in ("kvmclock", "hypervclock", "tsc") and not context.is_x86:
            yield part.refusal("", f"'{timer.name}' is for x86 only", "leave the timer out")
        if timer.name == "kvmclock" and timer.present is not None:
            yield f"kvmclock={on_off(timer.present)}"
        elif timer.name == "hypervclock" and timer.present:
            yield "hv-time=on"
        elif timer.name == "tsc" and timer.frequency:
            yield f"tsc-frequency={timer.frequency}"
        elif timer.name == "armvtimer":
            yield from _arm_timer(context, part)


def _arm_timer(context: Context, part: Named[Timer]) -> Iterator[str | Unsupported]:
    timer = part.value
    if context.family != "virt" or timer.present is False:
        yield part.refusal(
            "",
            "Arm's timer exists on the machine 'virt' only, and is always on there",
            "leave the timer out",
        )
    if timer.tick_policy is not None and context.accelerator is Accelerator.KVM:
        yield f"kvm-no-adjvtime={on_off(timer.tick_policy == 'discard')}"


def parts(context: Context) -> Iterator[Found]:
    """Yield the clock and the timers that are not part of machine and processor."""
    clock = context.machine.clock
    yield from _check_clock(clock)
    for part in _timers(context):
        yield from _check(part)
    rtc = _timer(context, "rtc")
    yield Option(
        "-rtc",
        join(
            "",
            base=_base(context),
            clock=TRACKS[rtc.track] if rtc and rtc.track else None,
            driftfix="slew" if rtc and rtc.tick_policy == "catchup" else None,
        ),
    )
    if clock.offset == "timezone" and clock.timezone:
        yield Environment("TZ", clock.timezone)
    yield from _interval_timer(context)
    yield from _remarks(context)


def _timers(context: Context) -> Iterator[Named[Timer]]:
    return listed(context.machine.clock.timers, "clock.timers")


def _timer(context: Context, name: str) -> Timer | None:
    return next((timer for timer in context.machine.clock.timers if timer.name == name), None)


def _base(context: Context) -> str:
    """Return what the clock is set to, in the words of QEMU's option."""
    clock = context.machine.clock
    if clock.offset == "absolute":
        return _written(datetime.fromtimestamp(clock.start or 0, UTC))
    if _is_variable(clock):
        return _written(_ahead(context.now, clock))
    return "utc" if clock.offset == "utc" else "localtime"


def _check_clock(clock: Clock) -> Iterator[Unsupported]:
    if clock.timezone is not None and clock.offset != "timezone":
        yield mistaken(
            "clock.timezone",
            "it is for the offset 'timezone' only",
            "leave it out, or write the offset 'timezone'",
        )
    if clock.start is not None and clock.offset != "absolute":
        yield mistaken(
            "clock.start",
            "it is for the offset 'absolute' only",
            "leave it out, or write the offset 'absolute'",
        )
    if clock.offset == "absolute" and clock.start is None:
        yield mistaken(
            "clock.offset", "an absolute time needs a start", "add the start, in seconds since 1970"
        )
    if clock.adjustment != "reset" and clock.offset in ("timezone", "absolute"):
        yield unsupported(
            "clock.adjustment", "seconds can be added to UTC or to the host's local time only",
            "use the offset 'variable', with its basis",
        )  # fmt: skip


def _is_variable(clock: Clock) -> bool:
    """Say whether the clock has an offset; one in UTC has if there is an adjustment."""
    return clock.offset == "variable" or clock.adjustment != "reset"


def _ahead(now: datetime, clock: Clock) -> datetime:
    """Return the time that the clock shows at *now*, as if it were in UTC."""
    seconds = 0 if clock.adjustment == "reset" else int(clock.adjustment)
    basis = clock.basis if clock.offset == "variable" else clock.offset
    local = now.utcoffset() if basis == "localtime" else None
    try:
        return now.astimezone(UTC) + timedelta(seconds=seconds) + (local or timedelta())
    except OverflowError as error:
        raise mistaken(
            "clock.adjustment",
            f"{seconds} seconds from now is a date out of range",
            "write fewer seconds",
        ) from error


def _written(time: datetime) -> str:
    # strftime would leave out the leading zero of a year such as 970.
    return time.replace(tzinfo=None, microsecond=0).isoformat()


def _check(part: Named[Timer]) -> Iterator[Unsupported]:
    timer = part.value
    possible = TICK_POLICIES.get(timer.name)
    if timer.tick_policy is not None and possible is not None and timer.tick_policy not in possible:
        words = f"it has {all_of(possible)}" if possible else "it has none"
        yield part.refusal(
            "tick-policy",
            f"'{timer.name}' has no such policy: {words}",
            "choose one of these, or leave it out",
        )
    if timer.track is not None and timer.name != "rtc":
        yield part.mistake("track", "it is for the timer 'rtc' only", "leave it out")
    if timer.frequency is not None and timer.name != "tsc":
        yield part.mistake("frequency", "it is for the timer 'tsc' only", "leave it out")
    if timer.mode is not None and timer.name != "tsc":
        yield part.mistake("mode", "it is for the timer 'tsc' only", "leave it out")
    if timer.catchup is not None and timer.tick_policy != "catchup":
        yield part.mistake(
            "catchup",
            "it is for the tick policy 'catchup' only",
            "leave it out, or write the tick policy 'catchup'",
        )


def _interval_timer(context: Context) -> Iterator[Option]:
    """Yield what happens to late ticks of the PIT, which KVM emulates itself.

    KVM's PIT catches up by default; QEMU's own delivers them late in any case.
    """
    timer = _timer(context, "pit")
    if timer is not None and context.accelerator is Accelerator.KVM:
        policy = timer.tick_policy or "delay"
        if policy != "catchup":
            yield Option("-global", f"kvm-pit.lost_tick_policy={policy}")


def _remarks(context: Context) -> Iterator[Remark]:
    """Yield what the user is told of settings that change nothing, in libvirt as well."""
    for part in _timers(context):
        for field, sentence in _without_effect(context, part.value):
            yield Remark(f"it has no effect: {sentence}", "", f"{part.key}.{field}")
    if _is_variable(context.machine.clock):
        text = "what the guest sets its clock to is not kept for its next start"
        yield Remark(text, "", "clock.adjustment")


def _without_effect(context: Context, timer: Timer) -> Iterator[tuple[str, str]]:
    kvm = context.accelerator is Accelerator.KVM
    if timer.present is False and timer.name in ALWAYS_THERE:
        yield "present", f"QEMU's machines always have the timer '{timer.name}'"
    if timer.tick_policy is not None and timer.name in ("hpet", "tsc"):
        yield "tick-policy", f"QEMU has none for the timer '{timer.name}'"
    if timer.name == "pit" and not kvm and timer.tick_policy not in (None, "delay"):
        yield "tick-policy", "it is a policy of KVM's timer, and this VM runs with TCG"
    if timer.name == "armvtimer" and not kvm and timer.tick_policy is not None:
        yield "tick-policy", "it is a policy of KVM's timer, and this VM runs with TCG"
    if timer.catchup is not None:
        yield "catchup", "QEMU catches up at a rate of its own"
    if timer.mode is not None and timer.mode not in ONLY_MODES:
        yield "mode", "the guest reads the time-stamp counter that the accelerator gives it"
