# SPDX-License-Identifier: LGPL-2.1-or-later
"""Both workers wait for a lock of the kernel's: others are answered, and nobody waits for ever."""

import errno
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bpferry_helper import connected, requests
from bpferry_helper.activation import Notifier
from bpferry_helper.exchange import Answer, Asked, Work
from bpferry_helper.role import hello
from bpferry_helper.server import Server
from bpferry_helper.tap import netlink
from bpferry_helper.tap.netlink import LinkError, Netlink
from bpferry_helper.work import NOBODYS, WORKERS, Job, Workers
from bpferry_wire.errors import Code, PeerClosed
from bpferry_wire.fds import OwnedFds
from bpferry_wire.messages import ErrorReply, Hello, HelloReply, Quota, QuotaReply
from bpferry_wire.packets import encode_request
from tests.support.census import wait_until
from tests.support.children import in_child
from tests.support.people import Answered, ask, is_closed, take

PATIENCE_S = 0.5

HELD = QuotaReply(held=0, allowed=1, held_by_all=0, allowed_to_all=1, counted_by="kernel")


class Everybody:
    """Accounts: each uid is its own."""

    def __init__(self) -> None:
        self.wake_fd = os.eventfd(0)

    def whose(self, uid: int) -> int:
        """Return *uid*."""
        return uid

    def name(self, _uid: int) -> str:
        """Return no name."""
        return ""

    def groups(self) -> frozenset[int]:
        """Return none."""
        return frozenset()

    def take_wake_up(self) -> None:
        """Do nothing."""

    def idle_exit_s(self) -> float:
        """Return that the helper stays."""
        return 1000.0


def note_who_closes(closed_by: list[str], pause_s: float = 0.0) -> None:
    """Note the thread that closes fds, each time, after a pause; for a child of ours."""
    close = OwnedFds.close

    def noted(fds: OwnedFds) -> None:
        if len(fds):
            time.sleep(pause_s)
            closed_by.append(threading.current_thread().name)
        close(fds)

    OwnedFds.close = noted  # type: ignore[method-assign, assignment]


class Stuck:
    """A service whose answer to Quota waits for *gate*, as for the kernel."""

    may_be_killed = False
    closing_waits = True

    def __init__(self, *, hello_by_worker: bool) -> None:
        self.gate = threading.Event()
        self.begun = 0
        self.look: Callable[[], object] = lambda: None
        """Called when what was asked for begins."""
        self._hello_by_worker = hello_by_worker

    def work_ahead(self) -> float | None:
        """Return None: there is none."""

    def is_needed(self) -> bool:
        """Return False."""
        return False

    def prepare(self, asked: Asked) -> Work | Answer:
        """Answer hello, and let a worker wait for the rest."""
        if isinstance(asked.request, Quota):
            return self._wait
        answer = hello("bpf", asked.peer)
        return (lambda: answer) if self._hello_by_worker else answer

    def _wait(self) -> Answer:
        self.begun += 1
        self.look()
        self.gate.wait()
        fds = OwnedFds()
        fds.add(os.open("/dev/null", os.O_RDONLY))
        return Answer(HELD, fds)


class Served(NamedTuple):
    """A server in a thread of this process."""

    path: Path
    service: Stuck

    def connect(self) -> socket.socket:
        """Return a connection, which the process closes when it ends."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.settimeout(3)
        sock.connect(str(self.path))
        return sock

    def stuck(self) -> list[socket.socket]:
        """Return connections whose requests wait: one for each worker, and one more."""
        socks = [self.connect() for _ in range(3)]
        for sock in socks:
            sock.send(encode_request(Quota()))
        assert wait_until(lambda: self.service.begun == WORKERS)
        return socks


def served(folder: Path, act: Callable[[Served], Any], *, hello_by_worker: bool = False) -> Any:  # noqa: ANN401 - what *act* returns
    """Return what *act* returns in a child that runs a server."""

    def run() -> Any:  # noqa: ANN401 - as above
        for module in (connected, requests):
            module.WORK_S = PATIENCE_S  # type: ignore[attr-defined] # a child of ours
        path = folder / "sock"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(str(path))
        listener.listen(64)
        listener.setblocking(False)  # noqa: FBT003 - the function's own signature
        service = Stuck(hello_by_worker=hello_by_worker)
        server = Server(listener, service, Notifier({}), Everybody())
        threading.Thread(target=server.serve, daemon=True, name="loop").start()
        return act(Served(path, service))

    return in_child(run)


def test_a_greeting_is_answered_while_all_workers_are_stuck(tmp_path: Path) -> None:
    """The loop knows the answer. The control: one that a worker has to give does not come."""

    def act(here: Served) -> bool:
        here.stuck()
        try:
            return isinstance(ask(here.connect(), Hello()).reply, HelloReply)
        except (TimeoutError, PeerClosed):
            return False

    (tmp_path / "loop").mkdir()
    (tmp_path / "worker").mkdir()
    by_loop = served(tmp_path / "loop", act)
    by_worker = served(tmp_path / "worker", act, hello_by_worker=True)

    assert (by_loop, by_worker) == (True, False)


@pytest.mark.parametrize(("most", "is_served"), [(1, True), (0, False)])
def test_nobody_is_accepted_whose_connection_could_not_be_closed(
    tmp_path: Path, most: int, *, is_served: bool
) -> None:
    """While too much that clients pushed waits to be closed; here it is too much or not at once."""

    def act(here: Served) -> bool:
        with suppress(TimeoutError):
            return isinstance(ask(here.connect(), Hello()).reply, HelloReply)
        return False

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bpferry_helper.disposal.MAX_WAITING", most)

        assert is_served is served(tmp_path, act)


def test_who_waits_for_a_stuck_worker_is_told_in_time(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also who waits behind. It is in the journal, and afterwards all is as before."""

    def act(here: Served) -> tuple[list[Code], float, list[bool], bool]:
        started = time.monotonic()
        socks = here.stuck()
        replies = [take(sock, Quota()).reply for sock in socks]
        waited_s = time.monotonic() - started
        closed = [is_closed(sock) for sock in socks]
        here.service.gate.set()
        again: Answered = ask(here.connect(), Quota())
        again.fds.close()
        codes = [reply.code for reply in replies if isinstance(reply, ErrorReply)]
        return codes, waited_s, closed, isinstance(again.reply, QuotaReply)

    codes, waited_s, closed, works_again = served(tmp_path, act)

    assert codes == [Code.BUSY] * 3
    assert PATIENCE_S <= waited_s < 3
    assert (closed, works_again) == ([True] * 3, True)
    assert "has no answer after" in capfd.readouterr().err


