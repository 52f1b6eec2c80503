# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many clients at once, and very many one after the other."""

import heapq
import random
import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from benchmarks.figures import percentile
from benchmarks.yardstick import build, started
from bpferry_wire import channel
from bpferry_wire.errors import Code, WireError
from bpferry_wire.messages import ErrorReply, Load
from bpferry_wire.packets import decode_reply, encode_request
from tests.abuse.amounts import IN_TWO_FORMS, IS_LONG, amount
from tests.abuse.slope import resident_kib
from tests.support.census import wait_until
from tests.support.helper_process import (
    NO_LIMITS,
    HelperProcess,
    left_alive,
    running_helper,
)
from tests.support.packets import HELLO
from tests.support.people import NAMED, Person, acting_as, connect

pytestmark = IN_TWO_FORMS

STORMS: Final = amount((64,), (64, 256, 1024))
CONNECTIONS: Final = amount(2_000, 1_000_000)
PEOPLE: Final = [Person(uid) for uid in NAMED[:100]]

AGAIN: Final = ("queue is full", Code.BUSY, "PeerClosed", "ConnectionResetError")
"""What a client asks again after; anything else is a failure. The real one waits while the queue is
full, and asks once more if the helper hung up, or is busy after the request has waited for twelve
seconds; several times while a service manager waits for the VM."""

GIVE_UP_S: Final = 300.0
LOOK_S: Final = 1.0
"""How often to look whether it is time to give up."""
AT_LEAST_OF_C: Final = 0.95
MOST_GROWTH_KIB: Final = 1024
"""Of the helper's memory, however many connections there were."""

PAUSE_S: Final = (0.001, 0.02)
"""Between which bounds a client waits, at random, before it asks again."""


class Crowd:
    """Clients that ask for a set each, all at once, and again until they have it.

    One thread plays them all: seteuid(3) signals every thread of the process, and a thousand of
    them took more time than the loads.
    """

    def __init__(self, path: Path, load: Load) -> None:
        self.failed: list[str] = []
        self.again: Counter[str] = Counter()
        self.served_ns: list[int] = []
        """After how long each had its four fds."""
        self._path, self._load, self._packet = path, load, encode_request(load)
        self._answers = selectors.DefaultSelector()
        self._to_ask: list[tuple[float, Person]] = []
        """Who asks next, and when; a heap."""

    def storm(self, people: Iterable[Person]) -> None:
        """Let all *people* ask, until each is served or has failed."""
        begun, begun_ns = time.monotonic(), time.monotonic_ns()
        self._to_ask = [(begun, person) for person in people]
        while (self._to_ask or self._answers.get_map()) and time.monotonic() < begun + GIVE_UP_S:
            for key, _ in self._answers.select(self._ask_those_whose_turn_it_is()):
                self._hear(key, begun_ns)
        self.failed += ["never answered"] * (len(self._to_ask) + self._hang_up())

    def _ask_those_whose_turn_it_is(self) -> float:
        """Return after how many seconds it is the next one's turn.

        Whoever has to ask again meanwhile comes later, so that answers are read in between.
        """
        now = time.monotonic()
        while self._to_ask and self._to_ask[0][0] <= now:
            self._ask(heapq.heappop(self._to_ask)[1])
        return max(0.0, self._to_ask[0][0] - time.monotonic()) if self._to_ask else LOOK_S

    def _ask(self, person: Person) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.setblocking(False)  # noqa: FBT003 - the function's own signature
            with acting_as(person):
                sock.connect(str(self._path))
            # A helper that turns us away does not read, but has said why.
            with suppress(BrokenPipeError):
                channel.send(sock, self._packet)
        except OSError as error:
            sock.close()
            full = isinstance(error, BlockingIOError)
            self._note("queue is full" if full else type(error).__name__, person)
        else:
            self._answers.register(sock, selectors.EVENT_READ, person)

    def _hear(self, key: selectors.SelectorKey, begun_ns: int) -> None:
        sock = key.fileobj
        assert isinstance(sock, socket.socket)
        self._answers.unregister(sock)
        with sock:
            why = self._answered(sock)
        if why:
            self._note(why, key.data)
        else:
            self.served_ns.append(time.monotonic_ns() - begun_ns)

    def _answered(self, sock: socket.socket) -> str:
        """Return why there was no set; empty if there was one."""
        try:
            packet = channel.receive(sock)
        except (OSError, WireError) as error:
            return type(error).__name__
        with packet.fds as fds:
            reply = decode_reply(packet.data, self._load)
            if isinstance(reply, ErrorReply):
                return str(reply.code)
            return "" if len(fds) == 4 else "a part"

    def _note(self, why: str, person: Person) -> None:
        """Let *person* ask again, or note that they failed."""
        self.again[why] += 1
        if why in AGAIN:
            at = time.monotonic() + random.uniform(*PAUSE_S)  # noqa: S311 - nobody gains by guessing
            heapq.heappush(self._to_ask, (at, person))
        else:
            self.failed.append(why)

    def _hang_up(self) -> int:
        """Close what nobody has answered, and return how many those are."""
        waiting = [key.fileobj for key in self._answers.get_map().values()]
        for sock in waiting:
            assert isinstance(sock, socket.socket)
            sock.close()
        self._answers.close()
        return len(waiting)


