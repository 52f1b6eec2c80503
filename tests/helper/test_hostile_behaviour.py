# SPDX-License-Identifier: LGPL-2.1-or-later
"""Clients that are slow, rude or many do not delay the others."""

import errno
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from bpferry_helper.door import MAX_PER_UID
from bpferry_wire.errors import Code
from bpferry_wire.messages import ErrorReply, Hello, HelloReply, Load, LoadReply, Reply, Request
from bpferry_wire.packets import decode_reply, encode_request
from tests.helper.conftest import check_unharmed
from tests.support.census import fd_targets, fds_allowed, wait_until
from tests.support.children import fork
from tests.support.hasty_helper import FIRST_REQUEST_S, NEXT_REQUEST_S, hasty_helper
from tests.support.helper_process import NO_LIMITS, HelperProcess, left_alive, running_helper
from tests.support.packets import HELLO
from tests.support.people import (
    ALICE,
    BOB,
    SOCKET_GID,
    Person,
    acting_as,
    ask,
    ask_once,
    code_of_next,
    connect,
    is_closed,
    take,
)

pytestmark = [pytest.mark.privileged, pytest.mark.kernel, pytest.mark.qemu]

unharmed = pytest.mark.usefixtures("unharmed")


@pytest.fixture
def load(rss_digest: bytes) -> Load:
    """Return a request that is granted."""
    return Load("rss", rss_digest)


def granted(helper: HelperProcess, request: Request, person: Person = ALICE) -> bool:
    """Ask once, close what came, and say whether it was a grant of four fds."""
    answered = ask_once(helper.path, request, person)
    with answered.fds as fds:
        return isinstance(answered.reply, LoadReply) and len(fds) == 4


@contextmanager
def connections(
    helper: HelperProcess, count: int, person: Person = ALICE
) -> Iterator[list[socket.socket]]:
    """Yield *count* connections of *person*."""
    with ExitStack() as stack:
        yield [stack.enter_context(connect(helper.path, person)) for _ in range(count)]


# -- quick ones


def test_who_asks_again_at_once_has_one_connection(helper: HelperProcess) -> None:
    """Each time on a new connection, twice as often as may be open: none is refused for that."""
    with acting_as(ALICE):
        replies = [_quick_answer(helper) for _ in range(2 * MAX_PER_UID)]

    assert {HelloReply} == {type(decode_reply(reply, Hello())) for reply in replies}


def _quick_answer(helper: HelperProcess) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(str(helper.path))
        sock.send(HELLO)
        return sock.recv(4096)


# -- the deadlines


@pytest.mark.slow
def test_silent_clients_are_hung_up_on_in_time(load: Load) -> None:
    """So long for the first request, longer for the next, also with a grant not yet taken."""
    with hasty_helper() as helper:
        before = (helper.settle(), helper.held())
        with (
            connect(helper.path) as silent,
            connect(helper.path) as greeted,
            connect(helper.path) as never_reads,
        ):
            then = time.monotonic()
            ask(greeted, Hello())
            never_reads.send(encode_request(load))
            closed = closing_times(
                {"silent": silent, "greeted": greeted, "never reads": never_reads}
            )
            take(never_reads, load).fds.close()
        check_unharmed(helper, *before)

    first, next_ = FIRST_REQUEST_S, NEXT_REQUEST_S
    wanted = {"silent": first, "greeted": next_, "never reads": next_}
    late = {name: closed[name] - then - seconds for name, seconds in wanted.items()}
    assert all(-0.5 < seconds < 2.5 for seconds in late.values()), late


def closing_times(socks: dict[str, socket.socket]) -> dict[str, float]:
    """Return when the other side closed each, without taking what it sent."""
    poll = select.poll()
    names = {sock.fileno(): name for name, sock in socks.items()}
    for fd in names:
        poll.register(fd, select.POLLRDHUP)
    closed: dict[str, float] = {}
    end = time.monotonic() + NEXT_REQUEST_S + 5
    while len(closed) < len(socks) and time.monotonic() < end:
        for fd, _ in poll.poll(1000):
            closed[names[fd]] = time.monotonic()
            poll.unregister(fd)
    return closed


