# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may do what, by the real helper in front of real users."""

import ctypes
import os
import socket
from pathlib import Path

import pytest

from bpferry_wire import channel, limits
from bpferry_wire.errors import Code
from bpferry_wire.messages import (
    Can,
    CanReply,
    ErrorReply,
    Hello,
    HelloReply,
    Load,
    Reply,
    Status,
    StatusReply,
)
from bpferry_wire.packets import decode_reply
from tests.support.children import in_child
from tests.support.helper_process import NO_LIMITS, HelperProcess, running_helper
from tests.support.packets import HELLO
from tests.support.people import (
    ALICE,
    BOB,
    ROOT,
    SOCKET_GID,
    Person,
    ask_once,
    connect,
    take,
)

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.kernel,
    pytest.mark.usefixtures("unharmed"),
]

CLONE_NEWUSER = 0x1000_0000
PR_SET_DUMPABLE = 4


def hello(helper: HelperProcess, person: Person) -> Reply | ErrorReply:
    """Return how the helper greets *person*."""
    return ask_once(helper.path, Hello(), person).reply


def uid_seen(helper: HelperProcess, person: Person) -> int:
    """Return the uid under which the helper knows *person*."""
    reply = hello(helper, person)
    assert isinstance(reply, HelloReply)
    return reply.caller.uid


@pytest.mark.parametrize("uid", [0, 1, 65533, 65535, 2**31 - 1, 2**31, 2**32 - 2])
def test_every_uid_is_known_as_it_is(helper: HelperProcess, uid: int) -> None:
    """No uid turns negative, or into another one."""
    assert uid == uid_seen(helper, Person(uid))


def test_nobody_is_refused(helper: HelperProcess) -> None:
    """65534 means an unknown user."""
    with connect(helper.path, Person(65534)) as sock:
        reply = decode_reply(channel.receive(sock).data, Hello())

    assert isinstance(reply, ErrorReply)
    assert reply.code == Code.REFUSED


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 65_535])
def test_all_groups_are_counted_and_some_are_shown(helper: HelperProcess, count: int) -> None:
    """The reply is bounded; the decision is made on all of them."""
    groups = tuple(range(3_000_000, 3_000_000 + count))
    reply = hello(helper, Person(ALICE.uid, SOCKET_GID, groups))

    assert isinstance(reply, HelloReply)
    assert (count + 1, min(count + 1, limits.MAX_GIDS_SHOWN)) == (
        reply.caller.gid_count,
        len(reply.caller.gids),
    )


def test_the_last_of_65_536_groups_lets_in() -> None:
    """A list that was cut at 256 would be refused."""
    with running_helper(f"{NO_LIMITS}[load]\ngroups = [4000000]\n") as helper:
        member = Person(ALICE.uid, SOCKET_GID, (*range(3_000_000, 3_065_535), 4_000_000))
        answers = [ask_once(helper.path, Load("rss", bytes(32)), p).reply for p in (member, BOB)]

    assert [answer.code for answer in answers if isinstance(answer, ErrorReply)] == [
        Code.UNKNOWN_OBJECT,
        Code.REFUSED,
    ]


def test_who_is_not_in_the_socket_s_group_cannot_connect(helper: HelperProcess) -> None:
    """The mode of the socket is the first gate."""
    with pytest.raises(PermissionError):
        connect(helper.path, Person(ALICE.uid, gid=1_699_999))


def test_root_of_a_user_namespace_is_not_root(helper: HelperProcess) -> None:
    """It may not see who holds what."""

    def ask_as_root_inside() -> Reply | ErrorReply:
        os.setgroups([])
        os.setresgid(SOCKET_GID, SOCKET_GID, SOCKET_GID)
        os.setresuid(ALICE.uid, ALICE.uid, ALICE.uid)
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
        if libc.unshare(CLONE_NEWUSER) != 0:
            raise AssertionError("no user namespace")
        Path("/proc/self/uid_map").write_text(f"0 {ALICE.uid} 1")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.connect(str(helper.path))
            channel.send(sock, b"\x82\xa1v\x01\xa2op\xa6status")
            reply = decode_reply(channel.receive(sock).data, Status())
        if os.getuid() != 0:
            raise AssertionError("not root inside")
        return reply

    reply = in_child(ask_as_root_inside)

    assert isinstance(reply, ErrorReply)
    assert reply.code == Code.REFUSED


