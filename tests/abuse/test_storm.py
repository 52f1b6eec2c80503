# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many clients at once, and very many one after the other."""

import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
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
"""What the real client asks again after; anything else is a failure."""

GIVE_UP_S: Final = 300.0
AT_LEAST_OF_C: Final = 0.95
MOST_GROWTH_KIB: Final = 1024
"""Of the helper's memory, however many connections there were."""

ONE_AT_A_TIME: Final = threading.Lock()
"""To be another user is something that the whole process is."""


class Client(threading.Thread):
    """Asks for one set as *person*, and asks again if it is told to, as the real client does."""

    def __init__(self, path: Path, load: Load, person: Person, start: threading.Event) -> None:
        super().__init__()
        self.took_ns = 0
        self.again: Counter[str] = Counter()
        self.failed = "never answered"
        self._path, self._load, self._person, self._start = path, load, person, start

    def run(self) -> None:
        """Ask until granted."""
        self._start.wait()
        begun = time.monotonic_ns()
        end = time.monotonic() + GIVE_UP_S
        while time.monotonic() < end:
            why = self._ask()
            if not why:
                self.failed = ""
                break
            self.again[why] += 1
            if why not in AGAIN:
                self.failed = why
                break
            time.sleep(random.uniform(0.001, 0.02))  # noqa: S311 - nobody gains by guessing
        self.took_ns = time.monotonic_ns() - begun

    def _ask(self) -> str:
        """Return why there was no set; empty if there was one."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.settimeout(GIVE_UP_S)
            try:
                with ONE_AT_A_TIME, acting_as(self._person):
                    sock.setblocking(False)  # noqa: FBT003 - the function's own signature
                    sock.connect(str(self._path))
                sock.settimeout(GIVE_UP_S)
                channel.send(sock, encode_request(self._load))
                packet = channel.receive(sock)
            except BlockingIOError:
                return "queue is full"
            except (OSError, WireError) as error:
                return type(error).__name__
        with packet.fds as fds:
            reply = decode_reply(packet.data, self._load)
            if isinstance(reply, ErrorReply):
                return str(reply.code)
            return "" if len(fds) == 4 else "a part"


def storm(helper: HelperProcess, load: Load, count: int) -> tuple[list[Client], float]:
    """Let *count* clients ask at once; return them, and how many seconds all took together."""
    start = threading.Event()
    people = [PEOPLE[number % len(PEOPLE)] for number in range(count)]
    clients = [Client(helper.path, load, person, start) for person in people]
    for client in clients:
        client.start()
    begun = time.monotonic()
    start.set()
    for client in clients:
        client.join()
    return clients, time.monotonic() - begun


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
        clients, took_s = storm(helper, load, count)
        raw += [yardstick.ask_ns(2)[0] for _ in range(count // 4)]
        of_c = count / took_s / (2 * len(raw) / (sum(raw) / 1e9))
        again = sum((client.again for client in clients), Counter[str]())
        p99_s = percentile([client.took_ns for client in clients], 99) / 1e9
        say(
            f"storm: N = {count}; {count / took_s:.1f} sets a second, {of_c:.2f} of C's; "
            f"p99 {p99_s:.2f} s; asked again: {dict(again)}"
        )

        assert [client.failed for client in clients if client.failed] == []
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
