# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry varlink: what a client of varlink gets from the real helpers, and what it is told."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from bpferry.network import tun
from bpferry.qemu.probe import probe
from bpferry.varlink.calls import CALLS, Helpers
from bpferry.varlink.interfaces import DESCRIPTIONS, ERROR_NAMES, error_name
from bpferry.varlink.service import MAX_MESSAGE_BYTES, Nonsense, answer_all
from bpferry_wire.errors import Code
from bpferry_wire.fds import OwnedFds
from bpferry_wire.messages import Create, Request, Tap
from tests.client import fake_helper as fake
from tests.client.support import QEMU
from tests.support.helper_process import running_helper
from tests.support.people import ALICE, acting_as
from tests.support.tap_process import TapProcess, running_tap_helper

METHOD = re.compile(r"^method (\w+)", re.MULTILINE)
ERROR = re.compile(r"^error (\w+)", re.MULTILINE)
MAC = "52:54:00:12:34:56"


class Caller:
    """A client of varlink, which knows nothing of bpferry's code."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(60)

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Return the reply to a call that comes without fds."""
        reply, fds = self.call_for_fds(method, **parameters)
        with fds:
            assert not fds
        return reply

    def call_for_fds(self, method: str, **parameters: object) -> tuple[dict[str, Any], OwnedFds]:
        """Return the reply to a call, and its fds."""
        self.send(method, **parameters)
        return self.take()

    def send(self, method: str, **parameters: object) -> None:
        """Send a call."""
        self.sock.sendall(json.dumps({"method": method, "parameters": parameters}).encode() + b"\0")

    def take(self) -> tuple[dict[str, Any], OwnedFds]:
        """Return the next reply, and its fds."""
        data, numbers, _, _ = socket.recv_fds(self.sock, 65536, 64)
        while not data.endswith(b"\0"):
            data += self.sock.recv(65536)
        reply = json.loads(data[:-1])
        assert isinstance(reply, dict)
        return reply, OwnedFds(numbers)


@contextmanager
def calling() -> Iterator[Caller]:
    """Serve one connection as Alice, in a thread, until the caller hangs up."""
    ours, theirs = socket.socketpair()
    failed: list[BaseException] = []

    def serve() -> None:
        with theirs, ExitStack() as stack:
            try:
                answer_all(theirs, Helpers(stack))
            except BaseException as error:  # noqa: BLE001 - raised below
                failed.append(error)

    thread = threading.Thread(target=serve)
    with acting_as(ALICE):
        thread.start()
        try:
            with ours:
                yield Caller(ours)
        finally:
            thread.join()
    for error in failed:
        raise error


@pytest.fixture
def taps(monkeypatch: pytest.MonkeyPatch) -> Iterator[TapProcess]:
    """Run the real tap helper where the environment says."""
    with running_tap_helper() as helper:
        monkeypatch.setenv("BPFERRY_TAP_SOCKET", str(helper.path))
        yield helper


def test_each_described_method_can_be_called() -> None:
    """And what can be called, and every error, is described."""
    described = {
        f"{interface}.{name}"
        for interface, text in DESCRIPTIONS.items()
        for name in METHOD.findall(text)
    }
    assert described == set(CALLS)
    assert ERROR.findall(DESCRIPTIONS["io.bpferry.Tap"]) == list(ERROR_NAMES)
    assert error_name(Code.NO_SUCH_BRIDGE) == "NoSuchBridge"
    assert error_name("something-new") == "Failed"


@pytest.mark.privileged
def test_a_tap_comes_with_its_queues_and_goes_with_them(taps: TapProcess) -> None:
    """Each fd is a queue of the tap that the reply names."""
    with calling() as caller:
        wanted = {"bridge": "br0", "queues": 4, "mac": MAC, "vlan": None, "vm": "web"}
        reply, fds = caller.call_for_fds("io.bpferry.Tap.Make", **wanted)
        with fds:
            made = reply["parameters"]
            assert isinstance(made, dict)
            assert [tun.identify(fd).interface for fd in fds.borrow()] == [made["interface"]] * 4
            assert (made["bridge"], made["mtu"]) == ("br0", 1500)
            mine = caller.call("io.bpferry.Tap.List")["parameters"]
            assert mine["taps"][0]["interface"] == made["interface"]
            assert caller.call("io.bpferry.Tap.Quota")["parameters"]["held"] == 1
    assert not taps.granted_taps()


