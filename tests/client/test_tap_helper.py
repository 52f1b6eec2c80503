# SPDX-License-Identifier: LGPL-2.1-or-later
"""Asking for taps: a good helper, one that says no, and those that nobody should believe."""

import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bpferry.errors import BpferryError, HelperError, NoHelper, NotReady, Refused, Unsupported
from bpferry.network import tun
from bpferry.network.tap_helper import GrantedTap, TapHelper
from bpferry_wire.errors import Code
from bpferry_wire.limits import MAX_QUEUES
from bpferry_wire.messages import (
    Caller,
    Can,
    CanReply,
    Create,
    Delete,
    DeleteReply,
    HelloReply,
    ListReply,
    ListTaps,
    OwnTap,
    QuotaReply,
    Request,
    Tap,
    TapReply,
)
from bpferry_wire.packets import decode_request
from bpferry_wire.vm_names import vm_of
from tests.client import fake_helper as fake
from tests.client import taps

WANTED = Tap("br0", is_network=False, queues=4)
REPLY = TapReply(taps.NAME, "br0", 1500)
HELLO = HelloReply("tap", "1", Caller(0, (0,), 1), 4096, 64)

real_taps = pytest.mark.privileged


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the helper's socket will be."""
    return tmp_path / "tap.sock"


def ask(path: str, request: Tap = WANTED) -> GrantedTap:
    """Ask the helper at *path* for a tap."""
    with TapHelper(path, seconds=5) as helper:
        return helper.tap(request)


@real_taps
@pytest.mark.parametrize("queues", [1, 2, MAX_QUEUES])
def test_good_tap(queues: int, path: Path, namespace: str) -> None:
    """A tap that is what it should be is handed over, and gone when it is closed."""
    give = fake.gives_tap(taps.made(namespace, queues), REPLY)

    with (
        fake.helper(path, give) as where,
        ask(where, WANTED._replace(queues=queues)) as tap,
    ):
        assert (taps.NAME, "br0", 1500, queues) == (
            tap.interface, tap.bridge, tap.mtu, tap.queues,
        )  # fmt: skip
        assert [taps.NAME] * queues == [tun.identify(fd).interface for fd in tap.borrow()]
        assert not any(os.get_inheritable(fd) for fd in tap.borrow())

    assert [] == taps.in_namespace(namespace)


@real_taps
def test_network_may_be_any_bridge(path: Path, namespace: str) -> None:
    """Which bridge a network is, is the policy's word and not ours."""
    give = fake.gives_tap(taps.made(namespace), REPLY._replace(bridge="virbr7"))
    wanted = WANTED._replace(source="lan", is_network=True)

    with fake.helper(path, give) as where, ask(where, wanted) as tap:
        assert tap.bridge == "virbr7"


@pytest.mark.parametrize(
    ("wanted", "reply", "words"),
    [
        (WANTED, REPLY._replace(bridge="br1"), "a tap on the bridge 'br1', not 'br0'"),
        (
            WANTED._replace(mtu=9000),
            REPLY,
            "a tap with the MTU 1500, where 9000 is asked for",
        ),
        (WANTED, REPLY, "0 fds for a tap with 4 queues"),
        (WANTED, REPLY._replace(interface="a'; id;'"), "a tap of the name \"a'; id;'\""),
        (WANTED, REPLY._replace(interface=""), "a tap of the name ''"),
    ],
    ids=["bridge", "mtu", "no-fds", "shell", "no-name"],
)
def test_words_that_are_not_sound(wanted: Tap, reply: TapReply, words: str, path: Path) -> None:
    """A tap that is not the one asked for is not used."""
    with fake.helper(path, fake.replies(reply)) as where, pytest.raises(HelperError) as caught:
        ask(where, wanted)

    assert caught.value.message == (f"the helper at '{path}' sent an invalid reply: {words}")
    assert "client and helper may be of different versions" in caught.value.hint


SINGLE = tun.queue_flags(1)
SEVERAL = tun.queue_flags(2)


@real_taps
@pytest.mark.parametrize(
    ("queues", "flags", "change", "words"),
    [
        (4, SEVERAL, taps.one_less, "3 fds for a tap with 4 queues"),
        (4, SEVERAL, taps.one_more, "5 fds for a tap with 4 queues"),
        (4, SEVERAL, taps.null_at(3), "fd 3 of the tap 'bft00000001' is no queue of a tap (Inapp"),
        (4, SEVERAL, taps.unattached_at(2), "is no queue of a tap (File descriptor in bad state)"),
        (4, SEVERAL, taps.other_at(1), "fd 1 of the tap 'bft00000001' is a queue of 'other'"),
        (4, SEVERAL, taps.twice, "the same queue of the tap 'bft00000001' twice"),
        (4, SEVERAL, taps.persistent, "fd 0 of the tap 'bft00000001' is persistent"),
        (4, SEVERAL, taps.detached, "fd 3 of the tap 'bft00000001' is a queue without packets"),
        (1, SEVERAL, None, "fd 0 of the tap 'bft00000001' is multi-queue"),
        (4, SEVERAL & ~tun.IFF_VNET_HDR, None, "is not with virtio's header"),
        (4, SEVERAL & ~tun.IFF_TAP | tun.IFF_TUN, None, "is a tun device, not a tap, not a tap"),
    ],
    ids=[
        "few", "many", "null", "unattached", "other", "twice", "persistent", "detached", "multi",
        "header", "tun",
    ],
)  # fmt: skip
def test_fds_that_are_not_sound(  # noqa: PLR0917 - a table
    queues: int,
    flags: int,
    change: Callable[[list[int]], None] | None,
    words: str,
    path: Path,
    namespace: str,
) -> None:
    """Fds that are not the tap's queues are closed, and the error says which and why."""
    make = taps.made(namespace, queues, flags=flags, change=change or (lambda _: None))
    give = fake.gives_tap(make, REPLY)

    with fake.helper(path, give) as where, pytest.raises(HelperError) as caught:
        ask(where, WANTED._replace(queues=queues))

    assert words in caught.value.message


