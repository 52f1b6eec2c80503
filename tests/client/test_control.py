# SPDX-License-Identifier: LGPL-2.1-or-later
"""The control socket of a running VM: who may ask, what is answered, what a bad client costs."""

import asyncio
import contextlib
import errno
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from bpferry.cli.main import main
from bpferry.errors import (
    OF_HELPERS,
    BadInput,
    BpferryError,
    HelperError,
    NotRunning,
    Refused,
    Unsupported,
)
from bpferry.machine import folders
from bpferry.machine.control import client, server
from bpferry.machine.control.client import Control
from bpferry.machine.control.packets import (
    decode_reply,
    encode_answer,
    encode_error,
    encode_request,
)
from bpferry.machine.control.running import connect, find_running
from bpferry.machine.control.server import MAX_CLIENTS, Answer, Operation, Server
from bpferry.machine.control_socket import SOCKET_NAME, open_control
from bpferry_wire import limits
from bpferry_wire.codec import Fields
from bpferry_wire.errors import BadMessage, Code
from bpferry_wire.fds import OwnedFds
from tests.client.support import let_in, wait_until


async def _echo(fields: Fields) -> Answer:
    text = fields.text("text")
    fields.done()
    return Answer({"text": text, "nothing": None})


async def _fail(fields: Fields) -> Answer:
    fields.done()
    raise Unsupported("no such thing here", "use another")


async def _large(fields: Fields) -> Answer:
    fields.done()
    return Answer({"texts": ["x" * 4000] * 30})


async def _hand_over(fields: Fields) -> Answer:
    fields.done()
    reader, writer = os.pipe()
    os.write(writer, b"handed over")
    os.close(writer)
    return Answer({}, OwnedFds([reader]))


async def _summary(fields: Fields) -> Answer:
    fields.done()
    return Answer({"name": "web", "state": "running"})


async def _break(fields: Fields) -> Answer:
    fields.done()
    raise PermissionError(13, "Permission denied", "/secret")


async def _stumble(fields: Fields) -> Answer:
    fields.done()
    raise KeyError("net0")


async def _hang(fields: Fields) -> Answer:
    fields.done()
    await asyncio.Event().wait()
    raise AssertionError


async def _linger(fields: Fields) -> Answer:
    fields.done()
    await asyncio.sleep(0.5)
    return Answer({"late": True})


OPERATIONS: Mapping[str, Operation] = {
    "break": _break,
    "echo": _echo,
    "fail": _fail,
    "large": _large,
    "fds": _hand_over,
    "hang": _hang,
    "linger": _linger,
    "stumble": _stumble,
    "summary": _summary,
}


@contextlib.contextmanager
def served(folder: Path, operations: Mapping[str, Operation] = OPERATIONS) -> Iterator[Path]:
    """Serve *operations* in *folder* from another thread; yield the path of the socket."""
    started, loop = threading.Event(), asyncio.new_event_loop()
    ended = asyncio.Event()

    async def serve() -> None:
        with open_control(folder) as sock:
            serving = Server(sock, operations)
            serving.start()
            started.set()
            await ended.wait()
            await serving.stop()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert started.wait(5)
        yield folder / SOCKET_NAME
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


def raw(path: Path) -> socket.socket:
    """Return a plain connection."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # One with a timeout would not wait for room in a full queue.
    sock.connect(str(path))
    sock.settimeout(60)
    return sock


def open_fds() -> int:
    """Return how many fds this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_request_is_answered_and_none_is_left_out(tmp_path: Path) -> None:
    """One connection may ask many times."""
    with served(tmp_path) as path, Control("web", path) as control:
        assert control.ask("echo", text="ä") == {"text": "ä"}
        assert control.ask("echo", text="b", other=None) == {"text": "b"}


def test_an_error_keeps_its_status_and_the_connection(tmp_path: Path) -> None:
    """The command ends as if the error were its own."""
    with served(tmp_path) as path, Control("web", path) as control:
        with pytest.raises(Unsupported) as caught:
            control.ask("fail")
        assert caught.value.status == 3
        assert (caught.value.message, caught.value.hint) == ("no such thing here", "use another")
        assert control.ask("echo", text="still") == {"text": "still"}


