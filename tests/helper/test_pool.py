# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sets that are loaded ahead, in a real helper: quick, counted, and never two clients' own."""

import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from bpferry_wire import channel
from bpferry_wire.errors import Code, WireError
from bpferry_wire.fds import OwnedFds
from bpferry_wire.messages import (
    ErrorReply,
    Load,
    LoadReply,
    Quota,
    QuotaReply,
    Status,
    StatusReply,
)
from bpferry_wire.packets import encode_request
from tests.support.census import Held, alive_among, held_through_fds, wait_until
from tests.support.helper_process import HelperProcess, left_alive, running_helper
from tests.support.people import (
    ALICE,
    BOB,
    PATIENCE_S,
    ROOT,
    Answered,
    Person,
    ask_once,
    connect,
    take,
)

pytestmark = [pytest.mark.privileged, pytest.mark.kernel, pytest.mark.qemu]

CARDS = 3

LEAST_KILLS = 10
"""From connecting until its fds are sent, a client costs the helper more system calls than this."""


def policy(**quota: int) -> str:
    """Return a policy with *quota*, and a pace that does not matter unless that says another."""
    pace = dict.fromkeys(("loads_at_once", "loads_per_second", "loads_per_second_in_total"), 1000)
    lines = [f"{key.replace('_', '-')} = {number}" for key, number in (pace | quota).items()]
    who = f"users = [0, {ALICE.uid}, {BOB.uid}]"
    return "\n".join(["[quota]", *lines, "[load]", who, ""])


@pytest.fixture
def load(rss_digest: bytes) -> Load:
    """Return a request that is granted."""
    return Load("rss", rss_digest)


class Sets:
    """Sets that clients got. Owns them."""

    def __init__(self, helper: HelperProcess, load: Load) -> None:
        self.helper = helper
        self.load = load
        self.fds = OwnedFds()

    def get(self, person: Person = ALICE) -> frozenset[Held] | Code:
        """Ask for one; return its program and maps, or why there is none."""
        return self.keep(ask_once(self.helper.path, self.load, person))

    def get_or_see_die(self, person: Person) -> frozenset[Held] | Code:
        """Ask for one; stop waiting for the answer when the helper has died."""
        died = os.pidfd_open(self.helper.pid)
        try:
            with connect(self.helper.path, person) as sock:
                channel.send(sock, encode_request(self.load))
                assert select.select([sock.fileno(), died], [], [], PATIENCE_S)[0]
                # What it had not accepted is not closed: nobody would answer until the next one.
                sock.settimeout(0 if select.select([died], [], [], 0)[0] else PATIENCE_S)
                return self.keep(take(sock, self.load))
        finally:
            os.close(died)

    def keep(self, answered: Answered) -> frozenset[Held] | Code:
        """Return what came with an answer, or why nothing did."""
        if isinstance(answered.reply, ErrorReply):
            return answered.reply.code
        assert isinstance(answered.reply, LoadReply)
        fds = answered.fds.take()
        for fd in fds:
            self.fds.add(fd)
        held = held_through_fds(fds)
        assert (4, 4) == (len(fds), len(held))
        return held


@contextmanager
def pool(load: Load, cards: int = CARDS, **quota: int) -> Iterator[Sets]:
    """Yield who asks a helper that has *cards* sets ready, as many as were asked for."""
    with running_helper(policy(**quota)) as helper:
        sets = Sets(helper, load)
        with sets.fds:
            for _ in range(cards):
                assert not isinstance(sets.get(), Code)
            wait_for(helper, cards)
            yield sets


def ready(helper: HelperProcess) -> int:
    """Return how many sets the helper says are ready."""
    reply = ask_once(helper.path, Status(), ROOT).reply
    assert isinstance(reply, StatusReply)
    return reply.ready


def wait_for(helper: HelperProcess, count: int) -> None:
    """Wait until *count* sets are ready, and the helper holds them."""
    assert wait_until(lambda: ready(helper) == count, 20, 0.05), ready(helper)
    assert 4 * count <= len(helper.held())


def held(helper: HelperProcess, person: Person = ALICE) -> int:
    """Return how many sets *person* holds, as the helper says."""
    reply = ask_once(helper.path, Quota(), person).reply
    assert isinstance(reply, QuotaReply)
    return reply.held


def test_the_next_vm_gets_what_is_ready(load: Load) -> None:
    """Each set is the one client's alone; then as many are loaded again, at the least.

    Both users' sets count as one burst, unless the host is so slow that one has passed.
    """
    with pool(load) as sets:
        before = sets.helper.held()
        granted = [sets.get(BOB) for _ in range(CARDS)]
        whole = [one for one in granted if not isinstance(one, Code)]
        theirs = frozenset().union(*whole)
        assert wait_until(lambda: not theirs & sets.helper.held())
        assert wait_until(lambda: ready(sets.helper) >= CARDS, 20)

        assert 4 * CARDS <= len(sets.helper.held())
        assert not theirs & sets.helper.held()
    assert (CARDS, 4 * CARDS) == (len(whole), len(theirs))
    assert theirs <= before


def test_who_gets_a_ready_set_is_charged(load: Load) -> None:
    """Not before, and as for any other; also after the helper was killed."""
    with pool(load) as sets:
        before = held(sets.helper, BOB)
        sets.get(BOB)
        after = held(sets.helper, BOB)
        sets.helper.restart()

        assert (0, 1, 1) == (before, after, held(sets.helper, BOB))