@real_taps
def test_single_queue_for_several(path: Path, namespace: str) -> None:
    """A tap that can have one queue only is not one of four."""

    def fill(fds: list[int]) -> None:
        fds += [os.open("/dev/null", os.O_RDWR) for _ in range(3)]

    make = taps.made(namespace, 1, flags=SINGLE, change=fill)
    give = fake.gives_tap(make, REPLY)

    with fake.helper(path, give) as where, pytest.raises(HelperError, match="not multi-queue"):
        ask(where)


@real_taps
@pytest.mark.parametrize("access", [os.O_RDONLY, os.O_WRONLY])
def test_queue_that_is_half_open(access: int, path: Path, namespace: str) -> None:
    """A queue that cannot be both read and written is of no use."""
    give = fake.gives_tap(taps.made(namespace, access=access), REPLY)

    with (
        fake.helper(path, give) as where,
        pytest.raises(HelperError, match=r"fd 0 .* is not open for reading and writing"),
    ):
        ask(where)


@real_taps
def test_refused_tap_is_gone(path: Path, namespace: str) -> None:
    """What is not believed is given back at once, while the helper still runs."""
    give = fake.gives_tap(taps.made(namespace), REPLY._replace(bridge="br1"))

    with fake.helper(path, give) as where, pytest.raises(HelperError):
        ask(where)

    assert [] == taps.in_namespace(namespace)


@pytest.mark.parametrize(
    ("code", "kind", "status"),
    [
        (Code.REFUSED, Refused, 4),
        (Code.QUOTA, Refused, 4),
        (Code.NO_SUCH_BRIDGE, NotReady, 1),
        (Code.UNSUPPORTED, Unsupported, 3),
        (Code.FAILED, HelperError, 1),
        (Code.BUSY, HelperError, 1),
        (Code.UNKNOWN_OP, HelperError, 1),
        (Code.UNSUPPORTED_VERSION, HelperError, 1),
        (Code.BAD_REQUEST, HelperError, 1),
    ],
)
def test_error_of_the_helper(code: Code, kind: type[BpferryError], status: int, path: Path) -> None:
    """Each code of the wire becomes an error with its status, its words and its hint."""
    with fake.helper(path, fake.refuses(code)) as where, pytest.raises(kind) as caught:
        ask(where)

    error = caught.value
    assert ("the helper refused: why", "what to do", code.value, status) == (
        error.message,
        error.hint,
        error.code,
        error.status,
    )


def knows_no_vm(behaviour: fake.Behaviour) -> fake.Behaviour:
    """Return *behaviour* for a helper that is older than the names of VMs: it hangs up."""

    def answer(conn: socket.socket, request: bytes) -> None:
        asked = decode_request(request)
        if not vm_of(asked):
            return behaviour(conn, request)
        fake.refuses(Code.BAD_REQUEST, "unknown key 'vm' in the request")(conn, request)
        return conn.close()

    return answer


def test_an_older_helper_is_asked_without_the_name(path: Path) -> None:
    """Each question that has one, and once; also a tap that stays, of which nothing was made."""
    named = WANTED._replace(vm="web")
    can = CanReply(allowed=True, because="a line")
    asked: list[Request] = []
    answers = iter((can, can, REPLY, REPLY))

    def old(conn: socket.socket, request: bytes) -> None:
        reply = next(answers)
        fake.keeps(asked, knows_no_vm(fake.replies(reply)))(conn, request)

    with fake.helper(path, old) as where, TapHelper(where, seconds=5) as helper:
        assert can == helper.can(named)
        assert REPLY == helper.create(named)

    assert [Can(named), Can(WANTED), Create(named), Create(WANTED)] == asked


def test_another_refusal_is_no_reason_to_ask_again(path: Path) -> None:
    """The control: the helper is asked once."""
    asked: list[Request] = []
    refuses = fake.keeps(asked, fake.refuses(Code.BAD_REQUEST, "unknown key 'mtu'"))
    with fake.helper(path, refuses) as where, pytest.raises(HelperError):
        ask(where, WANTED._replace(vm="web"))

    assert [WANTED._replace(vm="web")] == asked


