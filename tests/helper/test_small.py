# SPDX-License-Identifier: LGPL-2.1-or-later
"""The helper's small modules: log, rate, work."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpferry_helper import rate
from bpferry_helper.log import ERROR, INFO, log
from bpferry_helper.rate import TokenBuckets
from bpferry_helper.work import QUIET_S, WORKERS, Job, Workers, log_fault
from tests.support.census import wait_until
from tests.support.late_writes import late_writes
from tests.support.workers import end, hold_up, order_of

# -- log


@pytest.mark.parametrize(
    "text", ["a\n<0>b", "a\rb", "a\x1b[2Jb", "a\0b", "a\u2028b", "a\ud800b", "a\x85b"]
)
def test_nobody_forges_a_line(capfd: pytest.CaptureFixture[str], text: str) -> None:
    """Whatever a client says is one line of printable characters."""
    log(INFO, f"refused: {text}")
    written = capfd.readouterr().err

    assert (
        len(written.splitlines()),
        written.rstrip("\n").isprintable(),
        written[:13],
    ) == (1, True, "bpferry-helpe")


def test_the_journal_gets_priorities(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where systemd connected standard error, a line begins as sd-daemon(3) says."""
    found = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    log(INFO, "granted")

    assert capfd.readouterr().err == "<6>granted\n"


