# SPDX-License-Identifier: LGPL-2.1-or-later
"""Thousands of taps are made in front of four attackers, who join none of them (T2)."""

import fcntl
import os
import socket
import threading
import time

import pytest

from bpferry_wire.errors import Code
from bpferry_wire.messages import Create, Delete, DeleteReply, ErrorReply, TapReply
from tests import requires
from tests.helper.tap.attackers import attackers
from tests.support.people import ask, connect
from tests.support.tap_process import TapProcess, tap_on
from tests.support.tuns import MULTI, TUNSETOWNER, open_queue

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

CREATIONS = int(os.environ.get("BPFERRY_TEST_RACES", "1000"))
CLIENTS = 2
NAIVE_CREATIONS = 100
LATE_S = 0.002


def make_taps(helper: TapProcess, number: int) -> list[int]:
    """Let two clients have *number* taps made; return how many each got."""
    made = [0] * CLIENTS
    socks = [connect(helper.path) for _ in range(CLIENTS)]

    def work(client: int) -> None:
        for turn in range(number // CLIENTS):
            # One size is served from the spares; the other, now and then, is made on the spot.
            answered = ask(socks[client], tap_on(queues=4 if turn % 16 == 0 else 2))
            answered.fds.close()
            made[client] += isinstance(answered.reply, TapReply)

    threads = [threading.Thread(target=work, args=(client,)) for client in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for sock in socks:
        sock.close()
    return made


def test_no_attacker_joins_a_tap(
    tap_helper: TapProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    """However often one is made, and no matter who watches; the number is printed."""
    with attackers(tap_helper) as attack:
        made = make_taps(tap_helper, CREATIONS)
        attempts, joined = attack.attempts, attack.joined
    with capsys.disabled():
        print(  # noqa: T201 - a figure that people want to see
            f"\n{sum(made)} taps made, {sum(attempts)} attempts to join, {joined} joined"
        )

    assert made == [CREATIONS // CLIENTS] * CLIENTS
    assert min(attempts) > 0
    assert joined == 0


def test_no_attacker_joins_a_tap_that_stays(tap_helper: TapProcess) -> None:
    """It belongs to the user who asked, from the moment that it stays."""
    with attackers(tap_helper) as attack, connect(tap_helper.path) as sock:
        for _ in range(50):
            created = ask(sock, Create(tap_on(queues=2))).reply
            assert isinstance(created, TapReply)
            _delete(sock, created.interface)
        attempts, joined = attack.attempts, attack.joined

    assert (min(attempts) > 0, joined) == (True, 0)


def _delete(sock: socket.socket, interface: str) -> None:
    """Delete *interface*, as soon as the pace of lists allows it."""
    while not isinstance(reply := ask(sock, Delete(interface)).reply, DeleteReply):
        assert isinstance(reply, ErrorReply)
        assert reply.code is Code.BUSY, reply
        time.sleep(0.05)


def test_the_attackers_join_what_gets_its_owner_on_the_host(tap_helper: TapProcess) -> None:
    """The control: a tap that is made there, and belongs to somebody a moment later."""

    def make() -> None:
        for number in range(NAIVE_CREATIONS):
            queue = open_queue(f"bft{number:08x}", MULTI)
            time.sleep(LATE_S)
            fcntl.ioctl(queue, TUNSETOWNER, 0)
            os.close(queue)

    with attackers(tap_helper) as attack:
        tap_helper.inside_network(make)
        joined = attack.joined
    requires.joinable_taps(joined=joined > 0)

    assert joined > 0
