# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the bench makes of its measurements."""

import pytest

from benchmarks.__main__ import exit_status
from benchmarks.figures import Figures, Memory, Times, percentile, rows, verdicts

MS = 1_000_000


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([7], 50, 7),
        ([7], 99, 7),
        ([3, 1, 2], 50, 2),
        ([4, 3, 2, 1], 50, 2),
        (list(range(1, 101)), 99, 99),
        (list(range(1, 201)), 99, 198),
    ],
)
def test_percentile(values: list[int], percent: int, expected: int) -> None:
    """A percentile is one of the values: the smallest that so many do not exceed."""
    assert expected == percentile(values, percent)


def figures(load_ms: list[int], two_ms: list[int], cold_ms: list[int], now_kib: int) -> Figures:
    """Return figures in which C takes 100 ms for whatever it does."""
    c = [100 * MS] * len(load_ms)
    times = Times(
        load=[ms * MS for ms in load_ms],
        c_load=c,
        two=[ms * MS for ms in two_ms],
        c_two=c,
        hello=c,
        floor=c,
        ready=c,
        ready_floor=c,
        cold=[ms * MS for ms in cold_ms],
        c_cold=[100 * MS] * len(cold_ms),
    )
    return Figures(times, Memory(now_kib, now_kib))


def test_just_met() -> None:
    """What is exactly at its limit is met."""
    wanted = verdicts(figures([110] * 3, [143] * 3, [160], 18 * 1024))

    assert [verdict.value for verdict in wanted] == [10, 60, 18, 1.3]
    assert [verdict.met for verdict in wanted] == [True] * 4


def test_just_missed() -> None:
    """What is a little above its limit is missed."""
    wanted = verdicts(figures([111] * 3, [145] * 3, [161], 18 * 1024 + 1))

    assert [verdict.met for verdict in wanted] == [False] * 4


def test_one_slow_run_decides_nothing() -> None:
    """A run during which the machine was busy with something else does not move a verdict."""
    wanted = verdicts(figures([105, 105, 900], [110, 110, 990], [150, 150, 900], 1024))

    assert [verdict.met for verdict in wanted] == [True] * 4


def test_drift_cancels() -> None:
    """The helper is compared with C as it was right before, not with C as it was on average."""
    drifting = figures([0, 0, 0], [100] * 3, [100], 1024)
    drifting.times.load[:] = [110 * MS, 405 * MS, 305 * MS]
    drifting.times.c_load[:] = [100 * MS, 400 * MS, 200 * MS]

    assert next(v.value for v in verdicts(drifting) if v.key == "load_over_c") == 10


def test_rows() -> None:
    """A row counts its runs and shows milliseconds."""
    load = next(row for row in rows(figures([1, 2, 3], [1, 1, 1], [1], 1)) if row.key == "load")

    assert (load.count, load.p50_ms, load.p99_ms) == (3, 2.0, 3.0)


@pytest.mark.parametrize(
    ("check", "all_met", "expected"),
    [(False, False, 0), (False, True, 0), (True, True, 0), (True, False, 1)],
)
def test_exit_status(check: bool, all_met: bool, expected: int) -> None:  # noqa: FBT001 - a table
    """To miss something is a failure with --check only."""
    assert expected == exit_status(check=check, all_met=all_met)
