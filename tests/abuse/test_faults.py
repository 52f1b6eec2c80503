# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each system call that a request makes fails once with each error: a helper answers afterwards.

The client gets what it asked for, an error, or a closed connection, and soon. The helper is the
same process as before, holds what it held before, and serves the next client.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from bpferry_helper.tap.service import LISTS_PER_SECOND
from bpferry_wire.errors import PeerClosed
from bpferry_wire.messages import (
    Create,
    Delete,
    DeleteReply,
    ErrorReply,
    Hello,
    ListReply,
    ListTaps,
    Load,
    Quota,
    Request,
)
from tests.abuse.amounts import amount
from tests.abuse.faults import (
    CANNOT_FAIL,
    ERRORS,
    NOT_IN_THE_LOOP,
    NOT_TRIED,
    Fault,
    Threads,
    Trace,
    traced,
)
from tests.support.census import fd_targets, wait_until
from tests.support.helper_process import HelperProcess, left_alive, running_helper
from tests.support.people import Answered, ask_once
from tests.support.tap_process import TapProcess, running_tap_helper, tap_on

pytestmark = [pytest.mark.privileged, pytest.mark.kernel, pytest.mark.qemu, pytest.mark.slow]

FAULTS_EACH: Final = amount(1, 99)
"""Errors of each call, and which call of a name: the first, or every one."""

WARM_UP: Final = 3
"""Requests after which nothing is done for the first time."""

TRIES: Final = 3

LOAD, TAP, CREATE, CHEAP, CHEAP_OF_TAPS = "load", "tap", "create", "cheap", "cheap, of taps"


def requests(kind: str, digest: bytes) -> list[Request]:
    """Return what is asked, of the helper that it is for."""
    asked: dict[str, list[Request]] = {
        LOAD: [Load("rss", digest)],
        TAP: [tap_on()],
        CREATE: [Create(tap_on())],
        CHEAP: [Hello(), Quota()],
        CHEAP_OF_TAPS: [Hello(), Quota()],
    }
    return asked[kind]