def test_plain_questions(path: Path) -> None:
    """The other questions are asked as they are, and have their answers."""
    quota = QuotaReply(0, 16, 0, 256, "kernel")
    can = CanReply(allowed=True, because="a line")
    own = OwnTap("bfp00000001", "br0", 0, 4, stays=True, closed=False)
    asked: list[Request] = []
    replies = (HELLO, quota, can, REPLY, ListReply((own,)), DeleteReply("bfp00000001"))
    with fake.helper(path, *(fake.keeps(asked, fake.replies(reply)) for reply in replies)) as where:
        answers: list[object] = []
        helper = TapHelper(where)
        questions: list[Callable[[], object]] = [
            helper.hello,
            helper.quota,
            lambda: helper.can(WANTED),
            lambda: helper.create(WANTED),
            helper.list,
            lambda: helper.delete("bfp00000001"),
        ]
        for question in questions:
            answers.append(question())
            helper.close()

    assert [HELLO, quota, can, REPLY, (own,), None] == answers
    assert [Can(WANTED), Create(WANTED), ListTaps(), Delete("bfp00000001")] == asked[2:]


def test_other_tap_deleted(path: Path) -> None:
    """A helper that says that it deleted another tap is not believed."""
    reply = fake.replies(DeleteReply("bfp00000002"))
    with (
        fake.helper(path, reply) as where,
        TapHelper(where) as helper,
        pytest.raises(HelperError, match="it deleted 'bfp00000002', not 'bfp00000001'"),
    ):
        helper.delete("bfp00000001")


def test_created_tap_on_another_bridge(path: Path) -> None:
    """A tap that was made on another bridge is told, and not taken for the one asked for."""
    with (
        fake.helper(path, fake.replies(REPLY._replace(bridge="br1"))) as where,
        TapHelper(where) as helper,
        pytest.raises(HelperError, match="a tap on the bridge 'br1', not 'br0'"),
    ):
        helper.create(WANTED)


@real_taps
def test_fds_with_a_created_tap(path: Path, namespace: str) -> None:
    """A tap that stays comes without fds; what comes is closed."""
    give = fake.gives_tap(taps.made(namespace), REPLY)
    with (
        fake.helper(path, give) as where,
        TapHelper(where) as helper,
        pytest.raises(HelperError, match="4 fds that nobody asked for"),
    ):
        helper.create(WANTED)


@pytest.mark.parametrize("action", ["create", "delete"])
def test_creating_and_deleting_are_asked_for_once(action: str, path: Path) -> None:
    """A helper that dies over what stays is not asked again: it may have done it."""
    asked: list[Request] = []
    with (
        fake.helper(path, fake.keeps(asked, fake.hangs_up)) as where,
        TapHelper(where) as helper,
        pytest.raises(HelperError, match=r"hung up without an answer$") as caught,
    ):
        helper.create(WANTED) if action == "create" else helper.delete("bfp00000001")

    assert len(asked) == 1
    assert caught.value.hint == (
        "'bpferry tap list' shows whether it was done all the same; "
        "the administrator can find the reason with: journalctl -u bpferry-tap"
    )


@real_taps
def test_helper_that_dies_over_a_tap(path: Path, namespace: str) -> None:
    """A tap that goes with its fds can be asked for again."""
    give = fake.gives_tap(taps.made(namespace), REPLY)

    with fake.helper(path, fake.hangs_up, give) as where:
        ask(where).close()


def test_environment_names_the_socket(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """BPFERRY_TAP_SOCKET takes the place of the usual path."""
    monkeypatch.setenv("BPFERRY_TAP_SOCKET", str(path))

    with fake.helper(path, fake.replies(HELLO)), TapHelper() as helper:
        assert helper.hello() == HELLO


def test_usual_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a word about it, the helper's own socket is asked."""
    monkeypatch.delenv("BPFERRY_TAP_SOCKET", raising=False)

    assert TapHelper().path == "/run/bpferry/tap.sock"


def test_no_helper(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody answers, the hint names this helper's unit, and where the path is from."""
    unit = "is the helper installed and started? See: systemctl status bpferry-tap.socket"
    with pytest.raises(NoHelper, match="No such file or directory") as named:
        ask(str(path))
    monkeypatch.setenv("BPFERRY_TAP_SOCKET", str(path))
    with pytest.raises(NoHelper) as by_environment, TapHelper() as helper:
        helper.tap(WANTED)

    assert (5, unit) == (named.value.status, named.value.hint.split(";")[0])
    assert by_environment.value.hint == (
        f"{unit}; BPFERRY_TAP_SOCKET names this socket, and the usual one is "
        "'/run/bpferry/tap.sock'"
    )


def test_interrupted_question(path: Path) -> None:
    """Who is interrupted while it waits hangs up: the late answer is nobody's."""
    timer = threading.Timer(0.3, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
    with fake.helper(path, fake.keeps_silent) as where, TapHelper(where) as helper:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            helper.tap(WANTED)
        timer.join()

        assert helper._sock is None