# -- clients that do not read


@unharmed
def test_who_sends_and_never_reads_is_hung_up_on(helper: HelperProcess) -> None:
    """Once its socket is full of replies; the helper does not wait for it."""
    with connect(helper.path) as sock, pytest.raises(OSError, match=r"Broken|reset") as caught:
        send_without_end(sock)

    assert caught.value.errno in (errno.EPIPE, errno.ECONNRESET)


def send_without_end(sock: socket.socket) -> None:
    """Send requests until the helper hangs up."""
    for _ in range(100_000):
        sock.send(HELLO)


@unharmed
def test_a_second_load_before_the_first_is_taken_is_busy(helper: HelperProcess, load: Load) -> None:
    """At most one grant is on its way to each connection."""
    with connect(helper.path) as sock:
        for _ in range(2):
            sock.send(encode_request(load))
        wait_until(lambda: "busy for uid" in helper.log())
        first = take(sock, load)
        with first.fds:
            second = code_of_next(sock)

        assert (
            isinstance(first.reply, LoadReply),
            second,
            is_closed(sock),
        ) == (True, Code.BUSY, True)


@unharmed
def test_who_takes_each_grant_may_ask_again(helper: HelperProcess, load: Load) -> None:
    """On the same connection."""
    with connect(helper.path) as sock:
        for _ in range(3):
            with ask(sock, load).fds as fds:
                assert len(fds) == 4


@unharmed
def test_one_user_who_never_reads_does_not_stop_another(helper: HelperProcess, load: Load) -> None:
    """Sixty-four connections of one, each with a load that it does not take."""
    with connections(helper, 64) as socks:
        for sock in socks:
            with_pipe_ignored(sock, encode_request(load))
        served = [granted(helper, load, BOB) for _ in range(20)]

    assert served == [True] * 20


def with_pipe_ignored(sock: socket.socket, packet: bytes) -> None:
    """Send *packet*, also to a helper that has hung up already."""
    try:
        sock.send(packet)
    except (BrokenPipeError, ConnectionResetError):
        return


@unharmed
def test_a_stopped_client_does_not_stop_others(helper: HelperProcess, load: Load) -> None:
    """It is stopped with SIGSTOP while its grant is on its way."""
    with connect(helper.path) as sock:
        pid = fork()
        if pid == 0:
            sock.send(encode_request(load))
            os.kill(os.getpid(), signal.SIGSTOP)
            os._exit(0)
        os.waitpid(pid, os.WUNTRACED)
        sock.close()
        served = [granted(helper, load, BOB) for _ in range(5)]
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    assert served == [True] * 5


# -- clients that go away


@unharmed
@pytest.mark.parametrize("delay_s", [0, 0.01, 0.03, 0.06, 0.09])
def test_who_hangs_up_during_a_load_leaves_nothing(
    helper: HelperProcess, load: Load, delay_s: float
) -> None:
    """Whether the load has begun, is under way or is done; ``unharmed`` looks for its maps."""
    for _ in range(4):
        with connect(helper.path) as sock:
            sock.send(encode_request(load))
            time.sleep(delay_s)


@unharmed
def test_who_takes_some_replies_and_hangs_up_leaves_nothing(
    helper: HelperProcess, load: Load
) -> None:
    """One of four."""
    with connections(helper, 4) as socks:
        for sock in socks:
            sock.send(encode_request(load))
        take(socks[0], load).fds.close()


@unharmed
def test_thousands_of_quick_reconnects_harm_nobody(helper: HelperProcess) -> None:
    """Two thousand, without a word, and then a real one.

    The helper accepts some before it sees that those before have gone: for that moment the same
    user may be told ``busy``, another one is served at once.
    """
    with acting_as(ALICE):
        for _ in range(2000):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
                sock.connect(str(helper.path))
    other = ask_once(helper.path, Hello(), BOB).reply

    assert isinstance(other, HelloReply)
    assert wait_until(lambda: isinstance(ask_once(helper.path, Hello()).reply, HelloReply))