class Victim:
    """A helper of which one call fails at a time, and what became of those who asked it."""

    def __init__(self, helper: HelperProcess, asked: list[Request], trace: Path) -> None:
        self.helper = helper
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._asked = asked
        self._trace = trace
        self._settle()

    def _settle(self) -> None:
        """Let the helper do everything once, and remember what it holds then."""
        for _ in range(WARM_UP):
            assert self._ask() == "granted"
            self._delete_made()
        self.helper.settle()
        self._fds = self._open_fds()
        self._held = self.helper.held()

    def faults(self, *, loop: bool) -> Iterator[Fault]:
        """Yield what can go wrong in the loop, or in the other threads."""
        threads = Threads(self.helper.pid, loop)
        # Twice: some calls are only made now and then, by a clock.
        rounds = []
        for _ in range(2):
            with traced(threads, self._trace) as trace:
                self._ask()
                self.helper.wait_for_quiet()
            self._delete_made()
            rounds.append(trace.counts())
        counts = rounds[0] & rounds[1]
        unknown = counts.keys() - ERRORS.keys() - CANNOT_FAIL - NOT_TRIED.keys()
        assert not unknown, f"nobody has said how these fail: {unknown}"
        for call in sorted(counts.keys() & ERRORS.keys()):
            if loop and call in NOT_IN_THE_LOOP:
                continue
            for number in range(1, min(counts[call], FAULTS_EACH) + 1):
                for error in ERRORS[call][:FAULTS_EACH]:
                    yield Fault(call, error, number)

    def inject(self, fault: Fault, *, loop: bool) -> None:
        """Ask while *fault* happens, and look at what is left of it."""
        pid = self.helper.pid
        # A call that is made by a clock may not come each time.
        for _ in range(TRIES):
            with traced(Threads(pid, loop), self._trace, fault) as trace:
                outcome = self._ask()
                # It may come after the reply.
                wait_until(lambda: bool(trace.injected()), 1)
            made = self._delete_made()
            if trace.injected():
                break
        self.outcomes[outcome] += 1
        where = "loop" if loop else "worker"
        complaints = list(self._complaints(outcome, trace))
        # The kernel has too many references only to fds, and this answer has none.
        if made and outcome == "an error" and fault.error != "ETOOMANYREFS":
            complaints.append("there is a tap all the same")
        self.wrong += [f"{where}, {fault}: {complaint}" for complaint in complaints]
        if not self.helper.is_running():
            self.helper.start()
            self._settle()

    def _delete_made(self) -> int:
        """Delete the taps that stay, as their user does who has had no answer; return how many."""
        if not any(isinstance(request, Create) for request in self._asked):
            return 0
        found = self._ask_in_pace(ListTaps()).reply
        assert isinstance(found, ListReply), found
        for tap in found.taps:
            answered = self._ask_in_pace(Delete(tap.interface))
            assert isinstance(answered.reply, DeleteReply), answered.reply
        return len(found.taps)

    def _complaints(self, outcome: str, trace: Trace) -> Iterator[str]:
        if not trace.injected():
            yield "was not injected"
        if outcome in ("nothing", "a part"):
            yield f"the client got {outcome}"
        if not self.helper.is_running():
            yield f"the helper ended: {self.helper.log()[-300:]}"
            return
        if (later := self._ask()) != "granted":
            yield f"the next one got {later}"
        self._delete_made()
        self.helper.wait_for_quiet()
        if not wait_until(lambda: self._open_fds() == self._fds):
            now = self._open_fds()
            yield f"fds: more {now - self._fds}, less {self._fds - now}"
            self._fds = now
        if self.helper.held() != self._held:
            yield f"it holds {self.helper.held() ^ self._held}"

    def _open_fds(self) -> Counter[str]:
        """Return what the helper has open, but for spare taps: those come and go."""
        found = fd_targets(self.helper.pid)
        del found["/dev/net/tun"]
        return found

    def _ask(self) -> str:
        """Ask for all, and return what came of it: the worst."""
        found = {self._outcome(request) for request in self._asked}
        order = ("nothing", "a part", "closed", "an error", "granted")
        return next(each for each in order if each in found)

    def _ask_in_pace(self, request: Request) -> Answered:
        """Ask no sooner than the helper lets a user list taps; a refusal would hide a fault."""
        if isinstance(self.helper, TapProcess) and isinstance(request, (Quota, ListTaps, Delete)):
            time.sleep(1 / LISTS_PER_SECOND)
        return ask_once(self.helper.path, request)

    def _outcome(self, request: Request) -> str:
        try:
            answered = self._ask_in_pace(request)
        except TimeoutError:
            return "nothing"
        except (PeerClosed, ConnectionError):
            return "closed"
        with answered.fds as fds:
            count = len(fds)
        if isinstance(answered.reply, ErrorReply):
            return "an error"
        wanted = 4 if isinstance(request, Load) or request == tap_on() else 0
        return "granted" if count == wanted else "a part"


@pytest.mark.timeout(amount(300, 0))
@pytest.mark.parametrize("kind", amount((LOAD, TAP), (LOAD, TAP, CREATE, CHEAP, CHEAP_OF_TAPS)))
def test_a_call_that_fails(
    kind: str, rss_digest: bytes, tmp_path: Path, say: Callable[[str], None]
) -> None:
    """Whatever it is: nobody is left without an answer, and nothing stays behind."""
    with ExitStack() as stack:
        of_taps = kind in (TAP, CREATE, CHEAP_OF_TAPS)
        helper = stack.enter_context(running_tap_helper() if of_taps else running_helper())
        victim = Victim(helper, requests(kind, rss_digest), tmp_path / "trace")
        count = 0
        for loop in (True, False):
            for fault in list(victim.faults(loop=loop)):
                victim.inject(fault, loop=loop)
                count += 1
        left: set[object] = {*left_alive(helper.granted())}
        if isinstance(helper, TapProcess):
            wait_until(lambda: not helper.granted_taps())
            left |= {tap.name for tap in helper.granted_taps()}
        say(f"faults, {kind}: N = {count}; {dict(victim.outcomes)}")

        assert victim.wrong == []
        assert left == set()
        assert count > 10
        # Faults that change nothing for anybody would have been in the wrong place.
        assert victim.outcomes["an error"] + victim.outcomes["closed"] > 0
