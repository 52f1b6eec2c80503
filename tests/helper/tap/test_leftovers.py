# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is left when somebody is killed, goes away, or wants it so: nothing, or a whole tap (T7)."""

import contextlib
import fcntl
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter

import pytest

from bpferry_helper.policy.current import PolicyFile
from bpferry_helper.tap import service
from bpferry_helper.tap.bridge_conf import BridgeConfFile
from bpferry_helper.tap.census import Census
from bpferry_helper.tap.closing import Closer
from bpferry_wire import channel
from bpferry_wire.errors import WireError
from bpferry_wire.messages import (
    Create,
    ErrorReply,
    Hello,
    ListReply,
    ListTaps,
    OwnTap,
    Quota,
    TapReply,
)
from bpferry_wire.packets import decode_reply, encode_request
from tests.helper.tap.own_host import Host, on_own_host, order
from tests.support.census import fd_targets, wait_until
from tests.support.children import fork
from tests.support.people import ALICE, BOB, ask, ask_once, connect
from tests.support.tap_process import (
    OPEN_POLICY,
    TapProcess,
    created,
    granted,
    running_tap_helper,
    tap_on,
)
from tests.support.tuns import TUNSETPERSIST

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

KILLS = 100
LATEST_S = 0.06
"""A tap takes 0.005 to 0.05 s, a start 0.2 s: the kills fall before, into and after a request."""

MANY = f"{OPEN_POLICY}taps-per-user = 1024\ntaps-in-total = 1024\n[users.0]\nbridges = ['*']\n"


# -- T7


def test_a_tap_that_was_made_to_stay_is_swept() -> None:
    """At once when told to; and not as long as somebody has it."""

    def act(host: Host) -> list[int]:
        census = Census(host.links)
        made = host.make(order())
        fcntl.ioctl(made.fds[0].borrow(), TUNSETPERSIST, 1)
        counts = []
        for step in (census.sweep, made.fds.close, census.sweep):
            step()
            counts.append(len(host.links.taps(("bft",))))
        return counts

    assert [1, 1, 0] == on_own_host(act)