@unharmed
def test_a_connection_that_a_child_goes_on_with_is_its_parents(
    helper: HelperProcess, load: Load
) -> None:
    """A fork while connected: the child is served as who connected, after that one has gone."""
    with connect(helper.path, ALICE) as sock:
        pid = fork()
        if pid == 0:
            os.setresuid(BOB.uid, BOB.uid, BOB.uid)
            hello = ask(sock, Hello()).reply
            os._exit(0 if isinstance(hello, HelloReply) and hello.caller.uid == ALICE.uid else 1)
    _, status = os.waitpid(pid, 0)

    assert status == 0
    assert granted(helper, load)


# -- a host in trouble


def test_a_journal_that_does_not_read_stops_nobody(load: Load) -> None:
    """Standard error is a full pipe: the lines are lost, and the helper serves."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(65_536))
    # As systemd hands a socket to the journal out: a write to it would wait.
    os.set_blocking(writing, True)
    try:
        with running_helper(start=False) as helper:
            helper.start(stderr=writing)
            served = [granted(helper, load) for _ in range(3)]
            refused = ask_once(helper.path, Load("rss", bytes(32))).reply
    finally:
        os.close(reading)
        os.close(writing)

    assert served == [True] * 3
    assert isinstance(refused, ErrorReply)


# -- too many


@unharmed
def test_a_thousand_connections_at_once_do_not_keep_another_out(helper: HelperProcess) -> None:
    """Sixteen are let in, the others are told so, and somebody else is served within a second."""
    with fds_allowed(2000), connections(helper, 1000):
        started = time.monotonic()
        other = ask_once(helper.path, Hello(), BOB).reply
        waited_s = time.monotonic() - started

    assert isinstance(other, HelloReply)
    assert waited_s < 1


@unharmed
def test_the_seventeenth_connection_is_refused(helper: HelperProcess) -> None:
    """With ``busy``, while another user is served and the sixteen work on."""
    with connections(helper, MAX_PER_UID) as socks:
        for sock in socks:
            ask(sock, Hello())
        with connect(helper.path) as one_more:
            refused = (code_of_next(one_more), is_closed(one_more))
        other = ask_once(helper.path, Hello(), BOB).reply
        still = [ask(sock, Hello()).reply for sock in socks]

    assert refused == (Code.BUSY, True)
    assert all(isinstance(reply, HelloReply) for reply in (other, *still))


@unharmed
def test_who_is_refused_is_told_why_each_time(helper: HelperProcess) -> None:
    """Whether its request comes before or after the helper has hung up."""
    with connections(helper, MAX_PER_UID) as socks:
        for sock in socks:
            ask(sock, Hello())
        replies = [ask_once(helper.path, Hello()).reply for _ in range(200)]

    assert {Code.BUSY} == {r.code if isinstance(r, ErrorReply) else None for r in replies}


@unharmed
def test_a_closed_connection_makes_room(helper: HelperProcess) -> None:
    """The seventeenth is served once the first has gone."""
    with connections(helper, MAX_PER_UID) as socks:
        for sock in socks:
            ask(sock, Hello())
        socks[0].close()
        reply = ask_once(helper.path, Hello()).reply

    assert isinstance(reply, HelloReply)


def test_a_helper_without_fds_stays_up() -> None:
    """It waits with accepting, tells its watchdog on, and serves again when there are some."""
    limits = ("prlimit", "--nofile=30")
    with running_helper(NO_LIMITS, limits=limits, environ={"WATCHDOG_USEC": "200000"}) as helper:
        before = (helper.settle(), helper.held())
        with connections(helper, 14), connections(helper, 14, BOB):
            full = wait_until(lambda: "cannot accept clients for now" in helper.log())
            time.sleep(0.5)
            still_there = helper.is_running()

        assert (full, still_there) == (True, True)
        check_unharmed(helper, *before)


def test_a_load_without_fds_is_an_error(load: Load) -> None:
    """The one who asked is told, and gets its set when there are fds again."""
    limits = ("prlimit", "--nofile=24")
    with running_helper(NO_LIMITS, limits=limits) as helper:
        before = (helper.settle(), helper.held())
        room = 24 - fd_targets(helper.pid).total() - 2
        with connections(helper, room, BOB) as socks:
            for sock in socks:
                ask(sock, Hello())
            reply = ask_once(helper.path, load).reply
        wait_until(lambda: helper.settle() == before[0])
        later = granted(helper, load)

        assert isinstance(reply, ErrorReply)
        assert (reply.code, later) == (Code.FAILED, True)
        check_unharmed(helper, *before)


def test_a_policy_that_could_not_be_read_for_want_of_fds_is_read_later() -> None:
    """The error is about that moment, and not about the file."""
    with running_helper(NO_LIMITS, limits=("prlimit", "--nofile=22")) as helper:
        # His name is known then: to look it up takes an fd.
        ask_once(helper.path, Hello(), BOB)
        room = 22 - helper.settle().total()
        with connections(helper, room, BOB) as socks:
            for sock in socks:
                ask(sock, Hello())
            helper.write_policy(f"[load]\nusers = [{ALICE.uid}]\n")
            unknown = Load("rss", bytes(32))
            replies = (ask(socks[0], unknown).reply for _ in range(20))
            # On a loaded machine the policy before may be in force for a moment.
            first = next(r for r in replies if isinstance(r, ErrorReply) and r.code == Code.REFUSED)
        later = wait_until(lambda: code(helper, unknown) is Code.UNKNOWN_OBJECT, pause_s=0.2)

    assert "policy.toml: cannot be read: Too many open files" in first.message
    assert later


# -- a full disk


def test_a_full_disk_refuses_a_grant_and_no_more(load: Load) -> None:
    """What is not writable down is not handed over; with room again it is."""
    with running_helper(NO_LIMITS, state_size="64k") as helper:
        before = (helper.settle(), helper.held())
        filler = helper.inside(helper.state) / "filler"
        with pytest.raises(OSError, match="No space left"):
            filler.write_bytes(bytes(1_000_000))
        reply = ask_once(helper.path, load).reply
        filler.unlink()
        later = granted(helper, load)

        assert isinstance(reply, ErrorReply)
        assert (reply.code, "No space left" in reply.message) == (Code.FAILED, True)
        assert later
        check_unharmed(helper, *before)


# -- the pace


def test_who_asks_too_fast_is_told_how_long_to_wait() -> None:
    """And is served after that time; another user does not wait."""
    policy = "[quota]\nloads-at-once = 2\nloads-per-second = 2\n"
    unknown = Load("rss", bytes(32))
    with running_helper(policy) as helper:
        started = time.monotonic()
        replies = [ask_once(helper.path, unknown).reply]
        while is_unknown(replies[-1]):
            replies.append(ask_once(helper.path, unknown).reply)
        most = 2 + 2 * (time.monotonic() - started)
        other = code(helper, unknown, BOB)
        busy = replies.pop()
        assert isinstance(busy, ErrorReply)
        time.sleep(float(busy.hint.removeprefix("try again in ").removesuffix(" s")) + 0.1)
        later = code(helper, unknown)

    assert (Code.BUSY, Code.UNKNOWN_OBJECT, Code.UNKNOWN_OBJECT) == (busy.code, other, later)
    assert 2 <= len(replies) <= most


def is_unknown(reply: Reply | ErrorReply) -> bool:
    """Say whether *reply* is that there is no such object."""
    return isinstance(reply, ErrorReply) and reply.code is Code.UNKNOWN_OBJECT


def code(helper: HelperProcess, request: Request, person: Person = ALICE) -> Code | None:
    """Return the code of the error with which *request* is answered."""
    answered = ask_once(helper.path, request, person)
    answered.fds.close()
    return answered.reply.code if isinstance(answered.reply, ErrorReply) else None


# -- the process's life


def test_it_ends_when_nobody_comes(load: Load) -> None:
    """It says so to its service manager, its grants live on, and the next start serves."""
    with running_helper("[service]\nidle-exit-seconds = 1\n") as helper:
        answered = ask_once(helper.path, load)
        status = helper.wait_for_exit(10)
        helper.wait_for("STOPPING=1")
        with answered.fds as fds:
            alive = [os.path.lexists(f"/proc/self/fd/{fd.borrow()}") for fd in fds]
        helper.start()
        helper.check_serves()

        assert (0, [True] * 4, set()) == (status, alive, left_alive(helper.granted()))


def test_it_does_not_end_while_somebody_is_connected() -> None:
    """However quiet the client is."""
    with running_helper("[service]\nidle-exit-seconds = 1\n") as helper:
        with connect(helper.path):
            time.sleep(2)
            running = helper.is_running()

        assert (running, helper.wait_for_exit(10)) == (True, 0)


def test_the_watchdog_is_told_that_all_is_well() -> None:
    """At least twice in its time, also when nobody asks anything."""
    with running_helper(environ={"WATCHDOG_USEC": "1000000"}) as helper:
        for _ in range(3):
            helper.wait_for("WATCHDOG=1", patience_s=1)


def test_a_killed_helper_is_followed_by_one_that_serves(load: Load) -> None:
    """Clients that come in between wait in the socket's backlog."""
    with running_helper() as helper:
        helper.kill()
        with connect(helper.path) as early:
            early.send(HELLO)
            helper.start()
            reply = take(early, Hello()).reply

        assert (isinstance(reply, HelloReply), granted(helper, load)) == (True, True)