@pytest.mark.privileged
def test_a_tap_that_stays_is_made_and_deleted(taps: TapProcess) -> None:
    """No fd comes with it; after it is deleted it is gone, and that is an error then."""
    with calling() as caller:
        made = caller.call("io.bpferry.Tap.Create", bridge="br0", queues=2)["parameters"]
    name = made["interface"]
    assert [tap.name for tap in taps.granted_taps()] == [name]
    with calling() as caller:
        (mine,) = caller.call("io.bpferry.Tap.List")["parameters"]["taps"]
        assert mine == {
            "interface": name, "bridge": "br0", "queues": 0, "made_with": 2,
            "stays": True, "closed": False,
        }, "what the interface has without a question mark is always there"  # fmt: skip
        gone = caller.call("io.bpferry.Tap.Delete", interface=name)
        assert gone == {"parameters": {"interface": name}}
        again = caller.call("io.bpferry.Tap.Delete", interface=name)
        assert again["error"] == "io.bpferry.Tap.Refused"
    assert not taps.granted_taps()


@pytest.mark.privileged
@pytest.mark.usefixtures("taps")
def test_what_is_not_granted_is_an_error_with_words() -> None:
    """Its name is that of the wire's code."""
    with calling() as caller:
        reply = caller.call("io.bpferry.Tap.Make", bridge="br9", queues=1)
        assert reply["error"] == "io.bpferry.Tap.NoSuchBridge"
        assert "br9" in reply["parameters"]["message"]
        answer = caller.call("io.bpferry.Tap.Can", bridge="br9", queues=1)["parameters"]
        assert (answer["allowed"], answer["code"]) == (False, "no-such-bridge")
        assert caller.call("io.bpferry.Tap.Can", bridge="br0", queues=1)["parameters"]["allowed"]


@pytest.mark.privileged
@pytest.mark.kernel
@pytest.mark.qemu
def test_an_object_comes_as_its_program_and_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many fds as names; the digest is text."""
    digest = probe(QEMU).objects["rss"].digest.hex()
    with running_helper("") as helper:
        monkeypatch.setenv("BPFERRY_BPF_SOCKET", str(helper.path))
        with calling() as caller:
            reply, fds = caller.call_for_fds(
                "io.bpferry.Bpf.Load", id="rss", digest=digest, vm="web"
            )
            with fds:
                assert len(fds) == len(reply["parameters"]["names"]) == 4
            unknown = caller.call("io.bpferry.Bpf.Load", id="rss", digest="00" * 32)
            assert unknown["error"] == "io.bpferry.Bpf.UnknownObject"
            assert caller.call("io.bpferry.Bpf.Can", id="rss", digest=digest)["parameters"][
                "allowed"
            ]


BAD = [
    ("io.bpferry.Tap.Make", {}, "InvalidParameter", "bridge"),
    ("io.bpferry.Tap.Make", {"bridge": "br0", "queues": 0}, "InvalidParameter", "queues"),
    ("io.bpferry.Tap.Make", {"bridge": "br0", "queues": True}, "InvalidParameter", "queues"),
    ("io.bpferry.Tap.Make", {"bridge": "br0", "queues": 1.5}, "InvalidParameter", "queues"),
    ("io.bpferry.Tap.Make", {"bridge": "br0", "queues": 1, "mac": "x"}, "InvalidParameter", "mac"),
    ("io.bpferry.Tap.Make", {"bridge": "br0", "queues": 1, "op": "x"}, "InvalidParameter", "op"),
    ("io.bpferry.Tap.Make", {"bridge": "br0", "queues": 1, "ip": "x"}, "InvalidParameter", "ip"),
    ("io.bpferry.Tap.Make", {"bridge": "\ud800", "queues": 1}, "InvalidParameter", "bridge"),
    ("io.bpferry.Tap.Make", {"bridge": "b", "queues": 1, "vm": "a b"}, "InvalidParameter", "vm"),
    ("io.bpferry.Tap.List", {"all": True}, "InvalidParameter", "all"),
    ("io.bpferry.Bpf.Load", {"id": "rss", "digest": "00"}, "InvalidParameter", "digest"),
    ("io.bpferry.Tap.Take", {}, "MethodNotFound", "io.bpferry.Tap.Take"),
    ("io.bpferry.Nap.Make", {}, "InterfaceNotFound", "io.bpferry.Nap"),
    ("Make", {}, "InterfaceNotFound", ""),
]


@pytest.mark.privileged
@pytest.mark.parametrize(("method", "parameters", "error", "named"), BAD)
def test_a_wrong_call_is_told_and_the_connection_stays(
    method: str, parameters: dict[str, Any], error: str, named: str
) -> None:
    """By varlink's own error, with the parameter that is wrong. No helper is asked."""
    with calling() as caller:
        reply = caller.call(method, **parameters)
        assert reply["error"] == f"org.varlink.service.{error}"
        assert list(reply["parameters"].values()) == [named]
        about = caller.call("org.varlink.service.GetInfo")["parameters"]
        assert set(about["interfaces"]) == set(DESCRIPTIONS)