@pytest.mark.parametrize("stream", ["", "1:1"])
def test_a_person_gets_words(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    """Also below a unit whose journal this standard error is not."""
    monkeypatch.setenv("JOURNAL_STREAM", stream)
    log(ERROR, "no socket was passed in")

    assert capfd.readouterr().err == "bpferry-helper: error: no socket was passed in\n"


def test_a_journal_that_is_full_does_not_end_the_helper() -> None:
    """There is nobody left to tell."""
    kept = os.dup(2)
    try:
        with Path("/dev/full").open("wb") as full:
            os.dup2(full.fileno(), 2)
            log(INFO, "x")
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def test_a_fault_is_logged_with_its_place(capfd: pytest.CaptureFixture[str]) -> None:
    """Type, message, file and line."""
    try:
        raise KeyError("missing")  # noqa: TRY301 - an error needs a place
    except KeyError as error:
        log_fault("serving", error)

    assert "serving: KeyError: 'missing' at " in capfd.readouterr().err


# -- rate


class Clock:
    """A clock that the test moves."""

    now = 100.0

    def monotonic(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Put a clock in place of the real one."""
    clock = Clock()
    monkeypatch.setattr(rate, "time", clock)
    return clock


def test_a_burst_is_allowed_and_no_more(clock: Clock) -> None:
    """Four at once, then it says how long to wait."""
    buckets = TokenBuckets()

    assert [buckets.take(1, 4, 2) for _ in range(5)] == [0.0, 0.0, 0.0, 0.0, 0.5]
    assert clock.now == 100.0


def test_waiting_as_told_is_enough(clock: Clock) -> None:
    """The hint to the client is true."""
    buckets = TokenBuckets()
    for _ in range(4):
        buckets.take(1, 4, 2)
    clock.now += buckets.take(1, 4, 2)

    assert buckets.take(1, 4, 2) == 0.0


def test_waiting_long_does_not_save_up(clock: Clock) -> None:
    """No more than a burst, however long one was quiet."""
    buckets = TokenBuckets()
    buckets.take(1, 4, 2)
    clock.now += 3600

    assert [buckets.take(1, 4, 2) > 0 for _ in range(5)] == [False] * 4 + [True]


def test_one_user_s_pace_is_not_another_s(clock: Clock) -> None:
    """Each has an own bucket."""
    buckets = TokenBuckets()
    for _ in range(9):
        buckets.take(1, 4, 2)

    assert (buckets.take(2, 4, 2), clock.now) == (0.0, 100.0)


def test_the_number_of_buckets_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many users do not fill the helper's memory, and the emptiest bucket is kept."""
    monkeypatch.setattr(rate, "MAX_BUCKETS", 10)
    buckets = TokenBuckets()
    for _ in range(5):
        buckets.take(1, 4, 2)
    for uid in range(2, 50):
        clock.now += 0.001
        buckets.take(uid, 4, 2)

    assert (buckets.take(1, 4, 2) > 0, len(buckets._buckets)) == (True, 10)


# -- work


@pytest.fixture
def workers() -> Iterator[Workers]:
    """Yield workers; their threads wait for ever, as in the helper."""
    workers = Workers()
    yield workers
    end(workers)


def test_a_worker_that_writes_late_writes_into_no_other_test_s_fd(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The eventfd is closed after that, though the result could be had before."""
    written = late_writes(monkeypatch)
    workers = Workers()
    workers.submit(Job(1, 7, lambda: None))
    order_of(workers, 1)
    end(workers)

    assert [workers.wake_fd] == written


def test_users_take_turns(workers: Workers) -> None:
    """Who asks once does not wait for all of somebody who asked sixteen times."""
    gate = threading.Event()
    hold_up(workers, gate)
    for number in range(16):
        workers.submit(Job(1, number, lambda: None))
    workers.submit(Job(2, 200, lambda: None))
    gate.set()

    assert order_of(workers, WORKERS + 17).index(200) <= 4


class Ahead:
    """Workers whose work ahead waits for *gate*, and how often it was begun."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.begun = 0
        self.again_s: float | None = None
        self.workers = Workers(self._work)

    def _work(self) -> float | None:
        self.begun += 1
        self.gate.wait()
        return self.again_s


@pytest.fixture
def ahead() -> Iterator[Ahead]:
    """Yield workers that have work ahead."""
    ahead = Ahead()
    yield ahead
    ahead.gate.set()
    end(ahead.workers)


def test_work_ahead_begins_when_it_was_quiet(ahead: Ahead) -> None:
    """Not before somebody asked, and not at once."""
    time.sleep(2 * QUIET_S)
    before = ahead.begun
    then = time.monotonic()
    ahead.workers.work_ahead_soon()

    assert wait_until(lambda: ahead.begun == 1)
    assert (0, True) == (before, time.monotonic() - then >= QUIET_S)


def test_one_piece_of_work_ahead_is_done_at_a_time(ahead: Ahead) -> None:
    """The other worker is free for who asks, however often somebody does."""
    ahead.workers.work_ahead_soon()
    assert wait_until(lambda: ahead.begun == 1)
    ahead.workers.work_ahead_soon()
    time.sleep(2 * QUIET_S)
    ahead.workers.submit(Job(1, 7, lambda: None))

    assert ([7], 1) == (order_of(ahead.workers, 1), ahead.begun)


def test_work_ahead_waits_while_a_user_s_job_is_done(ahead: Ahead) -> None:
    """Also if the other worker has nothing to do."""
    gate = threading.Event()
    ahead.workers.submit(Job(1, 7, gate.wait))
    ahead.workers.work_ahead_soon()
    time.sleep(2 * QUIET_S)
    before = ahead.begun
    gate.set()

    assert wait_until(lambda: ahead.begun == 1)
    assert before == 0


def test_work_ahead_goes_on_when_it_wants_to(ahead: Ahead) -> None:
    """After as many seconds as it says, and its end wakes nobody up."""
    ahead.again_s = 0.01
    ahead.gate.set()
    ahead.workers.work_ahead_soon()
    went_on = wait_until(lambda: ahead.begun > 3)
    ahead.again_s = None

    assert (True, []) == (went_on, ahead.workers.results())


def test_a_fault_ahead_ends_no_worker(capfd: pytest.CaptureFixture[str]) -> None:
    """It is logged, and users are served."""
    workers = Workers(lambda: 1 // 0)
    workers.work_ahead_soon()
    logged = wait_until(lambda: "working ahead: ZeroDivisionError" in capfd.readouterr().err)
    for number in range(4):
        workers.submit(Job(1, number, lambda: None))

    assert (True, 4) == (logged, len(order_of(workers, 4)))
    end(workers)


def test_who_needs_no_worker_passes_nobody_who_waits(workers: Workers) -> None:
    """Whoever waits, and for whatever."""
    gate = threading.Event()
    for number in range(3):
        workers.submit(Job(2, number, gate.wait))
    while_one_waits = workers.pass_by(1, (1000, 1000))
    gate.set()
    order_of(workers, 3)

    assert (False, True) == (while_one_waits, workers.pass_by(1, (1000, 1000)))


def test_who_needs_no_worker_takes_part_in_the_pace_of_all(workers: Workers) -> None:
    """As many as for those who need one."""
    workers.submit(Job(2, 7, lambda: None, (2, 1)))
    order_of(workers, 1)

    assert [True, False] == [workers.pass_by(1, (2, 1)) for _ in range(2)]


def test_one_user_s_jobs_stay_in_order(workers: Workers) -> None:
    """First come, first taken, among equals. Of two workers, the second may overtake the first."""
    gate = threading.Event()
    hold_up(workers, gate, WORKERS - 1)
    for number in range(20):
        workers.submit(Job(1, number, lambda: None))
    order = order_of(workers, 20)
    gate.set()

    assert order == list(range(20))


def test_two_jobs_run_at_the_same_time(workers: Workers) -> None:
    """Each waits for the other; one alone would never end."""
    barrier = threading.Barrier(2)
    for number in range(2):
        workers.submit(Job(number, number, lambda: barrier.wait(10)))

    assert {0, 1} == set(order_of(workers, 2))


def test_a_job_that_fails_is_a_result(workers: Workers) -> None:
    """Its error is handed on, and the worker takes the next job."""
    for _ in range(4):
        workers.submit(Job(1, 7, lambda: 1 // 0))
    errors: list[type] = []
    while len(errors) < 4:
        errors += [type(done.error) for done in workers.results()]
        time.sleep(0.002)

    assert [ZeroDivisionError] * 4 == errors


def test_a_stuck_job_is_seen(workers: Workers) -> None:
    """The watchdog is not told that all is well while a load hangs."""
    gate = threading.Event()
    idle = workers.oldest_s()
    workers.submit(Job(1, 7, gate.wait))
    stuck = wait_until(lambda: workers.oldest_s() >= 0.1)
    gate.set()
    order_of(workers, 1)

    assert (idle, stuck) == (0.0, True)
