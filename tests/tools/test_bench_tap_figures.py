# SPDX-License-Identifier: LGPL-2.1-or-later
"""What tools/bench tap makes of its measurements."""

from benchmarks.figures import Memory
from benchmarks.tap_figures import TapFigures, as_table

MS = 1_000_000
COUNTS = (10, 100, 1000)


def figures() -> TapFigures:
    """Return figures in which everything is exactly at its limit."""
    made = TapFigures(COUNTS, memory=Memory(0, 40 * 1024))
    for kind, ms in (("tap", 12), ("rival", 4), ("no_pause", 12), ("cold", 350)):
        made.of(kind).extend([ms * MS] * 3)
    for count in COUNTS:
        for kind, ms in (("tap_with", 6), ("none_with", 4), ("rival_with", 4), ("quota_with", 1)):
            made.of(kind, count).extend([ms * MS] * 3)
    made.of("cold_with", 1000).extend([350 * MS] * 3)
    return made


def missed(made: TapFigures) -> set[str]:
    """Return what is not as wanted."""
    return {verdict.key for verdict in made.verdicts() if not verdict.met}


def test_just_met() -> None:
    """What is exactly at its limit is met."""
    assert missed(figures()) == set()


def test_just_missed() -> None:
    """What is a little above its limit is missed."""
    made = figures()
    for kind, count in (("tap", 0), ("cold", 0), ("cold_with", 1000), ("tap_with", 1000)):
        made.of(kind, count)[:] = [ns + 1 for ns in made.of(kind, count)]
    made.memory, made.idle = Memory(0, 40 * 1024 + 1), Memory(1, 1)

    assert missed(made) == {"tap_to_rival", "cold", "cold_with", "more", "memory", "idle"}


def test_more_than_linear() -> None:
    """A request that takes more than ten times as long with ten times as many taps is missed."""
    made = figures()
    made.of("tap_with", 100)[:] = [4 * MS] * 3
    made.of("tap_with", 1000)[:] = [41 * MS] * 3

    assert missed(made) == {"more", "linear"}


def test_drift_cancels() -> None:
    """What many taps cost is asked of each pair, not of what it was on average."""
    made = figures()
    made.of("none_with", 1000)[:] = [4 * MS, 400 * MS, 40 * MS]
    made.of("tap_with", 1000)[:] = [5 * MS, 402 * MS, 49 * MS]

    assert next(v.value for v in made.verdicts() if v.key == "more") == 2


def test_one_slow_run_decides_nothing() -> None:
    """A run during which the machine was busy with something else does not move a verdict."""
    made = figures()
    for timed in made.timed.values():
        if not timed.kind.startswith(("rival", "none")):
            timed.values[0] = 9000 * MS

    assert missed(made) == set()


def test_rows_by_count() -> None:
    """Within a section the table goes from few taps to many, and each row has a number."""
    with_taps = [row.key for row in figures().rows() if row.key.startswith("tap_with")]

    assert with_taps == ["tap_with_10", "tap_with_100", "tap_with_1000"]
    assert "warm, with 1,000 taps" in as_table(figures())