@pytest.mark.parametrize("person", [ALICE, Person(2**32 - 2), Person(2**31)])
def test_status_is_for_root_alone(helper: HelperProcess, person: Person) -> None:
    """Everybody else is refused, with a hint."""
    reply = ask_once(helper.path, Status(), person).reply

    assert isinstance(reply, ErrorReply)
    assert (reply.code, reply.hint) == (Code.REFUSED, "ask with sudo")


def test_status_is_for_root(helper: HelperProcess) -> None:
    """Root gets it."""
    reply = ask_once(helper.path, Status(), ROOT).reply

    assert isinstance(reply, StatusReply)
    assert reply.counted_by == "kernel"


def test_a_socket_that_was_passed_on_speaks_for_who_made_it(helper: HelperProcess) -> None:
    """Bob, who got Alice's connection, is Alice to the helper."""
    with connect(helper.path, ALICE) as sock:

        def send_as_bob() -> None:
            os.setresgid(SOCKET_GID, SOCKET_GID, SOCKET_GID)
            os.setresuid(BOB.uid, BOB.uid, BOB.uid)
            sock.send(HELLO)

        in_child(send_as_bob)
        reply = take(sock, Hello()).reply

    assert isinstance(reply, HelloReply)
    assert reply.caller.uid == ALICE.uid


def test_a_connection_outlives_who_made_it(helper: HelperProcess) -> None:
    """The uid is known although its process is dead; the pid decides nothing."""
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def connect_hand_over_and_die() -> None:
            with connect(helper.path, ALICE) as sock:
                socket.send_fds(theirs, [b"x"], [sock.fileno()])

        in_child(connect_hand_over_and_die)
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    with socket.socket(fileno=fds[0]) as sock:
        sock.settimeout(10)
        sock.send(HELLO)
        reply = take(sock, Hello()).reply

    assert isinstance(reply, HelloReply)
    assert reply.caller.uid == ALICE.uid


def test_who_is_not_named_is_refused_with_the_line() -> None:
    """The answer to ``can`` names file and line, and so does the refusal."""
    with running_helper(f"[load]\nusers = [{ALICE.uid}]\n") as helper:
        can = ask_once(helper.path, Can(Load("rss", bytes(32))), BOB).reply
        load = ask_once(helper.path, Load("rss", bytes(32)), BOB).reply

    assert isinstance(can, CanReply)
    assert isinstance(load, ErrorReply)
    assert (can.allowed, can.code, load.code) == (False, Code.REFUSED, Code.REFUSED)
    assert "/etc/bpferry/policy.toml:2 (load.users)" in can.because
    assert "/etc/bpferry/policy.toml:2 (load.users)" in load.message


@pytest.mark.qemu
def test_can_tells_what_load_would_do(helper: HelperProcess, rss_digest: bytes) -> None:
    """Nothing is made: ``unharmed`` compares."""
    answers = [
        ask_once(helper.path, Can(Load("rss", digest))).reply for digest in (rss_digest, bytes(32))
    ]

    told = [(a.allowed, a.code) for a in answers if isinstance(a, CanReply)]
    assert told == [(True, ""), (False, Code.UNKNOWN_OBJECT)]


def test_a_broken_policy_grants_nothing_and_says_which_line() -> None:
    """Mended, it works without a restart."""
    with running_helper("[quota]\nsets-per-user = many\n") as helper:
        refused = ask_once(helper.path, Load("rss", bytes(32))).reply
        greeted = ask_once(helper.path, Hello()).reply
        helper.write_policy("[quota]\nsets-per-user = 5\n")
        later = ask_once(helper.path, Load("rss", bytes(32))).reply

    assert isinstance(refused, ErrorReply)
    assert isinstance(later, ErrorReply)
    assert (refused.code, "policy.toml:2: " in refused.message) == (Code.REFUSED, True)
    assert (isinstance(greeted, HelloReply), later.code) == (True, Code.UNKNOWN_OBJECT)