def test_a_file_that_cannot_be_used_is_told_and_the_vm_has_not_ended(tmp_path: Path) -> None:
    """A closed connection would say that it has."""
    with served(tmp_path) as path, Control("web", path) as control:
        with pytest.raises(BpferryError, match=r"cannot do 'break': .*Permission denied") as caught:
            control.ask("break")
        assert not isinstance(caught.value, NotRunning)
        assert control.ask("echo", text="again") == {"text": "again"}


def test_a_mistake_of_ours_is_told_and_the_vm_has_not_ended(tmp_path: Path) -> None:
    """A closed connection would say that."""
    with served(tmp_path) as path, Control("web", path) as control:
        with pytest.raises(BpferryError, match=r"failed at 'stumble': KeyError: 'net0'") as caught:
            control.ask("stumble")
        assert not isinstance(caught.value, NotRunning)
        assert control.ask("echo", text="x") == {"text": "x"}


def test_who_waits_for_long_is_told_once_and_gets_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only if it takes longer than usual."""
    monkeypatch.setattr(client, "SLOW_SECONDS", 0.1)
    told = []
    with served(tmp_path) as path, Control("web", path) as control:
        control.slow = lambda: told.append("slow")
        assert control.ask("linger") == {"late": True}
        assert told == ["slow"]
        monkeypatch.setattr(client, "SLOW_SECONDS", 60)
        assert control.ask("echo", text="x") == {"text": "x"}
        assert told == ["slow"]


def test_a_short_look_for_the_end_leaves_an_answer_its_time(tmp_path: Path) -> None:
    """Otherwise the answer after it would come too late, and be taken for the next one."""
    with served(tmp_path) as path, Control("web", path) as control:
        assert not control.wait_for_end(0.01)
        assert not control.wait_for_end(0)
        assert control.ask("linger") == {"late": True}


def test_clients_that_leave_while_they_wait_leave_room_for_others(tmp_path: Path) -> None:
    """A QEMU that hangs would otherwise keep out who wants to end it."""
    with served(tmp_path) as path:
        for _ in range(MAX_CLIENTS):
            with raw(path) as sock:
                sock.send(encode_request("hang", {}))
        with Control("web", path, 60) as control:
            assert control.ask("echo", text="x") == {"text": "x"}


def test_a_request_that_comes_before_the_answer_to_the_one_before_is_answered_too(
    tmp_path: Path,
) -> None:
    """It is no sign that the client has left."""
    with served(tmp_path) as path, raw(path) as sock:
        sock.send(encode_request("linger", {}))
        sock.send(encode_request("echo", {"text": "x"}))
        answers = [decode_reply(sock.recv(limits.MAX_REPLY_BYTES)) for _ in range(2)]
    assert answers == [{"late": True}, {"text": "x"}]


def test_a_connection_that_ends_as_soon_as_it_begins_is_closed(tmp_path: Path) -> None:
    """Its task is cancelled before it does anything."""

    async def begin_and_end() -> None:
        theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, open_control(tmp_path) as sock:
            serving = Server(sock, OPERATIONS)
            serving.adopt(ours, lambda: None)
            await serving.stop()
            theirs.settimeout(0)
            assert theirs.recv(1) == b""

    asyncio.run(begin_and_end())


def test_what_a_client_asked_for_goes_on_without_it(tmp_path: Path) -> None:
    """And its fds are closed, which nobody takes."""
    done = threading.Event()

    async def work(fields: Fields) -> Answer:
        fields.done()
        await asyncio.sleep(0.3)
        done.set()
        return await _hand_over(fields)

    before = open_fds()
    with served(tmp_path, {"work": work}) as path:
        with raw(path) as sock:
            sock.send(encode_request("work", {}))
        assert done.wait(60)
    assert wait_until(lambda: open_fds() == before)


def test_a_connection_for_which_there_is_no_fd_waits_and_costs_no_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The socket can be read as long as the connection waits, so the loop must not look."""
    tried = []
    accept = socket.socket.accept

    def refuse_once(sock: socket.socket) -> object:
        tried.append(sock)
        if len(tried) == 1:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return accept(sock)

    monkeypatch.setattr(server, "PAUSE_SECONDS", 0.3)
    monkeypatch.setattr(socket.socket, "accept", refuse_once)
    start = time.monotonic()
    with served(tmp_path) as path, Control("web", path) as control:
        assert control.ask("echo", text="late") == {"text": "late"}
    assert time.monotonic() - start >= 0.3
    assert len(tried) == 2


