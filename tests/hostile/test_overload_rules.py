# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who breaks the rules of the protocol pays for it as for a request, and gains nothing."""

import errno
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bpferry_helper import pacing
from bpferry_helper.connected import Connected
from bpferry_helper.connection import State
from bpferry_helper.disposal import Disposal
from bpferry_helper.identity import Credentials, Peer
from bpferry_helper.requests import Requests
from bpferry_wire.errors import Code
from bpferry_wire.limits import MAX_REQUEST_BYTES
from bpferry_wire.messages import ErrorReply, Hello, HelloReply, Load, LoadReply
from bpferry_wire.packets import encode_request
from tests.support.census import wait_until
from tests.support.helper_process import NO_LIMITS, HelperProcess, running_helper
from tests.support.packets import HELLO
from tests.support.people import (
    ALICE,
    BOB,
    SOCKET_GID,
    Person,
    ask_once,
    code_of_next,
    connect,
    send_rights,
    take,
)
from tests.support.workers import end

pytestmark = [pytest.mark.privileged, pytest.mark.kernel]

AT_ONCE = pacing.OWN_PACE.at_once + pacing.SHARED_PACE.at_once
PER_SECOND = pacing.OWN_PACE.per_second + pacing.SHARED_PACE.per_second
BEYOND = 150
"""So many more than are free take at least half a second."""

# -- what is no request costs as much as one


def too_long(sock: socket.socket) -> None:
    """Send more than a request may have."""
    sock.send(bytes(MAX_REQUEST_BYTES + 1))


def with_a_file(sock: socket.socket) -> None:
    """Send a file descriptor, which no request has."""
    with Path("/dev/null").open("rb") as file:
        send_rights(sock, encode_request(Hello()), [file.fileno()])


def until_refused(helper: HelperProcess, attack: Callable[[socket.socket], None]) -> float:
    """Attack as Alice, more often than is free; return how long that took."""
    started = time.monotonic()
    for _ in range(AT_ONCE + BEYOND):
        with connect(helper.path) as sock:
            attack(sock)
            assert code_of_next(sock) is Code.BAD_REQUEST
    return time.monotonic() - started


@pytest.mark.parametrize("attack", [too_long, with_a_file])
def test_a_packet_that_is_no_request_costs_as_one(
    attack: Callable[[socket.socket], None],
) -> None:
    """And another user is served as ever."""
    with running_helper(NO_LIMITS) as helper:
        took_s = until_refused(helper, attack)
        other = ask_once(helper.path, Hello(), BOB).reply

    assert isinstance(other, HelloReply)
    assert took_s > BEYOND / PER_SECOND * 0.9


@contextmanager
def requests_of_nobody() -> Iterator[tuple[Connected, Requests]]:
    """Yield what reads requests, without a helper around it."""
    unused: Any = None
    with select.epoll() as epoll:
        connected = Connected(epoll, lambda _: None, Disposal())
        idle: Any = SimpleNamespace(work_ahead=lambda: None)
        requests = Requests(idle, unused, unused, connected)
        yield connected, requests
        end(requests.workers)


def test_to_hang_up_without_a_request_costs_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the pace, the place stays taken for a while. The control: another user's does not."""
    monkeypatch.setattr("bpferry_helper.rate.time.monotonic", lambda: 100.0)
    states = {}
    with requests_of_nobody() as (connected, requests):
        for uid in [ALICE.uid] * (AT_ONCE + 1) + [BOB.uid]:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            theirs.close()
            peer = Peer(uid, frozenset(), 1)
            connection = connected.add(ours, Credentials(uid, 1, 1), peer)
            assert connection is not None
            requests.read(connection)
            states[uid] = (connection.state, ours.fileno() < 0)
            ours.close()

    assert states == {ALICE.uid: (State.PACED, False), BOB.uid: (State.LISTENING, True)}


class NoMemory:
    """An epoll for which the kernel has no memory."""

    def __init__(self, epoll: select.epoll) -> None:
        self.unregister = epoll.unregister

    def register(self, *_: object) -> None:
        """Fail."""
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def test_who_cannot_be_watched_and_has_pushed_fds_ends_nobody_else() -> None:
    """The connection is closed by the thread that closes what clients have pushed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with select.epoll() as epoll, theirs:
        send_rights(theirs, HELLO, [theirs.fileno()])
        unwatched: Any = NoMemory(epoll)
        connected = Connected(unwatched, lambda _: None, Disposal())
        added = connected.add(ours, Credentials(1, 1, 1), Peer(1, frozenset(), 1))

        assert (added, wait_until(lambda: ours.fileno() < 0)) == (None, True)


# -- a grant that is not taken

MANY = Person(ALICE.uid, SOCKET_GID, tuple(range(3_000_000, 3_002_000)))
"""So many groups that a worker reads them."""


@pytest.mark.qemu
def test_a_grant_that_is_not_taken_is_not_forgotten_while_groups_are_read(
    rss_digest: bytes,
) -> None:
    """They are read again for the second request, as the policy names another group by then."""
    load = encode_request(Load("rss", rss_digest))
    with running_helper(NO_LIMITS) as helper, connect(helper.path, MANY) as sock:
        sock.send(load)
        assert sock.recv(1, socket.MSG_PEEK)
        helper.write_policy(f"{NO_LIMITS}[load]\ngroups = [{SOCKET_GID}, 5]\n")
        sock.send(load)
        time.sleep(1)
        first, second = (take(sock, Load("rss", rss_digest)) for _ in range(2))
        first.fds.close()
        second.fds.close()

    assert isinstance(first.reply, LoadReply)
    assert isinstance(second.reply, ErrorReply)
    assert second.reply.code is Code.BUSY