def storm(helper: HelperProcess, load: Load, count: int) -> tuple[Crowd, float]:
    """Let *count* clients ask at once; return them, and how many seconds all took together."""
    crowd = Crowd(helper.path, load)
    begun = time.monotonic()
    crowd.storm(PEOPLE[number % len(PEOPLE)] for number in range(count))
    return crowd, time.monotonic() - begun


@pytest.mark.parametrize("count", STORMS)
def test_a_storm(
    count: int, rss: bytes, rss_digest: bytes, tmp_path: Path, say: Callable[[str], None]
) -> None:
    """Everybody gets four fds, and two processors load about as many sets as C does on them."""
    load = Load("rss", rss_digest)
    elf = tmp_path / "object.o"
    elf.write_bytes(rss)
    program = build("load", tmp_path, ["bpf"])
    with running_helper() as helper, started(program, elf) as yardstick:
        # The very first load reads every QEMU.
        storm(helper, load, 1)
        raw = [yardstick.ask_ns(2)[0] for _ in range(count // 4)]
        crowd, took_s = storm(helper, load, count)
        raw += [yardstick.ask_ns(2)[0] for _ in range(count // 4)]
        assert crowd.failed == []
        of_c = count / took_s / (2 * len(raw) / (sum(raw) / 1e9))
        p99_s = percentile(crowd.served_ns, 99) / 1e9
        say(
            f"storm: N = {count}; {count / took_s:.1f} sets a second, {of_c:.2f} of C's; "
            f"p99 {p99_s:.2f} s; asked again: {dict(crowd.again)}"
        )

        assert left_alive(helper.granted()) == set()
        # With others at work on this machine, a short form decides nothing about speed.
        assert not IS_LONG or of_c >= AT_LEAST_OF_C


def test_connections(say: Callable[[str], None]) -> None:
    """However many came, the helper has no more fds, and no more memory to speak of."""
    with running_helper(NO_LIMITS) as helper:
        come(helper, CONNECTIONS // 10)
        fds, before = helper.settle(), resident_kib(helper.pid)
        come(helper, CONNECTIONS)
        grown = resident_kib(helper.pid) - before
        say(f"connections: N = {CONNECTIONS}; {grown} KiB more, fds as before")

        assert wait_until(lambda: helper.settle() == fds)
        assert grown < MOST_GROWTH_KIB


def come(helper: HelperProcess, count: int) -> None:
    """Connect *count* times, as one user after the other; every third one says nothing."""
    for number in range(count):
        with connect(helper.path, PEOPLE[number % len(PEOPLE)]) as sock:
            if number % 3:
                sock.send(HELLO)
                assert sock.recv(4096)