def test_every_error_class_comes_back_with_its_status() -> None:
    """A code that is not known is a plain failure, and keeps its word."""
    for error in (Refused("a"), Unsupported("b"), BpferryError("c"), NotRunning("d")):
        with pytest.raises(BpferryError) as caught:
            decode_reply(encode_error(error))
        assert (caught.value.status, caught.value.code) == (error.status, error.code)


@pytest.mark.parametrize("code", list(Code))
def test_what_a_helper_said_to_a_vm_keeps_its_status(code: Code) -> None:
    """As a card that is plugged in and is one too many for the quota: a start would end with 4."""
    told = OF_HELPERS.get(code, HelperError)("a")
    told.code = code
    with pytest.raises(BpferryError) as caught:
        decode_reply(encode_error(told))

    assert (caught.value.status, caught.value.code) == (told.status, code)


def test_an_unknown_operation_says_that_bpferry_was_updated(tmp_path: Path) -> None:
    """It is what a newer command meets."""
    with (
        served(tmp_path) as path,
        Control("web", path) as control,
        pytest.raises(BpferryError, match="no operation 'fly'") as caught,
    ):
        control.ask("fly")
    assert "start the VM again" in caught.value.hint


def test_fds_of_a_reply_arrive_and_none_stays(tmp_path: Path) -> None:
    """The server keeps none, and the client owns its own."""
    with served(tmp_path) as path, Control("web", path) as control:
        control.ask("echo", text="connected")
        before = open_fds()
        for _ in range(10):
            reply = control.ask_for_fds("fds")
            with reply.fds as fds:
                assert os.read(fds[0].borrow(), 100) == b"handed over"
        assert wait_until(lambda: before == open_fds())


BAD = (
    b"\xc1",
    b"\x80",
    encode_request("echo", {}),
    encode_request("echo", {"text": 1}),
    encode_request("echo", {"text": "a", "more": 1}),
    encode_request("summary", {"more": True}),
    encode_request("", {}) + b"trailing",
    b"\x82\xa1v\x02\xa2op\xa4echo",
    b"x" * (limits.MAX_REQUEST_BYTES + 1),
)


@pytest.mark.parametrize("packet", BAD)
def test_a_bad_request_is_answered_and_closes_the_connection(tmp_path: Path, packet: bytes) -> None:
    """Others are served as before."""
    with served(tmp_path) as path:
        with raw(path) as sock:
            sock.send(packet)
            with pytest.raises(BpferryError) as caught:
                decode_reply(sock.recv(limits.MAX_REPLY_BYTES))
            assert caught.value.code == "bad-request"
            assert sock.recv(1) == b""
        with Control("web", path) as control:
            assert control.ask("echo", text="a") == {"text": "a"}


def test_fds_that_a_client_sends_are_closed_by_the_kernel(tmp_path: Path) -> None:
    """The server offers no room for them."""
    with served(tmp_path) as path, raw(path) as sock:
        sock.send(encode_request("echo", {"text": "connected"}))
        sock.recv(limits.MAX_REPLY_BYTES)
        before = open_fds()
        reader, writer = os.pipe()
        socket.send_fds(sock, [encode_request("echo", {"text": "a"})], [writer])
        sock.recv(limits.MAX_REPLY_BYTES)
        os.close(writer)
        # With a copy of the writer open elsewhere, this would block.
        assert os.read(reader, 1) == b""
        os.close(reader)
        assert before == open_fds()


def test_a_client_that_does_not_read_loses_its_connection_and_delays_nobody(
    tmp_path: Path,
) -> None:
    """Replies are never waited for."""
    with served(tmp_path) as path, raw(path) as deaf:
        with contextlib.suppress(OSError):
            for _ in range(64):
                deaf.send(encode_request("large", {}))
        with Control("web", path, 2.0) as control:
            assert control.ask("echo", text="a") == {"text": "a"}


def test_more_clients_than_allowed_wait_until_one_leaves(tmp_path: Path) -> None:
    """None of them is refused."""
    with served(tmp_path) as path, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Control("web", path)) for _ in range(MAX_CLIENTS)]
        for client in clients:
            client.ask("echo", text="a")
        with Control("web", path, 1) as late, pytest.raises(NotRunning, match="did not answer"):
            late.ask("echo", text="a")
        with Control("web", path) as waiting:
            threading.Timer(0.3, clients[0].close).start()
            assert waiting.ask("echo", text="a") == {"text": "a"}


