# SPDX-License-Identifier: LGPL-2.1-or-later
"""Overload: one who floods, and what root wrote that takes long."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from bpferry.errors import HelperError
from bpferry.network.bpf_helper import BpfHelper
from bpferry_helper import pacing
from bpferry_helper.bpf import binary
from bpferry_helper.bpf.binary import Untrusted, open_trusted
from bpferry_helper.bpf.embedded import scan
from bpferry_helper.door import MAX_CONNECTIONS, MAX_PER_UID
from bpferry_helper.identity import GroupReader, Peer, identify
from bpferry_helper.log import LINES_AT_ONCE, MAX_LINE_CHARS, WARNING, log
from bpferry_helper.policy.file import read_policy
from bpferry_helper.rate import FairPace, Pace, TokenBuckets
from bpferry_helper.role import hello
from bpferry_helper.server import BACKLOG
from bpferry_helper.tap import service as tap_service
from bpferry_helper.tap.service import TapService
from bpferry_helper.work import WORKERS, Job, Workers
from bpferry_wire import channel
from bpferry_wire.errors import Code
from bpferry_wire.messages import ErrorReply, Hello, HelloReply
from bpferry_wire.packets import encode_reply, encode_request
from tests.support.census import fds_allowed
from tests.support.helper_process import NO_LIMITS, HelperProcess, running_helper
from tests.support.people import (
    ALICE,
    BOB,
    SOCKET_GID,
    Person,
    ask,
    ask_once,
    connect,
    connect_often,
    take,
)
from tests.support.workers import end, hold_up, order_of

pytestmark = [pytest.mark.privileged, pytest.mark.kernel]

# -- the queue of connections


@contextmanager
def full_queue(path: Path) -> Iterator[socket.socket]:
    """Listen at *path* with room for one connection, which is taken."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener, ExitStack() as stack:
        listener.bind(str(path))
        listener.listen(0)
        stack.enter_context(connect_now(path))
        yield listener


def connect_now(path: Path) -> socket.socket:
    """Connect without trying again, as the client did before."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.settimeout(1)
    try:
        sock.connect(str(path))
    except BaseException:
        sock.close()
        raise
    return sock


def test_the_client_goes_on_trying_while_the_queue_is_full(tmp_path: Path) -> None:
    """The control: whoever tries once is turned away by the kernel."""
    path = tmp_path / "sock"
    with full_queue(path) as listener:
        with pytest.raises(BlockingIOError):
            connect_now(path)
        late = threading.Timer(0.3, answer_the_second, [listener])
        late.start()
        with BpfHelper(str(path), 10) as client:
            assert client.hello().caller.uid == ALICE.uid
        late.join()


def answer_the_second(listener: socket.socket) -> None:
    """Take the first connection off the queue, and greet the second as Alice."""
    listener.accept()[0].close()
    with listener.accept()[0] as sock:
        sock.recv(4096)
        greeting = hello("bpf", Peer(ALICE.uid, frozenset(), 1, (), 1)).reply
        channel.send(sock, encode_reply(greeting))


def test_the_client_gives_up_in_the_end(tmp_path: Path) -> None:
    """After as long as it waits for any answer."""
    path = tmp_path / "sock"
    with (
        full_queue(path),
        BpfHelper(str(path), 0.3) as client,
        pytest.raises(HelperError, match=r"did not answer within 0\.3 s"),
    ):
        client.hello()


def queue_length(path: Path) -> int:
    """Return how many connections the queue at *path* takes until the kernel refuses one."""
    with ExitStack() as stack:
        for number in range(1000):
            try:
                stack.enter_context(connect_now(path))
            except BlockingIOError:
                return number
    return 1000


def test_few_wait_before_a_client_that_gets_into_the_queue() -> None:
    """While the helper is stopped. The control: the queue of who listened for it takes them all."""
    with running_helper(start=False) as helper:
        control = queue_length(helper.path)
        helper.start()
        helper.check_serves()
        with helper.stopped():
            length = queue_length(helper.path)

    assert (control, length) == (1000, BACKLOG + 1)


# -- the places of all users together


def fill(helper: HelperProcess, stack: ExitStack) -> list[Person]:
    """Take every place, as 64 users with sixteen connections each; return who they are."""
    people = [Person(1_700_010 + number) for number in range(MAX_CONNECTIONS // MAX_PER_UID)]
    for person in people:
        # Who is known by name already need not wait for that.
        ask_once(helper.path, Hello(), person).fds.close()
    for person in people:
        for sock in connect_often(helper.path, person, MAX_PER_UID):
            stack.enter_context(sock)
    return people


def test_who_comes_when_all_places_are_taken_gets_one() -> None:
    """It is taken from who has most. The control: who has nearly as many is turned away."""
    with running_helper() as helper, ExitStack() as stack, fds_allowed(4000):
        people = fill(helper, stack)
        newcomer = stack.enter_context(connect(helper.path, BOB))
        greeted = ask(newcomer, Hello()).reply
        again = [ask_once(helper.path, Hello(), person).reply for person in people]

    refused = [reply for reply in again if isinstance(reply, ErrorReply)]
    assert isinstance(greeted, HelloReply)
    assert [Code.BUSY] * len(people) == [reply.code for reply in refused]
    assert sum("all users together" in reply.message for reply in refused) == 1


# -- more than is good


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time, which the test moves."""
    now = [100.0]
    monkeypatch.setattr("bpferry_helper.rate.time.monotonic", lambda: now[0])
    return now


