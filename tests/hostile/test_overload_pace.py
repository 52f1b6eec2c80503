# SPDX-License-Identifier: LGPL-2.1-or-later
"""The pace of all users together: it bounds what they cost, and nobody can use it up for others."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import pytest

from bpferry_helper.pacing import _Line
from bpferry_helper.rate import FairPace, Pace
from bpferry_helper.work import WORKERS, Job, Workers
from bpferry_wire.errors import Code
from bpferry_wire.messages import ErrorReply, Hello, HelloReply, Load
from bpferry_wire.packets import encode_request
from tests.support.census import wait_until
from tests.support.helper_process import NO_LIMITS, running_helper
from tests.support.people import BOB, Person, ask_once, connect, take
from tests.support.workers import end, hold_up, order_of

SLOW = Pace(at_once=2, per_second=20)


@pytest.fixture
def workers() -> Iterator[Workers]:
    """Yield workers; their threads wait for ever, as in the helper."""
    workers = Workers()
    yield workers
    end(workers)


@pytest.mark.parametrize(("pace", "least_s"), [(SLOW, 18 / 20), (None, 0.0)])
def test_all_users_together_start_no_more_than_the_pace(
    workers: Workers, pace: Pace | None, least_s: float
) -> None:
    """Ten of them, two jobs each. The control: without a pace they are all done at once."""
    started = time.monotonic()
    for number in range(20):
        workers.submit(Job(number % 10, number, lambda: None, pace))
    order_of(workers, 20)
    took_s = time.monotonic() - started

    assert took_s >= least_s * 0.95
    assert pace or took_s < 18 / 20


def test_a_user_who_takes_all_of_the_pace_takes_no_other_s_turn(workers: Workers) -> None:
    """Sixteen jobs wait, and who comes then is next. The control: their last one is last."""
    gate = threading.Event()
    hold_up(workers, gate, pace=SLOW)
    for number in range(16):
        workers.submit(Job(1, number, lambda: None, SLOW))
    workers.submit(Job(2, 100, lambda: None, SLOW))
    gate.set()
    order = order_of(workers, WORKERS + 17)

    assert order.index(100) <= 4
    assert order[-1] in (14, 15)


def test_what_costs_little_does_not_wait_for_the_pace(workers: Workers) -> None:
    """While sixteen jobs of another user do."""
    gate = threading.Event()
    hold_up(workers, gate, pace=SLOW)
    for number in range(16):
        workers.submit(Job(1, number, lambda: None, SLOW))
    workers.submit(Job(2, 100, lambda: None))
    gate.set()

    assert order_of(workers, WORKERS + 17).index(100) <= 4


def test_what_nobody_waits_for_any_more_is_not_done(workers: Workers) -> None:
    """Who was told `busy` asks again, so the old job would be done in vain, and delay others.

    The control: without a deadline all are done.
    """
    done: list[int] = []
    until = time.monotonic() + 0.2
    for number in range(16):
        workers.submit(Job(1, number, partial(done.append, number), SLOW, until))
    time.sleep(0.3)
    workers.submit(Job(1, 100, partial(done.append, 100), SLOW))

    assert wait_until(lambda: 100 in done)
    assert 2 <= len(done) - 1 <= 8
    assert done[-1] == 100


# -- those who wait for the pace of requests

MANY = 64


def always(_number: int) -> bool:
    """Say that the connection is open."""
    return True


class Counting(FairPace):
    """A pace that counts how often it is asked."""

    asked = 0

    def take(self, uid: int) -> float:
        """Count, and do as the other."""
        self.asked += 1
        return super().take(uid)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time, which the test moves."""
    now = [100.0]
    monkeypatch.setattr("bpferry_helper.rate.time.monotonic", lambda: now[0])
    return now


def test_users_take_turns_for_what_all_share(clock: list[float]) -> None:
    """Sixteen of one user wait, then one of another comes. One user's stay in order."""
    line = _Line(FairPace(Pace(1, 1), Pace(1, 100)), always)
    assert line.lets_pass(2, 200)
    passed = [line.lets_pass(1, number) for number in range(18)]
    assert not line.lets_pass(2, 201)
    gone = []
    for _ in range(6):
        clock[0] += 0.01
        gone += line.let_go()

    assert passed == [True, True] + [False] * 16
    assert gone == [2, 201, 3, 4, 5, 6]


def test_a_token_is_not_asked_for_by_all_who_wait(clock: list[float]) -> None:
    """64 users with sixteen connections each. The control: each of them that asked alone."""
    pace = Counting(Pace(1, 1), Pace(1, 100))
    line = _Line(pace, always)
    waiting = [
        (uid, number)
        for number in range(16)
        for uid in range(MANY)
        if not line.lets_pass(uid, number)
    ]
    pace.asked = 0
    clock[0] += 0.01
    gone = line.let_go()

    assert (len(gone), len(line.let_go())) == (1, 0)
    assert pace.asked <= 2 * MANY < len(waiting)


def test_a_connection_that_was_closed_takes_no_token(clock: list[float]) -> None:
    """Its user has 2 to 17 waiting, of which only the last is open. The control: all are."""
    gone = []
    for is_open in (lambda number: number == 17, always):
        line = _Line(FairPace(Pace(1, 1), Pace(1, 100)), is_open)
        for number in range(18):
            line.lets_pass(1, number)
        clock[0] += 0.01
        gone.append(line.let_go())

    assert gone == [[17], [2]]


PEOPLE = tuple(Person(1_700_010 + number) for number in range(4))
TEN_A_SECOND = NO_LIMITS.replace("in-total = 1000", "in-total = 10")
"""Four seconds' worth of them at once."""


@pytest.mark.privileged
@pytest.mark.kernel
def test_loads_beyond_the_pace_of_all_wait_and_none_is_refused() -> None:
    """Sixteen of each of four users, for an object that nobody has. Others are greeted at once."""
    load = Load("rss", bytes(32))
    with running_helper(TEN_A_SECOND) as helper, ExitStack() as stack:
        for person in (*PEOPLE, BOB):
            ask_once(helper.path, Hello(), person).fds.close()
        socks = [
            stack.enter_context(connect(helper.path, person))
            for person in PEOPLE
            for _ in range(16)
        ]
        started = time.monotonic()
        for sock in socks:
            sock.send(encode_request(load))
        greeted = ask_once(helper.path, Hello(), BOB).reply
        greeted_s = time.monotonic() - started
        replies = [take(sock, load).reply for sock in socks]
        took_s = time.monotonic() - started

    codes = [reply.code for reply in replies if isinstance(reply, ErrorReply)]
    assert codes == [Code.UNKNOWN_OBJECT] * 64
    assert isinstance(greeted, HelloReply)
    assert greeted_s < took_s / 2
    assert took_s > (64 - 40) / 10 * 0.95
