# SPDX-License-Identifier: LGPL-2.1-or-later
"""Packets through rings, counted from indices of 16 bits that wrap."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpferry.steering.rings import (
    FIRST_PAUSE_S,
    INDICES,
    LONGEST_PAUSE_S,
    SAFE,
    Counter,
    Direction,
    Ring,
    passed,
    waiting,
)

SECOND = 1_000_000_000
RECEIVE, TRANSMIT = Direction.RECEIVE, Direction.TRANSMIT


def ring(used: int, queue: int = 0, way: Direction = RECEIVE) -> Ring:
    """Return a ring with that used index."""
    return Ring(queue, way, 256, used, 10)


@pytest.mark.parametrize(
    ("before", "after", "went"),
    [
        (0, 0, 0),
        (10, 25, 15),
        (65_530, 4, 10),
        (65_535, 0, 1),
        (0, 32_767, 32_767),
        (500, 0, 0),
        (500, 20, 20),
    ],
)
def test_an_index_wraps_or_begins_from_zero(before: int, after: int, went: int) -> None:
    """An index that wrapped went on; one that fell back is of a guest that restarted."""
    assert went == passed(before, after)


@given(st.integers(0, INDICES - 1), st.integers(0, INDICES // 2 - 1))
def test_every_step_that_is_short_enough_is_counted(before: int, step: int) -> None:
    """Wherever an index is, a step of less than half of its values is seen as it was."""
    assert step == passed(before, (before + step) % INDICES)


@pytest.mark.parametrize(
    ("available", "used", "size", "left"),
    [
        (256, 0, 256, 256),
        (5, 65_530, 256, 11),
        (100, 100, 256, 0),
        (100, 101, 256, 0),
        (1000, 100, 256, 256),
    ],
)
def test_what_waits_in_a_ring(available: int, used: int, size: int, left: int) -> None:
    """Never more than the ring has, and nothing if the used index was read later."""
    assert left == waiting(available, used, size)


def test_a_counter_adds_up_over_wraps() -> None:
    """A million packets in steps of ten thousand are a million, although the index wraps."""
    counter = Counter()
    for step in range(101):
        counter.look([ring(step * 10_000 % INDICES)], step * SECOND // 10)

    assert {(0, RECEIVE): 1_000_000} == counter.packets
    assert {(0, RECEIVE): 100_000.0} == counter.rates()


def test_rings_are_counted_apart() -> None:
    """Each queue and each direction has its own number."""
    counter = Counter()
    counter.look([ring(0), ring(0, 1), ring(0, 0, TRANSMIT)], 0)
    counter.look([ring(1), ring(2, 1), ring(3, 0, TRANSMIT)], SECOND)

    assert {(0, RECEIVE): 1, (1, RECEIVE): 2, (0, TRANSMIT): 3} == counter.packets


def test_a_ring_that_appears_later_counts_from_then() -> None:
    """A guest that turns more queues on does not make them begin with what was before."""
    counter = Counter()
    counter.look([ring(0)], 0)
    counter.look([ring(5), ring(40_000, 1)], SECOND)
    counter.look([ring(5), ring(40_002, 1)], 2 * SECOND)

    assert {(0, RECEIVE): 5, (1, RECEIVE): 2} == counter.packets


def test_there_is_no_gap_between_two_intervals() -> None:
    """A new interval begins at the last look of the one before."""
    counter = Counter()
    counter.look([ring(0)], 0)
    counter.look([ring(7)], SECOND)
    counter.restart()
    counter.look([ring(9)], 2 * SECOND)

    assert {(0, RECEIVE): 2} == counter.packets
    assert {(0, RECEIVE): 2.0} == counter.rates()


def test_no_time_is_no_rate() -> None:
    """Before the second look, nothing is divided by zero."""
    counter = Counter()
    counter.look([ring(3)], 7)

    assert {(0, RECEIVE): 0.0} == counter.rates()


def test_the_second_look_comes_soon() -> None:
    """Nobody knows the rate yet."""
    counter = Counter()
    counter.look([ring(0)], 0)

    assert FIRST_PAUSE_S == counter.pause(1.0)


def test_a_quiet_card_is_looked_at_seldom() -> None:
    """Each look costs QEMU some commands."""
    counter = Counter()
    counter.look([ring(0)], 0)
    counter.look([ring(0)], SECOND)

    assert LONGEST_PAUSE_S == counter.pause(1.0)
    assert 0.1 == counter.pause(0.1)


def test_a_fast_card_is_looked_at_before_its_index_has_gone_too_far() -> None:
    """At a million packets a second, the pause is at most a quarter of the index's way."""
    counter = Counter()
    counter.look([ring(0)], 0)
    counter.look([ring(20_000)], SECOND // 50)

    assert pytest.approx(SAFE / 1_000_000) == counter.pause(1.0)