CONNECTS: str = """
import sys, pathlib
from bpferry.errors import BpferryError
from bpferry.machine.control.client import Control
try:
    control = Control("web", pathlib.Path(sys.argv[1]))
    control.ask("echo", text="a")
except BpferryError as error:
    print(type(error).__name__, error.message)
"""


def told_as(uid: int, path: Path) -> str:
    """Return what a command of the user *uid* is told at *path*, in a folder open to everybody."""
    let_in(path.parent)
    path.parent.chmod(0o777)
    path.chmod(0o777)
    done = subprocess.run(
        [sys.executable, "-c", CONNECTS, str(path)],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        user=uid,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.mark.privileged
def test_a_command_does_not_talk_to_somebody_elses_vm(tmp_path: Path) -> None:
    """Without a session the folder is below /tmp, where others may be first."""
    with served(tmp_path) as path:
        assert told_as(61_234, path) == f"NotRunning somebody else listens at '{path}'"
        assert told_as(os.geteuid(), path) == ""


@pytest.mark.privileged
def test_another_user_is_refused_even_if_the_folder_lets_them_in(tmp_path: Path) -> None:
    """SO_PEERCRED decides; the folder's mode is only the first door."""
    with served(tmp_path) as path:
        let_in(path.parent)
        path.parent.chmod(0o777)
        path.chmod(0o777)
        code = (
            "import socket, sys; s = socket.socket(1, 5); s.connect(sys.argv[1]);"
            "s.settimeout(5); sys.stdout.buffer.write(s.recv(4096))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], user=61_234, check=True, capture_output=True
        )
        with pytest.raises(Refused, match="another user"):
            decode_reply(done.stdout)


def test_the_vms_of_every_session_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket that nobody serves any more is not a VM."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    stale = tmp_path / "bpferry/stale"
    stale.mkdir(parents=True)
    with open_control(stale) as sock:
        os.link(stale / SOCKET_NAME, stale / "kept")
        sock.close()
    (stale / "kept").rename(stale / SOCKET_NAME)
    with served(tmp_path / "bpferry/web"):
        assert [one.name for one in find_running()] == ["web"]
        with connect("web") as control:
            assert control.ask("echo", text="a") == {"text": "a"}
        with pytest.raises(NotRunning) as caught:
            connect("wep")
    assert "do you mean 'web'?" in caught.value.hint


@pytest.mark.privileged
def test_a_list_has_nothing_of_a_folder_that_somebody_else_made_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below /tmp anybody may be first, with any names, and with sockets that answer nobody."""
    theirs = tmp_path / "bpferry-0"
    monkeypatch.setattr(folders, "_folder_without_session", lambda: theirs)
    with served(theirs / "bpferry/web"):
        assert [one.name for one in find_running()] == ["web"]
        os.chown(theirs, 61_234, 61_234)
        assert find_running() == []
        with pytest.raises(NotRunning):
            connect("web")


def test_a_list_has_no_folder_whose_name_a_terminal_would_obey(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No VM has such a folder, whatever its own name is."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with served(tmp_path / "bpferry/\x1b[2J"), served(tmp_path / "bpferry/a\nb"):
        assert find_running() == []


@pytest.mark.parametrize("command", ["status", "log", "stop", "console", "steering"])
def test_a_name_that_is_not_utf_8_is_one_that_no_vm_has(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python gives such a byte of the command line as half a character."""
    assert main([command, "\udcff"]) == 1
    assert r"VM '\udcff'" in capsys.readouterr().err


def test_a_request_with_text_that_is_not_utf_8_is_refused_in_words(tmp_path: Path) -> None:
    """Such as `bpferry console --serial` with a byte of another encoding."""
    with served(tmp_path) as path, Control("web", path) as control:
        with pytest.raises(BadInput, match="is not UTF-8"):
            control.ask("echo", text="\udcff")
        assert control.ask("echo", text="a") == {"text": "a"}


def test_the_end_of_a_vm_ends_all_connections_and_its_socket(tmp_path: Path) -> None:
    """Who waits for the end of a VM waits for that."""
    with served(tmp_path) as path:
        control = Control("web", path)
        assert not control.wait_for_end(0.05)
    with control:
        assert control.wait_for_end(5)
    assert not path.exists()


def test_a_reply_that_is_none_is_refused() -> None:
    """The other side may be anything that listens there."""
    for packet in (b"", b"\x80", encode_answer({})[:-1], encode_request("a", {})):
        with pytest.raises(BadMessage):
            decode_reply(packet)