def test_the_sweeper_comes_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every SWEEP_S, as long as the process runs."""
    monkeypatch.setattr(service, "FIRST_SWEEP_S", 0.05)
    monkeypatch.setattr(service, "SWEEP_S", 0.05)

    def act(host: Host) -> bool:
        own = service.TapService.__new__(service.TapService)
        own._census = Census(host.links)
        own._maker = host.maker
        own._closer = Closer(host.links, PolicyFile("/nowhere", 0), BridgeConfFile("/nowhere"))
        own.keep_sweeping()
        made = host.make(order())
        fcntl.ioctl(made.fds[0].borrow(), TUNSETPERSIST, 1)
        made.fds.close()
        return wait_until(lambda: not host.links.taps(("bft",)))

    assert on_own_host(act)


def test_a_tap_that_stays_is_not_swept() -> None:
    """It was asked for, and is deleted by its user."""

    def act(host: Host) -> int:
        host.make(order(stays=True)).fds.close()
        Census(host.links).sweep()
        return len(host.links.taps(("bfp",)))

    assert 1 == on_own_host(act)


def test_the_next_helper_sweeps_after_the_last() -> None:
    """A holder that dies after the helper did."""
    with running_tap_helper() as helper:
        _, fds = granted(helper, tap_on())
        fcntl.ioctl(fds[0].borrow(), TUNSETPERSIST, 1)
        helper.kill()
        fds.close()
        left = len(helper.granted_taps())
        helper.start()
        swept = wait_until(lambda: not helper.granted_taps())

    assert (1, True) == (left, swept)


def test_a_helper_that_ends_sweeps_before() -> None:
    """There may be no other for long."""
    with running_tap_helper(f"{OPEN_POLICY}[service]\nidle-exit-seconds = 1\n") as helper:
        _, fds = granted(helper, tap_on())
        fcntl.ioctl(fds[0].borrow(), TUNSETPERSIST, 1)
        fds.close()
        left = len(helper.granted_taps())
        swept = wait_until(lambda: not helper.granted_taps())

    assert (True, True) == (left > 0, swept)


# -- clients that go


def test_a_reply_that_nobody_reads_is_taken_back() -> None:
    """With the connection; and there is one at most for each."""
    with running_tap_helper() as helper:
        with connect(helper.path) as sock:
            channel.send(sock, encode_request(tap_on(queues=8)))
            waiting = wait_until(lambda: len(helper.granted_taps()) == 1)
            channel.send(sock, encode_request(tap_on(queues=8)))
            time.sleep(0.1)
            count = len(helper.granted_taps())
        gone = wait_until(lambda: not helper.granted_taps())

    assert (True, True, True) == (waiting, count <= 1, gone)


@pytest.mark.parametrize("stays", [False, True])
def test_clients_that_go_before_the_reply_leave_nothing_but_whole_taps(
    stays: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """What was created for them is on their list; the rest is gone."""
    request = Create(tap_on(queues=2)) if stays else tap_on(queues=2)
    with running_tap_helper(MANY) as helper:
        for _ in range(20):
            # The helper turns away what is more than one account may have.
            with connect(helper.path) as sock, contextlib.suppress(BrokenPipeError):
                channel.send(sock, encode_request(request))
        # The one that comes last has all the others in front.
        ask_once(helper.path, Hello(), BOB)
        helper.wait_for_quiet()
        wait_until(lambda: not [tap for tap in helper.granted_taps() if tap.name[:3] == "bft"])
        names = sorted(tap.name for tap in helper.granted_taps())
        listed = ask_once(helper.path, ListTaps()).reply

    assert isinstance(listed, ListReply)
    assert names == [tap.interface for tap in listed.taps]
    assert all(tap.stays for tap in listed.taps)


def test_clients_that_are_killed_leave_nothing() -> None:
    """Before the reply, in it, or with the fds in hand; the helper holds as much as before."""
    chance = random.Random()  # noqa: S311 - other moments each time
    with running_tap_helper() as helper:
        granted(helper, tap_on(queues=2))[1].close()
        wait_until(helper.only_spares)
        before = helper.settle()
        for _ in range(40):
            pid = asking_child(helper)
            time.sleep(chance.uniform(0, LATEST_S))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        helper.wait_for_quiet()
        gone = wait_until(helper.only_spares)
        wait_until(lambda: fd_targets(helper.pid) == before)

        assert gone, helper.taps()
        assert before == fd_targets(helper.pid)


def asking_child(helper: TapProcess) -> int:
    """Return a process that asks as Alice and keeps what it gets."""
    pid = fork()
    if pid == 0:
        try:
            sock = connect(helper.path, ALICE)
            sock.send(encode_request(tap_on(queues=2)))
            packet = channel.receive(sock)
            signal.pause()
            packet.fds.close()
        finally:
            os._exit(1)
    return pid


# -- a helper that is killed


class Asking(threading.Thread):
    """Asks for one tap after the other, as root, and writes down what came."""

    def __init__(self, helper: TapProcess, requests: tuple[bytes, bytes]) -> None:
        super().__init__()
        self.outcomes: Counter[str] = Counter()
        self.stop = threading.Event()
        self._helper = helper
        self._requests = requests

    def run(self) -> None:
        """Ask until told to stop."""
        while not self.stop.is_set():
            for request in self._requests:
                try:
                    self.outcomes[self._ask(request)] += 1
                except (OSError, WireError) as error:
                    self.outcomes[type(error).__name__] += 1

    def gets_a_whole_one(self) -> bool:
        """Wait until a request from now on was granted."""
        before = self.outcomes["whole"]
        return wait_until(lambda: self.outcomes["whole"] > before)

    def _ask(self, request: bytes) -> str:
        import socket  # noqa: PLC0415 - as in the other file of kills

        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.settimeout(20)
            sock.connect(str(self._helper.path))
            channel.send(sock, request)
            packet = channel.receive(sock)
            with packet.fds as fds:
                reply = decode_reply(packet.data, tap_on())
                if isinstance(reply, ErrorReply):
                    return f"error {reply.code}"
                assert isinstance(reply, TapReply)
                whole = len(fds) == (2 if reply.interface.startswith("bft") else 0)
        return "whole" if whole else "partial"


def test_a_helper_that_is_killed_leaves_whole_taps_or_none() -> None:
    """A hundred times: two fds or none; every tap that is there was to stay, and is on the list."""
    chance = random.Random()  # noqa: S311 - other moments each time
    requests = (encode_request(tap_on(queues=2)), encode_request(Create(tap_on(queues=2))))
    with running_tap_helper(MANY) as helper:
        asking = Asking(helper, requests)
        asking.start()
        try:
            for number in range(KILLS):
                if number % 4 > 1:
                    # On a slow machine, it would seldom get as far as a whole tap.
                    assert asking.gets_a_whole_one()
                time.sleep(chance.uniform(0, LATEST_S))
                helper.kill()
                # Every fourth is killed while it starts.
                helper.start(wait=number % 4 != 0)
        finally:
            asking.stop.set()
            asking.join()
        helper.restart()
        wait_until(lambda: not [tap for tap in helper.granted_taps() if tap.name[:3] == "bft"])
        taps = helper.granted_taps()
        with connect(helper.path, ALICE._replace(uid=0)) as sock:
            listed = ask(sock, ListTaps()).reply
            quota = ask(sock, Quota()).reply
    outcomes = asking.outcomes

    assert outcomes["partial"] == 0
    # The kills fell on both sides of the hand-over, or this test shows nothing.
    assert outcomes["whole"] > 20, outcomes
    assert outcomes.total() - outcomes["whole"] > 20, outcomes
    assert isinstance(listed, ListReply), quota
    assert [tap.name for tap in taps if tap.name[:3] == "bft"] == []
    assert sorted(tap.name for tap in taps) == [tap.interface for tap in listed.taps]
    assert {("br0", True, True, "root", "bpferry uid=0")} == {
        (t.master, t.up, t.data["persist"], t.data["user"], t.alias[:13]) for t in taps
    }


def test_spares_go_with_the_process() -> None:
    """They hang on its fds alone."""
    with running_tap_helper() as helper:
        granted(helper, tap_on())[1].close()
        waiting = wait_until(helper.only_spares)
        helper.kill()
        gone = wait_until(lambda: not helper.taps())

    assert (True, True) == (waiting, gone)


def test_spares_are_on_no_list_and_in_no_count() -> None:
    """Nobody holds them."""
    with running_tap_helper() as helper:
        granted(helper, tap_on())[1].close()
        wait_until(helper.only_spares)
        replies = [ask_once(helper.path, request).reply for request in (ListTaps(), Quota())]

    assert "taps=()" in str(replies[0])
    assert "held=0" in str(replies[1])
    assert "held_by_all=0" in str(replies[1])


def test_a_cold_start_with_what_the_last_did_not_read() -> None:
    """The netlink socket outlives the helper, with answers in it, and half a list."""
    with running_tap_helper(start=False) as helper:
        lines = "".join(f"link add name p{n} type veth peer name q{n}\n" for n in range(150))
        subprocess.run(helper.command("ip", "-batch", "-"), input=lines, text=True, check=True)
        helper.leave_answers(20)
        helper.start()
        name, fds = granted(helper, tap_on())
        fds.close()

    assert name[:3] == "bft"


def test_a_tap_that_stays_works_for_the_next_helper() -> None:
    """It is listed and deleted by one that has not made it."""
    with running_tap_helper() as helper:
        name = created(helper, tap_on(queues=2))
        helper.restart()
        listed = ask_once(helper.path, ListTaps()).reply

    assert isinstance(listed, ListReply)
    assert [OwnTap(name, "br0", 0, 2, stays=True, closed=False)] == list(listed.taps)
