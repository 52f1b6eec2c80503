# SPDX-License-Identifier: LGPL-2.1-or-later
"""Datagrams there and back, between two sockets on a bridge of 1,500 bytes."""

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from guest import echo
from guest.echo import comes_back, open_echoes, send_back
from guest.netns import Namespace, bridged
from steering_demo.stations import HOST
from tests import requires
from tests.support.tap_process import in_network

pytestmark = pytest.mark.privileged

LONGEST: Final = {HOST.addresses[0]: 1500 - 20 - 8, HOST.addresses[1]: 1500 - 40 - 8}
"""Bytes in the longest datagram that fits into a frame, by address: less headers of IP and UDP."""


@pytest.fixture
def space() -> Iterator[Namespace]:
    """Return a host with a bridge, whose address it is that is written to."""
    requires.root()
    with bridged("br0", [HOST.ipv4, HOST.ipv6], 1500) as made:
        # Else what a host sends to itself may be as long as its loopback device takes.
        made.run(["ip", "link", "set", "lo", "mtu", "1500"])
        yield made


@contextmanager
def _answering(space: Namespace, answer: Callable[..., None] = send_back) -> Iterator[None]:
    """Send back what comes in, by *answer*."""
    sockets = in_network(space.holder, open_echoes)
    enough = threading.Event()

    def serve() -> None:
        while not enough.is_set():
            for ready in select.select(sockets, [], [], 0.05)[0]:
                answer(ready)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()
        for sock in sockets:
            sock.close()


@pytest.mark.parametrize(("address", "size"), LONGEST.items())
def test_the_longest_datagram_comes_back(space: Namespace, address: str, size: int) -> None:
    """In one frame there and one back."""
    with _answering(space):
        assert in_network(space.holder, lambda: comes_back(address, size))


@pytest.mark.parametrize(("address", "size"), LONGEST.items())
def test_nothing_is_fragmented(space: Namespace, address: str, size: int) -> None:
    """A datagram of one byte more is refused where it would have to be sent."""
    with _answering(space), pytest.raises(OSError, match="Message too long"):
        in_network(space.holder, lambda: comes_back(address, size + 1))


def test_a_changed_datagram_did_not_come_back(space: Namespace) -> None:
    """What comes back must be what was sent, to the last byte."""

    def cut(ready: socket.socket) -> None:
        datagram, sender = ready.recvfrom(100)
        ready.sendto(datagram[:-1], sender)

    with _answering(space, cut):
        assert not in_network(space.holder, lambda: comes_back(HOST.addresses[0], 100))


def test_silence_is_noticed(space: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers: that is told after some time."""
    monkeypatch.setattr(echo, "SECONDS", 0.05)
    with _answering(space, lambda ready: ready.recv(100)):
        assert not in_network(space.holder, lambda: comes_back(HOST.addresses[0], 100))
