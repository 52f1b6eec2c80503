# SPDX-License-Identifier: LGPL-2.1-or-later
"""Worker threads for slow jobs, so that the loop that serves all clients never waits.

The user who was served longest ago comes first. So sixteen waiting requests of one user do not
delay the single request of another, and a user who asks now and then does not wait for many who ask
all the time. ctypes releases the GIL, so two loads really run at the same time.

Work that nobody has asked for yet, such as loading sets ahead, is done when no worker has anything
else to do, one piece at a time. So one worker is always free of it, and who waits for the other one
does not wait for longer than a load, of which the result is then there for them. It has no lower
priority: a thread that holds the GIL and gets no CPU would hold up the loop.

There is also a pace of what all users together may start of the expensive jobs. Those who have to
wait for it take turns in the same way, and cheap jobs of other users are done meanwhile.
"""

import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Condition, Thread
from typing import Final, NamedTuple

from bpferry_helper.log import ERROR, log
from bpferry_helper.rate import ALL, TokenBuckets

WORKERS: Final = 2
"""Jobs at the same time. More would not be faster on two processors. The unit's TasksMax= counts
these threads and the main one."""


QUIET_S: Final = 0.25
"""From a paced request until work ahead: a VM's cards ask and its QEMU starts meanwhile."""

MAX_SERVED: Final = 4096
"""Users for whom we remember when their last job began; with more, all are forgotten."""


NOBODYS: Final = -1
"""Instead of a uid, of jobs that no user asked for. 0 is root's."""

NEVER: Final = float("inf")


class Job(NamedTuple):
    """What to do for ``uid``, and which connection gets the result of ``run``."""

    uid: int
    connection: int
    run: Callable[[], object]
    pace: tuple[int, int] | None = None
    """That all users' jobs of this kind have together."""
    until: float = NEVER
    """After this moment nobody waits for the result, and the job is not begun any more."""


class Done(NamedTuple):
    """The end of a job: what ``run`` returned, or what it raised."""

    connection: int
    result: object
    error: BaseException | None


class Workers:
    """Runs jobs, and signals through ``wake_fd`` that there are results."""

    def __init__(self, work_ahead: Callable[[], float | None] = lambda: None) -> None:
        """Call *work_ahead* when there is nothing to do; see ``exchange``."""
        self.wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        """Readable when there are results. Owned by this object and never closed."""
        self._waiting: dict[int, deque[Job]] = {}
        self._running: dict[int, float] = {}
        self._served: dict[int, float] = {}
        """By uid: when the user's last job began."""
        self._bucket = TokenBuckets()
        """For jobs with a pace; those of one helper all have the same."""
        self._work_ahead = work_ahead
        self._ahead_at = NEVER
        """When to work ahead."""
        self._done: deque[Done] = deque()
        self._changed = Condition()
        for number in range(WORKERS):
            Thread(target=self._work, args=(number,), name=f"load-{number}", daemon=True).start()

    def submit(self, job: Job) -> None:
        """Queue *job* behind those of the same user."""
        with self._changed:
            self._waiting.setdefault(job.uid, deque()).append(job)
            self._changed.notify()

    def pass_by(self, uid: int, pace: tuple[int, int]) -> bool:
        """Take the turn of *uid* for what needs no worker; False if others wait for theirs."""
        with self._changed:
            if self._waiting or self._bucket.take(ALL, *pace):
                return False
            self._note_served(uid)
            return True

    def work_ahead_soon(self) -> None:
        """Work ahead when it is quiet."""
        at = time.monotonic() + QUIET_S
        with self._changed:
            if at < self._ahead_at:
                self._ahead_at = at
                self._changed.notify()

    def results(self) -> list[Done]:
        """Return the jobs done since the last call, and reset ``wake_fd``."""
        # Nothing hangs on it: it is only read so that it is not readable any more.
        with suppress(OSError):
            os.eventfd_read(self.wake_fd)
        with self._changed:
            done = list(self._done)
            self._done.clear()
        return done

    def oldest_s(self) -> float:
        """Return how many seconds the oldest running job has been running; 0.0 if none is."""
        with self._changed:
            started = min(self._running.values(), default=None)
        return 0.0 if started is None else time.monotonic() - started

    def _work(self, number: int) -> None:
        while True:
            with self._changed:
                while (job := self._next() or self._ahead()) is None:
                    self._changed.wait(self._pause_s())
                self._running[number] = time.monotonic()
            done = _run(job)
            with self._changed:
                del self._running[number]
                if job.run == self._go_ahead:
                    continue
                self._done.append(done)
            # Without it, the loop finds the result when it looks next; without us, never.
            with suppress(OSError):
                os.eventfd_write(self.wake_fd, 1)

    def _ahead(self) -> Job | None:
        """Return work ahead if it is time for some, and no other worker works."""
        if self._running or self._waiting or time.monotonic() < self._ahead_at:
            return None
        self._ahead_at = NEVER
        return Job(NOBODYS, 0, self._go_ahead)

    def _go_ahead(self) -> None:
        try:
            again_s = self._work_ahead()
        except Exception as error:  # noqa: BLE001 - a worker must outlive any job
            log_fault("working ahead", error)
            return
        if again_s is not None:
            with self._changed:
                self._ahead_at = min(self._ahead_at, time.monotonic() + again_s)

    def _pause_s(self) -> float | None:
        """Return how long to wait for a job that may start, or None until something changes."""
        waits = [self._wait_s(jobs[0]) for jobs in self._waiting.values()]
        if self._ahead_at < NEVER and not self._running:
            waits.append(max(0.0, self._ahead_at - time.monotonic()))
        return min(waits, default=None)

    def _wait_s(self, job: Job) -> float:
        """Return the seconds until the pace of all users lets *job* start."""
        return self._bucket.wait_s(ALL, *job.pace) if job.pace else 0.0

    def _next(self) -> Job | None:
        """Take the first job of the user who was served longest ago, of those that may start."""
        self._drop_late()
        ready = (uid for uid, jobs in self._waiting.items() if not self._wait_s(jobs[0]))
        uid = min(ready, key=lambda waiting: self._served.get(waiting, 0.0), default=None)
        if uid is None:
            return None
        jobs = self._waiting[uid]
        job = jobs.popleft()
        if job.pace:
            self._bucket.take(ALL, *job.pace)
        if not jobs:
            del self._waiting[uid]
        self._note_served(uid)
        return job

    def _note_served(self, uid: int) -> None:
        if len(self._served) >= MAX_SERVED:
            self._served.clear()
        self._served[uid] = time.monotonic()

    def _drop_late(self) -> None:
        """Drop jobs whose clients were told that it takes too long: they may have asked again."""
        now = time.monotonic()
        for uid, jobs in list(self._waiting.items()):
            while jobs and jobs[0].until <= now:
                jobs.popleft()
            if not jobs:
                del self._waiting[uid]


def _run(job: Job) -> Done:
    try:
        return Done(job.connection, job.run(), None)
    except Exception as error:  # noqa: BLE001 - a worker must outlive any job
        # A RequestError is an answer; anything else is a bug and is answered as one.
        return Done(job.connection, None, error)


def log_fault(what: str, error: BaseException) -> None:
    """Log a bug that we survived, and where it happened."""
    tb = error.__traceback__
    while tb is not None and tb.tb_next is not None:
        tb = tb.tb_next
    where = f"{tb.tb_frame.f_code.co_filename}:{tb.tb_lineno}" if tb else "nowhere"
    log(ERROR, f"{what}: {type(error).__name__}: {error} at {where}")
