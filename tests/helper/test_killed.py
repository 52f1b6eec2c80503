# SPDX-License-Identifier: LGPL-2.1-or-later
"""kill -9 at any moment, of the helper and of its clients: nothing half done, nothing left."""

import os
import random
import signal
import time
from collections.abc import Callable

from bpferry_wire import channel
from bpferry_wire.messages import Load
from bpferry_wire.packets import encode_request
from tests.abuse.amounts import IN_TWO_FORMS, amount
from tests.abuse.asking import Asking
from tests.abuse.conftest import say
from tests.helper.conftest import check_unharmed
from tests.support.children import fork
from tests.support.helper_process import NO_LIMITS, HelperProcess, left_alive, running_helper
from tests.support.people import ALICE, ask_once, connect

pytestmark = IN_TWO_FORMS

__all__ = ["say"]

HELPER_KILLS = amount(300, 3000)
CLIENT_KILLS = amount(120, 3000)

OPEN_TO_ROOT = f"{NO_LIMITS}[load]\nusers = [0, {ALICE.uid}]\n"
"""Who asks in the thread is root."""

FEWEST = amount(5, 20)
"""Clients on either side. On a busy host a load seldom ends before the next kill: 21 of 300 did."""

LATEST_S = 0.25
"""A start takes 0.1 s and a load 0.07 s: the kills fall before, into and after it."""


def test_a_helper_that_is_killed_leaves_nothing(
    rss_digest: bytes, say: Callable[[str], None]
) -> None:
    """Each time a client got four fds or none, and every id is gone in the end."""
    load = Load("rss", rss_digest)
    chance = random.Random()  # noqa: S311 - other moments each time
    with running_helper(OPEN_TO_ROOT) as helper:
        asking = Asking(helper, load)
        asking.start()
        try:
            for number in range(HELPER_KILLS):
                time.sleep(chance.uniform(0, LATEST_S))
                helper.kill()
                # Every fourth is killed while it starts.
                helper.start(wait=number % 4 != 0)
        finally:
            asking.stop.set()
            asking.join()
        helper.restart()
        answered = ask_once(helper.path, load)
        served = len(answered.fds)
        answered.fds.close()

        outcomes = asking.outcomes
        say(f"kills of the helper: N = {HELPER_KILLS}; {dict(outcomes)}")
        assert (outcomes["partial"], outcomes["given twice"]) == (0, 0)
        # The kills fell on both sides of the hand-over, or this test shows nothing.
        assert min(outcomes["granted"], outcomes.total() - outcomes["granted"]) > FEWEST, outcomes
        assert (4, set()) == (served, left_alive(asking.maps() | helper.granted()))


def test_clients_that_are_killed_leave_nothing(
    rss_digest: bytes, say: Callable[[str], None]
) -> None:
    """Before the reply, in it, or with the fds in hand; the helper holds as much as before."""
    request = encode_request(Load("rss", rss_digest))
    chance = random.Random()  # noqa: S311 - other moments each time
    with running_helper(OPEN_TO_ROOT) as helper:
        before = (helper.settle(), helper.held())
        for _ in range(CLIENT_KILLS // 2):
            pids = [asking_child(helper, request) for _ in range(2)]
            for pid in pids:
                time.sleep(chance.uniform(0, LATEST_S))
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

        say(f"kills of clients: N = {CLIENT_KILLS}; {len(helper.granted())} maps granted")
        assert len(helper.granted()) > CLIENT_KILLS / 2
        check_unharmed(helper, *before)


def asking_child(helper: HelperProcess, request: bytes) -> int:
    """Return a process that asks as Alice and keeps what it gets."""
    pid = fork()
    if pid == 0:
        try:
            sock = connect(helper.path, ALICE)
            sock.send(request)
            packet = channel.receive(sock)
            signal.pause()
            packet.fds.close()
        finally:
            os._exit(1)
    return pid