@pytest.mark.parametrize("waits", [True, False])
def test_what_takes_the_kernel_long_to_close_is_not_closed_by_the_loop(
    tmp_path: Path, *, waits: bool
) -> None:
    """To delete a tap, it takes its lock. The control: what takes no time is closed there.

    We are the last who close a tap if nobody got it, or if somebody closed it at once.
    """

    def act(here: Served) -> tuple[set[str], set[str]]:
        here.service.closing_waits = waits
        closed_by: list[str] = []
        note_who_closes(closed_by)
        for sock in here.stuck():
            take(sock, Quota())
        here.service.gate.set()
        assert wait_until(lambda: len(closed_by) == WORKERS)
        dropped = set(closed_by)
        ask(here.connect(), Quota())
        assert wait_until(lambda: len(closed_by) > WORKERS)
        return dropped, set(closed_by[WORKERS:])

    dropped, sent = served(tmp_path, act)

    threads = {"load-0", "load-1"} if waits else {"loop"}
    assert dropped <= threads
    assert sent <= threads


def test_what_the_kernel_still_closes_is_not_in_the_way_of_the_next_request(
    tmp_path: Path,
) -> None:
    """Who starts a VM anew asks for a tap with the address of the last one, which they closed."""

    def act(here: Served) -> list[int]:
        closed_by: list[str] = []
        closed: list[int] = []
        note_who_closes(closed_by, pause_s=0.1)
        here.service.look = lambda: closed.append(sum(name != "MainThread" for name in closed_by))
        here.service.gate.set()
        for _ in range(3):
            ask(here.connect(), Quota())
        return closed

    assert served(tmp_path, act) == [0, 1, 2]


def test_what_a_client_was_told_is_not_done_is_not_done_later(tmp_path: Path) -> None:
    """It would delay others, and make a tap for nobody. The control: two had begun by then."""

    def act(here: Served) -> int:
        for sock in here.stuck():
            take(sock, Quota())
        here.service.gate.set()
        time.sleep(0.3)
        return here.service.begun

    assert served(tmp_path, act) == WORKERS


def test_to_close_what_nobody_got_is_no_user_s_job(tmp_path: Path) -> None:
    """Else it would take root's turns. The control: what root asks for is root's."""

    def act(here: Served) -> list[int]:
        submitted: list[int] = []

        submit = Workers.submit

        def noted(self: Workers, job: Job) -> None:
            submitted.append(job.uid)
            submit(self, job)

        Workers.submit = noted  # type: ignore[method-assign] # a child of ours
        for sock in here.stuck():
            take(sock, Quota())
        here.service.gate.set()
        assert wait_until(lambda: submitted.count(NOBODYS) == WORKERS)
        return submitted

    assert served(tmp_path, act) == [os.getuid()] * 3 + [NOBODYS] * WORKERS


class Locked(socket.socket):
    """A netlink socket on which the kernel takes its lock."""

    def __init__(self, gate: threading.Event, waits: threading.Event) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._gate = gate
        self._waits = waits

    def send(self, *_: object) -> int:
        """Wait."""
        self._waits.set()
        self._gate.wait()
        raise OSError(errno.EIO, "the test is over")


class Message(dict[str, Any]):
    """What is sent."""

    data = b""

    def encode(self) -> None:
        """Do nothing."""


def test_who_comes_after_a_stuck_message_does_not_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second worker gets an error that becomes "busy". The control: the first one waits."""
    monkeypatch.setattr(netlink, "ANSWER_S", 0.2)
    gate, waits = threading.Event(), threading.Event()
    errors: list[int] = []

    def change() -> None:
        try:
            netlink_socket.change("make it", Message(header={}), 16)
        except LinkError as error:
            errors.append(error.errno)

    with Netlink(Locked(gate, waits)) as netlink_socket:
        first = threading.Thread(target=change)
        first.start()
        waits.wait()
        change()
        early = list(errors)
        first_waits = first.is_alive()
        gate.set()
        first.join()

    assert (early, first_waits) == ([errno.ETIMEDOUT], True)
