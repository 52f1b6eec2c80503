# SPDX-License-Identifier: LGPL-2.1-or-later
"""One console and all who look at it: who gets what, and who never waits."""

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from bpferry.errors import BpferryError
from bpferry.machine.console import hub as hubs
from bpferry.machine.console.history import MAX_BYTES, History
from bpferry.machine.console.hub import MAX_ONLOOKERS, Hub
from bpferry.machine.console.onlooker import MAX_QUEUED

LOST = re.compile(rb"\r\n\[bpferry: (\d+) bytes of the console are missing here.*\]\r\n")


class Guest:
    """The guest's end of a console, and the hub at the other one."""

    def __init__(self, hub: Hub, sock: socket.socket) -> None:
        self.hub = hub
        self.sock = sock
        self._loop = asyncio.get_running_loop()

    def join(self) -> socket.socket:
        """Return a new onlooker's end."""
        sock = self.hub.join()
        sock.settimeout(0)
        return sock

    async def writes(self, data: bytes) -> None:
        """Write *data* on the console."""
        await asyncio.wait_for(self._loop.sock_sendall(self.sock, data), 20)

    async def reads(self, sock: socket.socket, length: int) -> bytes:
        """Read *length* bytes at *sock*."""
        got = b""
        while len(got) < length:
            more = await asyncio.wait_for(self._loop.sock_recv(sock, 65536), 20)
            assert more, got[-100:]
            got += more
        return got


@asynccontextmanager
async def _guest() -> AsyncIterator[Guest]:
    ours, guests = socket.socketpair()
    guests.settimeout(0)
    with ours, guests:
        hub = Hub(ours)
        try:
            yield Guest(hub, guests)
        finally:
            await hub.end()


def _run(test: Callable[[Guest], Awaitable[None]]) -> None:
    async def run() -> None:
        async with _guest() as guest:
            await test(guest)

    asyncio.run(run())


def test_all_see_what_the_guest_writes_and_the_former_too() -> None:
    """Who comes later gets the same, from the start."""

    async def test(guest: Guest) -> None:
        with guest.join() as first:
            await guest.writes(b"one ")
            assert b"one " == await guest.reads(first, 4)
            with guest.join() as second:
                await guest.writes(b"two")
                assert b"two" == await guest.reads(first, 3)
                assert b"one two" == await guest.reads(second, 7)

    _run(test)


def test_all_may_type() -> None:
    """What each of them types reaches the guest; one that has left is not missed."""

    async def test(guest: Guest) -> None:
        with guest.join() as first, guest.join() as second:
            first.send(b"a")
            assert b"a" == await guest.reads(guest.sock, 1)
            first.close()
            second.send(b"b")
            assert b"b" == await guest.reads(guest.sock, 1)

    _run(test)


def test_a_flood_waits_for_nobody_and_who_reads_gets_all_of_it() -> None:
    """A reader that stalls loses bytes, and is told how many; another one loses none."""

    async def test(guest: Guest) -> None:
        chunk, chunks = b"x" * 50_000, 60
        total = len(chunk) * chunks
        with guest.join() as stalled, guest.join() as reader:
            for _ in range(chunks):
                await guest.writes(chunk)
                assert chunk == await guest.reads(reader, len(chunk))

            seen = b""
            while not (told := LOST.search(seen)):
                seen += await guest.reads(stalled, 1)
            shown = len(seen) - len(told[0])
            assert MAX_QUEUED <= shown < 2_000_000
            assert total == shown + int(told[1])

            await guest.writes(b"on")
            assert b"on" == await guest.reads(stalled, 2)

    _run(test)


def test_a_flood_does_not_hold_up_requests() -> None:
    """While the guest floods, the event loop answers within some milliseconds."""

    async def test(guest: Guest) -> None:
        with guest.join():
            flood = asyncio.create_task(guest.writes(b"y" * 50_000_000))
            longest = 0.0
            while not flood.done():
                before = time.monotonic()
                await asyncio.sleep(0)
                longest = max(longest, time.monotonic() - before)
            assert longest < 0.5

    _run(test)


def test_without_an_onlooker_the_guest_writes_on() -> None:
    """Nobody has to look on, and the first to come gets the end of what was written."""

    async def test(guest: Guest) -> None:
        await guest.writes(b"line\n" * 200_000 + b"end\n")
        await asyncio.sleep(0.1)
        with guest.join() as late:
            got = b""
            while not got.endswith(b"end\n"):
                got += await guest.reads(late, 1)
            assert got.startswith(b"line\n")
            assert MAX_BYTES - 10 < len(got) <= MAX_BYTES

    _run(test)


def test_what_is_typed_waits_for_a_guest_that_does_not_read() -> None:
    """Nothing of it is lost, and little of it is in our memory."""

    async def test(guest: Guest) -> None:
        typed = bytes(range(256)) * 8_000
        with guest.join() as sock:
            loop = asyncio.get_running_loop()
            typing = asyncio.create_task(loop.sock_sendall(sock, typed))
            await asyncio.sleep(0.2)
            assert not typing.done()
            assert len(guest.hub._typed) <= 4096
            assert typed == await guest.reads(guest.sock, len(typed))
            await typing

    _run(test)


def test_there_is_a_limit_of_onlookers_and_a_place_gets_free() -> None:
    """One more is refused with the reason, until one leaves."""

    async def test(guest: Guest) -> None:
        sockets = [guest.join() for _ in range(MAX_ONLOOKERS)]
        with pytest.raises(BpferryError, match="32 terminals are connected to this console"):
            guest.join()
        sockets.pop().close()
        await asyncio.sleep(0.05)
        sockets.append(guest.join())
        for sock in sockets:
            sock.close()

    _run(test)


def test_last_words_reach_all_before_the_end() -> None:
    """At the end, what the guest has written is shown to all, and their connections end."""

    async def test(guest: Guest) -> None:
        with guest.join() as one, guest.join() as two:
            await guest.writes(b"x" * 350_000)
            ended = asyncio.create_task(guest.hub.end())
            for sock in (one, two):
                assert 350_000 == len(await guest.reads(sock, 350_000))
            await ended
            assert b"" == one.recv(10) == two.recv(10)

    _run(test)


def test_a_reader_that_stalls_delays_the_end_by_a_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody who does not read does not keep the VM from ending."""
    monkeypatch.setattr(hubs, "END_SECONDS", 0.2)

    async def test(guest: Guest) -> None:
        with guest.join():
            await guest.writes(b"x" * 2_000_000)
            before = time.monotonic()
            await guest.hub.end()
            assert time.monotonic() - before < 2

    _run(test)


@pytest.mark.parametrize(
    "question",
    [
        b"\x1b[6n",
        b"\x1b[c",
        b"\x1b[>0c",
        b"\x1b[?1$p",
        b"\x1bZ",
        b"\x05",
        b"\x1b[18t",
        b"\x1bP$qm\x1b\\",
        b"\x1b]11;?\x07",
    ],
)
def test_what_is_shown_again_asks_the_terminal_nothing(question: bytes) -> None:
    """A terminal's answer would be typed at the guest."""
    history = History()
    history.add(b"before " + question + b"\x1b[1;31mafter\x1b[0m\n")

    assert b"before \x1b[1;31mafter\x1b[0m\n" == history.shown()