def test_a_quota_is_exact_with_a_pool(load: Load) -> None:
    """The user's own, whoever else's sets are ready."""
    with pool(load, sets_per_user=CARDS + 1) as sets:
        got = [sets.get() for _ in range(3)]

    assert [False, True, True] == [one is Code.QUOTA for one in got]


def test_the_total_is_exact_with_a_pool(load: Load) -> None:
    """The pool takes what is left, and gives it to who asks."""
    with running_helper(policy(sets_in_total=CARDS + 2)) as helper:
        sets = Sets(helper, load)
        with sets.fds:
            for _ in range(CARDS):
                sets.get()
            wait_for(helper, 2)
            got = [sets.get(BOB) for _ in range(3)]
            left = ready(helper)

    assert [False, False, True] == [one is Code.QUOTA for one in got]
    assert left == 0


def test_the_pace_is_the_same_with_a_pool(load: Load) -> None:
    """What is ready cannot be had faster than what is loaded."""
    with pool(load, loads_at_once=4, loads_per_second=1) as sets:
        started = time.monotonic()
        got = [sets.get() for _ in range(8)]
        most = 4 + (time.monotonic() - started)

    refused = [one for one in got if isinstance(one, Code)]
    assert len(got) - len(refused) <= most
    assert {Code.BUSY} >= set(refused)


def test_a_helper_that_leaves_takes_the_pool_along(load: Load) -> None:
    """Killed, it leaves nothing; what was granted stays."""
    with pool(load) as sets:
        ours = sets.helper.held()
        granted = sets.get()
        assert not isinstance(granted, Code)
        sets.helper.kill()

        assert set() == left_alive(ours - granted)
        assert granted == alive_among(granted)


@pytest.mark.slow
def test_killed_at_each_system_call_of_a_hand_over(load: Load, tmp_path: Path) -> None:
    """A client has a whole set, charged to it, or none; no other client ever has any of it."""
    outcomes: list[str] = []
    with pool(load, cards=1) as sets, ExitStack() as stack:
        sets.fds.close()
        with traced(sets.helper, [], tmp_path / "trace"):
            sets.get()
            assert wait_until(lambda: is_idle(sets.helper))
        sets.fds.close()
        calls = calls_of((tmp_path / "trace").read_text())
        outcomes.extend(killed_at(call, sets, stack) for call in calls)

    # It was killed before the hand-over and after it, and seldom at no call at all.
    assert outcomes.count("none") > LEAST_KILLS, outcomes
    assert outcomes.count("whole") > 2, outcomes
    assert outcomes.count("survived") < 5, outcomes


class Call(NamedTuple):
    """One system call of many: the *number*-th of this *name*."""

    name: str
    number: int


def calls_of(trace: str) -> list[Call]:
    """Return the system calls of *trace*, from the client's connection on."""
    names = re.findall(r"^([a-z0-9_]+)\(", trace, re.MULTILINE)
    return [Call(name, names[: at + 1].count(name)) for at, name in enumerate(names)]


def killed_at(call: Call, sets: Sets, stack: ExitStack) -> str:
    """Kill the helper's main thread at *call* of a hand-over to Alice; say what she got."""
    helper = sets.helper
    assert wait_until(lambda: held(helper) == 0)
    # One, or two since Bob asked twice after the call before.
    assert wait_until(lambda: ready(helper) > 0, 20, 0.05)
    inject = ["-e", f"inject={call.name}:signal=KILL:when={call.number}"]
    alice = Sets(helper, sets.load)
    stack.callback(alice.fds.close)
    got: frozenset[Held] | Code = Code.FAILED
    with (
        traced(helper, inject, Path("/dev/null")),
        suppress(WireError, ConnectionError, BlockingIOError),
    ):
        got = alice.get_or_see_die(ALICE)
        assert wait_until(lambda: not helper.is_running() or is_idle(helper))
    was_killed = not helper.is_running()
    if was_killed:
        helper.start()
    check_others(got, sets)
    alice.fds.close()
    outcome = "none" if isinstance(got, Code) else "whole"
    return outcome if was_killed else "survived"


def check_others(got: frozenset[Held] | Code, sets: Sets) -> None:
    """Fail if others get anything of what Alice has *got*, or if that does not count for her."""
    bob = Sets(sets.helper, sets.load)
    with bob.fds:
        first, second = bob.get(BOB), bob.get(BOB)
        assert not isinstance(first, Code)
        assert not isinstance(second, Code)
        assert not first & second
        if isinstance(got, Code):
            return
        assert not got & (first | second)
        assert held(sets.helper) == 1


def is_idle(helper: HelperProcess) -> bool:
    """Say whether the helper waits for the next client: it sleeps, and goes on sleeping.

    All of it: a worker that has no processor yet has something for the main thread later.
    """
    seen = set()
    for _ in range(10):
        for path in Path(f"/proc/{helper.pid}/task").glob("*/stat"):
            with suppress(OSError):
                seen.add(path.read_text().rpartition(")")[2].split()[0])
        time.sleep(0.003)
    return seen == {"S"}


@contextmanager
def traced(helper: HelperProcess, how: list[str], trace: Path) -> Iterator[None]:
    """Write the system calls of the helper's main thread into *trace*, and do as *how* says."""
    command = ["strace", "-p", str(helper.pid), *how, "-o", str(trace)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        assert "attached" in strace.stderr.readline()
        try:
            yield
        finally:
            strace.send_signal(signal.SIGTERM)
            strace.communicate()