NOISE = [
    b"\0",
    b"hello\0",
    b"[]\0",
    b'{"method": 1}\0',
    b'{"method": "io.bpferry.Tap.List", "parameters": []}\0',
    b'{"method": "io.bpferry.Tap.List", "upgrade": true}\0',
    b"\xff\xfe\0",
    b"[" * 5000 + b"\0",
    b"x" * (MAX_MESSAGE_BYTES + 1),
    b'{"method": "org.varlink.service.GetInfo"}',
]


def send_all(sock: socket.socket, data: bytes) -> None:
    """Send *data*, and nothing after it."""
    with suppress(OSError):
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("noise", NOISE)
def test_what_is_no_call_ends_the_connection(noise: bytes) -> None:
    """There is nothing that could be answered."""
    ours, theirs = socket.socketpair()
    with ours, theirs, ExitStack() as stack:
        helpers = Helpers(stack)
        threading.Thread(target=send_all, args=(ours, noise)).start()
        with pytest.raises(Nonsense):
            answer_all(theirs, helpers)
        theirs.close()
        assert ours.recv(1) == b""


@pytest.mark.privileged
def test_calls_in_pieces_and_together_are_answered_in_order() -> None:
    """One that wants no reply gets none."""
    calls = [
        {"method": "org.varlink.service.GetInfo", "oneway": True},
        {"method": "org.varlink.service.Nothing"},
        {"method": "org.varlink.service.GetInfo", "parameters": None},
    ]
    data = b"".join(json.dumps(call).encode() + b"\0" for call in calls)
    with calling() as caller:
        for at in range(0, len(data), 7):
            caller.sock.sendall(data[at : at + 7])
        said = b""
        while said.count(b"\0") < 2:
            said += caller.sock.recv(65536)
    first, second, rest = said.split(b"\0")
    assert json.loads(first)["error"].endswith("MethodNotFound")
    assert json.loads(second)["parameters"]["vendor"] == "bpferry"
    assert rest == b""


@pytest.mark.privileged
def test_a_missing_helper_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the client's own words, and what to do."""
    monkeypatch.setenv("BPFERRY_TAP_SOCKET", "/nowhere/tap.sock")
    with calling() as caller:
        reply = caller.call("io.bpferry.Tap.Make", bridge="br0", queues=1)
        assert reply["error"] == "io.bpferry.Tap.NoHelper"
        assert "systemctl status" in reply["parameters"]["hint"]


def test_the_request_is_the_one_that_was_called_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is added, and nothing is left out."""
    asked: list[Request] = []
    path = tmp_path / "tap.sock"
    monkeypatch.setenv("BPFERRY_TAP_SOCKET", str(path))
    refusal = fake.refuses(Code.QUOTA, "full")
    with fake.helper(path, fake.keeps(asked, refusal)), ExitStack() as stack:
        helpers = Helpers(stack)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            caller = Caller(ours)
            words = {"network": "lan", "queues": 3, "mtu": 1400, "mac": MAC, "tagged": [7, 9]}
            caller.send("io.bpferry.Tap.Make", **words)
            caller.send("io.bpferry.Tap.Create", bridge="br0", queues=1)
            ours.shutdown(socket.SHUT_WR)
            answer_all(theirs, helpers)
            theirs.close()
            replies = ours.makefile("rb").read().split(b"\0")
    assert [json.loads(reply)["error"] for reply in replies[:2]] == ["io.bpferry.Tap.Quota"] * 2
    mac = bytes.fromhex(MAC.replace(":", ""))
    assert asked == [
        Tap("lan", is_network=True, queues=3, mtu=1400, mac=mac, tagged=(7, 9)),
        Create(Tap("br0", is_network=False, queues=1)),
    ]


AS_VARLINKCTL: Final = 'exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'


def start(stdin: int, *before: str) -> "subprocess.Popen[bytes]":
    """Start the command, behind the words *before*."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [*before, sys.executable, "-m", "bpferry", "varlink"]
    return subprocess.Popen(command, stdin=stdin, stderr=subprocess.PIPE, env=env)


def test_the_command_serves_the_socket_that_it_was_started_with() -> None:
    """At fd 3, as for varlinkctl, and ends with 0 when the caller hangs up."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = start(theirs.fileno(), "bash", "-c", AS_VARLINKCTL, "bash")
        with process:
            about = Caller(ours).call("org.varlink.service.GetInfo")["parameters"]
            assert about["product"] == "bpferry-varlink"
            ours.close()
            assert process.wait(60) == 0


def test_by_hand_it_says_who_starts_it() -> None:
    """Standard input is no socket then."""
    with start(subprocess.DEVNULL) as process:
        assert process.stderr is not None
        assert b"varlinkctl introspect exec:" in process.stderr.read()
        assert process.wait(60) == 2