def test_a_flood_of_requests_takes_nothing_from_who_asks_for_little(clock: list[float]) -> None:
    """64 users ask as often as they can. The control: with one bucket for all there is no room."""
    pace = FairPace(pacing.OWN_PACE, pacing.SHARED_PACE)
    one_for_all = TokenBuckets()
    waits, control = [], []
    for _ in range(100):
        for uid in range(1, 65):
            while not pace.take(uid):
                pass
            while not one_for_all.take(0, *pacing.SHARED_PACE):
                pass
        waits.append(pace.take(1000))
        control.append(one_for_all.take(0, *pacing.SHARED_PACE))
        clock[0] += 0.3

    assert (set(waits), any(control)) == ({0.0}, True)


def test_who_asks_ten_times_a_second_does_not_wait_in_a_flood(clock: list[float]) -> None:
    """As long as it may be. The control: with four a second of their own, they would."""
    pace, control = (FairPace(own, pacing.SHARED_PACE) for own in (pacing.OWN_PACE, Pace(32, 4)))
    waits: dict[FairPace, set[float]] = {pace: set(), control: set()}
    for _ in range(300):
        for flooded, waited in waits.items():
            for uid in range(1, 65):
                while not flooded.take(uid):
                    pass
            waited.add(flooded.take(1000))
        clock[0] += 0.1

    assert (waits[pace], waits[control] > {0.0}) == ({0.0}, True)


def test_a_flood_is_bounded_whatever_the_number_of_users(clock: list[float]) -> None:
    """All together: what each may on their own, and what is shared."""
    pace = FairPace(Pace(2, 1), Pace(10, 5))
    granted = 0
    for _ in range(20):
        granted += sum(not pace.take(uid) for uid in range(1, 9) for _ in range(50))
        clock[0] += 1

    assert granted <= 8 * (2 + 20) + 10 + 5 * 20


def test_requests_beyond_the_pace_are_served_later_and_not_refused() -> None:
    """All of them, at the pace; and another user is served meanwhile."""
    count = pacing.SHARED_PACE.at_once + pacing.OWN_PACE.at_once + 100
    with running_helper(NO_LIMITS) as helper, connect(helper.path) as sock:
        started = time.monotonic()
        replies = [ask(sock, Hello()).reply for _ in range(count)]
        took_s = time.monotonic() - started
        other = ask_once(helper.path, Hello(), BOB).reply

    assert all(isinstance(reply, HelloReply) for reply in [*replies, other])
    assert took_s > 100 / (pacing.SHARED_PACE.per_second + pacing.OWN_PACE.per_second) / 2


# -- what takes long


def lines_with_brackets(count: int) -> str:
    """Return a policy with an open list that has a bracket in each line."""
    return "[load]\nusers = [\n" + "  1, # ]\n" * count + "]\n"


def test_a_policy_is_read_in_linear_time(roots_folder: Path) -> None:
    """Seven thousand lines with a bracket. A thousand took two seconds."""
    path = roots_folder / "policy.toml"
    path.write_text(lines_with_brackets(7000))
    started = time.process_time()
    policy = read_policy(str(path), 1)

    assert (policy.users, time.process_time() - started < 1) == (frozenset({1}), True)


def sparse(folder: Path, size: int) -> Path:
    """Make a file of *size* bytes that takes no room."""
    path = folder / "qemu-large"
    with path.open("wb") as file:
        file.truncate(size)
    return path


