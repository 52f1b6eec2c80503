# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guest's clock and its timers."""

from typing import Annotated, Final, Literal

import msgspec

from bpferry.domain.binding import At, Form, Placed, Table

MAX_START: Final = 253402300799
"""The last second of the year 9999; QEMU reads four digits."""


Hertz = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

ZoneName = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[a-zA-Z0-9_.+/-]+$", description="the name of a time zone, such as Europe/Berlin"
    ),
]


Adjustment = Annotated[
    str, msgspec.Meta(pattern=r"^(reset|[+-]?[0-9]{1,12})$", description="'reset', or seconds")
]

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Catchup(Table, frozen=True, kw_only=True):
    """How fast late ticks are made up for. As in libvirt, it has no effect: QEMU decides."""

    threshold: Placed[Count | None, At("@threshold")] = None
    slew: Placed[Count | None, At("@slew")] = None
    limit: Placed[Count | None, At("@limit")] = None


class Timer(Table, frozen=True, kw_only=True):
    """One source of time."""

    name: Placed[
        Literal["rtc", "pit", "hpet", "kvmclock", "hypervclock", "tsc", "armvtimer"], At("@name")
    ]
    present: Placed[bool | None, At("@present", Form.YES_NO)] = None
    tick_policy: Placed[
        Literal["delay", "catchup", "discard", "merge", None], At("@tickpolicy")
    ] = None
    """What happens to ticks that could not be delivered in time."""
    track: Placed[Literal["guest", "wall", "realtime", None], At("@track")] = None
    frequency: Placed[Hertz | None, At("@frequency")] = None
    mode: Placed[Literal["auto", "native", "emulate", "paravirt", "smpsafe", None], At("@mode")] = (
        None
    )
    """How the guest reads the TSC. Has no effect: KVM and TCG have one way each."""
    catchup: Placed[Catchup | None, At("catchup")] = None


class Clock(Table, frozen=True, kw_only=True):
    """What the guest's clock is set to."""

    offset: Placed[
        Literal["utc", "localtime", "timezone", "absolute", "variable"],
        At("@offset", always=True),
    ] = "utc"
    timezone: Placed[ZoneName | None, At("@timezone")] = None
    start: Placed[Annotated[int, msgspec.Meta(ge=0, le=MAX_START)] | None, At("@start")] = None
    """Seconds since 1970, if the offset is absolute."""
    adjustment: Placed[Adjustment, At("@adjustment")] = "reset"
    """Seconds that the clock is ahead of UTC or of the host's local time, or ``reset`` for none.
    What the guest sets is not kept for its next start."""
    basis: Placed[Literal["utc", "localtime"], At("@basis")] = "utc"
    """What a variable clock is relative to."""
    timers: Placed[tuple[Timer, ...], At("timer")] = ()