def test_a_helper_that_was_killed_fails_its_clients_at_once() -> None:
    """They see the end of the connection, and not a wait."""
    with running_helper() as helper, connect(helper.path) as sock:
        ask(sock, Hello())
        helper.kill()

        assert is_closed(sock)


# -- binaries


@pytest.mark.parametrize("spoil", ["group", "others", "owner", "no ELF", "folder", "link"])
def test_an_object_in_a_binary_that_is_not_trusted_is_unknown(
    rss: bytes, load: Load, spoil: str
) -> None:
    """The same object in the same place is granted once root alone can change it."""
    with running_helper(None) as helper:
        helper.write_policy(f"{NO_LIMITS}[qemu]\ntrusted = ['{helper.binaries}/qemu-*']\n")
        binary = helper.binaries / "qemu-test"
        content = b"\x7fELF" + bytes(5000) + rss + bytes(100)
        binary.write_bytes(content if spoil != "no ELF" else b"#!/bin/sh\n")
        binary.chmod({"group": 0o775, "others": 0o757}.get(spoil, 0o755))
        os.chown(binary, 1001 if spoil == "owner" else 0, 0)
        helper.binaries.chmod(0o777 if spoil == "folder" else 0o755)
        if spoil == "link":
            binary.rename(helper.binaries / "real")
            binary.symlink_to(helper.binaries / "real")
        refused = code(helper, load)
        binary.unlink()
        binary.write_bytes(content)
        binary.chmod(0o755)
        helper.binaries.chmod(0o755)

        assert (refused, granted(helper, load)) == (Code.UNKNOWN_OBJECT, True)


def test_no_binary_at_all_is_an_answer(load: Load) -> None:
    """The hint says where the helper looks."""
    with running_helper(f"{NO_LIMITS}[qemu]\ntrusted = ['/nonexistent/qemu-*']\n") as helper:
        reply = ask_once(helper.path, load, Person(BOB.uid, SOCKET_GID)).reply

    assert isinstance(reply, ErrorReply)
    assert (reply.code, "/nonexistent/qemu-*" in reply.hint) == (Code.UNKNOWN_OBJECT, True)