def test_a_binary_too_large_to_search_is_not_searched(
    roots_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20 GiB of nothing kept a worker for 40 s. The control: without the bound, a fiftieth does."""
    path = sparse(roots_folder, 20 << 30)
    with pytest.raises(Untrusted, match="larger than 512 MiB"):
        open_trusted(str(path))
    monkeypatch.setattr(binary, "MAX_BINARY_BYTES", 1 << 50)
    path = sparse(roots_folder, 400 << 20)
    started = time.monotonic()
    opened = open_trusted(str(path))
    with opened.fd:
        scan(opened)

    assert time.monotonic() - started > 0.05


# -- the journal


def test_a_line_of_the_log_has_an_end(capfd: pytest.CaptureFixture[str]) -> None:
    """However long what a client sent is once it is escaped."""
    log(WARNING, "\x00" * 100_000)

    assert len(capfd.readouterr().err) < MAX_LINE_CHARS + 100


def test_strangers_do_not_fill_the_journal() -> None:
    """A hundred that are nobody's. The control: each would be a line of its own."""
    with running_helper() as helper:
        replies = [greeted(helper, Person(2_000_000)) for _ in range(100)]
        lines = helper.log().count("refused a client")

    assert all(isinstance(reply, ErrorReply) for reply in replies)
    assert 1 <= lines <= 2 * LINES_AT_ONCE


def greeted(helper: HelperProcess, person: Person) -> object:
    """Return how the helper answers *person*, who may be sent away before asking."""
    with connect(helper.path, person) as sock:
        return ask(sock, Hello()).reply


# -- whose turn it is


def test_who_asks_for_the_first_time_does_not_wait_for_all_who_ask_all_the_time() -> None:
    """Twenty users were served before and ask again. The control: one of them comes in its turn."""
    workers = Workers()
    for uid in range(20):
        workers.submit(Job(uid, uid, lambda: None))
    order_of(workers, 20)
    gate = threading.Event()
    hold_up(workers, gate)
    for uid in range(20):
        workers.submit(Job(uid, uid, lambda: None))
    workers.submit(Job(500, 500, lambda: None))
    gate.set()
    order = order_of(workers, WORKERS + 20 + 1)
    end(workers)

    assert order.index(500) < 4
    assert order.index(19) > 10


def test_a_fault_while_sweeping_does_not_end_all_later_sweeps(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is written down. The control: what nobody catches ends the thread, as all did before."""
    sweeper = TapService.__new__(TapService)
    faults: list[type[BaseException]] = [RuntimeError, KeyError, SystemExit]
    sweeps = iter(faults)

    def sweep() -> None:
        raise next(sweeps)("oh")

    monkeypatch.setattr(sweeper, "sweep", sweep)
    monkeypatch.setattr(tap_service, "FIRST_SWEEP_S", 0.01)
    monkeypatch.setattr(tap_service, "SWEEP_S", 0.01)
    with pytest.raises(SystemExit):
        sweeper._sweep_forever()

    said = capfd.readouterr().err
    assert ("RuntimeError: oh" in said, "KeyError: 'oh'" in said) == (True, True)


MANY: Final = tuple(range(3_000_000, 3_065_535))
"""As many groups as a process can have, but for its own. The kernel copies them for 3 ms."""


def copying_s(folder: Path, times: int) -> float:
    """Return how long a thread that does nothing else copies MANY groups so many *times*."""
    reader = GroupReader(frozenset())
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(folder / "sock"))
        listener.listen()
        with connect(folder / "sock", Person(0, 0, MANY)), listener.accept()[0] as sock:
            who = identify(sock, frozenset())
            started = time.monotonic()
            for _ in range(times):
                reader.peer(sock, who, who.uid, frozenset())
            return time.monotonic() - started


def test_long_lists_of_groups_do_not_hold_up_the_loop(tmp_path: Path) -> None:
    """Seven users wait with sixteen each, and then another. The control: to copy all those lists.

    A loop that copied them itself would not answer the last one any sooner.
    """
    people = [Person(1_700_010 + number, SOCKET_GID, MANY) for number in range(7)]
    with running_helper() as helper, ExitStack() as stack:
        for person in (*people, BOB):
            # Who is known by name already need not wait for that.
            ask_once(helper.path, Hello(), person._replace(groups=())).fds.close()
        with helper.stopped():
            socks = [
                stack.enter_context(sock)
                for person in people
                for sock in connect_often(helper.path, person, MAX_PER_UID)
            ]
            last = stack.enter_context(connect(helper.path, BOB))
            for sock in (*socks, last):
                sock.send(encode_request(Hello()))
            started = time.monotonic()
        other = take(last, Hello()).reply
        waited_s = time.monotonic() - started
        theirs = [take(sock, Hello()).reply for sock in socks]
    control_s = copying_s(tmp_path, len(socks))

    assert all(isinstance(reply, HelloReply) for reply in (other, *theirs))
    assert waited_s < control_s / 2
