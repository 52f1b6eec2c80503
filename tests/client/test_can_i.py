# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry can-i: one line for each thing asked, and an exit status for all of it."""

import json
import os
import socket
import sys
from pathlib import Path

import msgspec
import pytest

from bpferry.cli import can_i
from bpferry.cli.main import main
from bpferry.errors import QemuError
from bpferry.network import connection
from bpferry.qemu.cache import find_or_probe
from bpferry_wire.errors import Code
from bpferry_wire.messages import (
    Caller,
    Can,
    CanReply,
    Hello,
    HelloReply,
    Load,
    Quota,
    QuotaReply,
    Request,
    Tap,
)
from bpferry_wire.packets import decode_request
from tests.client import fake_helper as fake
from tests.client.support import CAPABILITIES, QEMU, let_in
from tests.support.people import ALICE, acting_as

YES = CanReply(allowed=True, because="/etc/bpferry/policy.toml:12 (groups.bpferry)")
NO = CanReply(allowed=False, because="/etc/bpferry/policy.toml:3 (users.bob) has no 'br0'")
NOT_THERE = "systemctl status bpferry-{}.socket"
EVERYTHING = ["can-i", "--bridge", "br0", "--queues", "4", "--ebpf", "--vhost"]

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in which both helpers' sockets will be, on a host with two bridges."""
    for name in ("br0", "virbr0"):
        (tmp_path / "net" / name / "bridge").mkdir(parents=True)
    (tmp_path / "net" / "eth0").mkdir()
    monkeypatch.setattr(can_i, "INTERFACES", tmp_path / "net")
    monkeypatch.setenv("BPFERRY_TAP_SOCKET", str(tmp_path / "tap.sock"))
    monkeypatch.setenv("BPFERRY_BPF_SOCKET", str(tmp_path / "bpf.sock"))
    return tmp_path


@pytest.fixture
def no_vhost(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Let the vhost device be one that is not there; return its path."""
    path = str(tmp_path / "vhost-net")
    monkeypatch.setattr(can_i, "VHOST_DEVICE", path)
    return path


def test_tap_is_asked_about_as_it_would_be_asked_for(folder: Path) -> None:
    """Bridge or network, queues, MTU and MAC are in the question; one queue if nothing is said."""
    asked: list[Request] = []
    with fake.helper(folder / "tap.sock", fake.keeps(asked, fake.replies(YES))):
        assert main(["can-i", "--bridge", "br0", "--queues", "4", "--mtu", "9000"]) == 0
        assert main(["can-i", "--bridge", "br0", "--mac", "52:54:00:00:00:01"]) == 0
        assert main(["can-i", "--network", "lan"]) == 0

    assert [
        Can(Tap("br0", is_network=False, queues=4, mtu=9000)),
        Can(Tap("br0", is_network=False, queues=1, mac=bytes.fromhex("525400000001"))),
        Can(Tap("lan", is_network=True, queues=1)),
    ] == asked


@pytest.mark.qemu
def test_program_is_the_one_that_qemu_carries(folder: Path) -> None:
    """The digest is that of this machine's own QEMU."""
    asked: list[Request] = []
    with fake.helper(folder / "bpf.sock", fake.keeps(asked, fake.replies(YES))):
        assert main(["can-i", "--ebpf"]) == 0

    assert [Can(Load("rss", find_or_probe(QEMU).objects["rss"].digest))] == asked


@pytest.mark.parametrize(
    ("reply", "status", "said"),
    [
        (
            YES,
            0,
            (
                "yes  tap on network 'lan', 4 queues, MTU 1400: "
                "/etc/bpferry/policy.toml:12 (groups.bpferry)\n"
            ),
        ),
        (
            NO,
            4,
            (
                "no   tap on network 'lan', 4 queues, MTU 1400: "
                "/etc/bpferry/policy.toml:3 (users.bob) has no 'br0'\n"
            ),
        ),
    ],
    ids=["yes", "no"],
)
def test_answer(reply: CanReply, status: int, said: str, folder: Path, capsys: Captured) -> None:
    """The answer comes first, then what was asked, then the line that decided."""
    words = ["can-i", "--network", "lan", "--queues", "4", "--mtu", "1400"]
    with fake.helper(folder / "tap.sock", fake.replies(reply)):
        assert main(words) == status

    assert capsys.readouterr().out == said


@pytest.mark.qemu
def test_everything_at_once(folder: Path, no_vhost: str, capsys: Captured) -> None:
    """Each thing has its line and its reason, and one no makes the exit status 4."""
    with (
        fake.helper(folder / "tap.sock", fake.replies(YES)),
        fake.helper(folder / "bpf.sock", fake.replies(YES)),
    ):
        assert main(EVERYTHING) == 1

    assert capsys.readouterr().out == (
        f"yes  tap on bridge 'br0', 4 queues: {YES.because}\n"
        f"yes  eBPF program 'rss' of '{QEMU}': {YES.because}\n"
        f"no   vhost by '{no_vhost}': cannot open '{no_vhost}': No such file or directory\n"
        "     hint: ask the administrator to load the module: modprobe vhost_net\n"
    )


@pytest.mark.qemu
def test_as_json(folder: Path, no_vhost: str, capsys: Captured) -> None:
    """Programs get the same, with a code for each no."""
    with (
        fake.helper(folder / "tap.sock", fake.replies(NO)),
        fake.helper(folder / "bpf.sock", fake.replies(YES)),
    ):
        assert main([*EVERYTHING, "--json"]) == 4

    assert json.loads(capsys.readouterr().out) == {
        "allowed": False,
        "answers": [
            {
                "asked": "tap",
                "what": "tap on bridge 'br0', 4 queues",
                "allowed": False,
                "code": "refused",
                "because": NO.because,
                "hint": "",
            },
            {
                "asked": "ebpf",
                "what": f"eBPF program 'rss' of '{QEMU}'",
                "allowed": True,
                "code": None,
                "because": YES.because,
                "hint": "",
            },
            {
                "asked": "vhost",
                "what": f"vhost by '{no_vhost}'",
                "allowed": False,
                "code": "not-ready",
                "because": f"cannot open '{no_vhost}': No such file or directory",
                "hint": "ask the administrator to load the module: modprobe vhost_net",
            },
        ],
    }


def test_vhost_that_works(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    """A device that opens and answers is a yes."""
    # No machine of ours has vhost-net: /dev/null answers in its place.
    monkeypatch.setattr("fcntl.ioctl", lambda *_: bytes(8))
    monkeypatch.setattr(can_i, "VHOST_DEVICE", "/dev/null")

    assert main(["can-i", "--vhost"]) == 0
    assert capsys.readouterr().out == ("yes  vhost by '/dev/null': you can open the device\n")


@pytest.mark.qemu
@pytest.mark.usefixtures("no_vhost")
def test_no_helper_outweighs_a_no(folder: Path, capsys: Captured) -> None:
    """A helper that is not there is status 5, and the other questions have their answers."""
    with fake.helper(folder / "bpf.sock", fake.replies(NO)):
        assert main(EVERYTHING) == 5

    lines = capsys.readouterr().out.splitlines()
    assert ["unknown  ", " " * 9, "no       ", "no       ", " " * 9] == [line[:9] for line in lines]
    assert "cannot connect to the helper at" in lines[0]
    assert NOT_THERE.format("tap") in lines[1]


@pytest.mark.qemu
def test_no_helper_for_programs(capsys: Captured) -> None:
    """The hint names the unit of the helper that was asked; nobody has said no."""
    assert main(["can-i", "--ebpf", "--json"]) == 5

    told = json.loads(capsys.readouterr().out)
    (answer,) = told["answers"]
    assert (told["allowed"], answer["allowed"], answer["code"]) == (None, None, "no-helper")
    assert NOT_THERE.format("bpf") in answer["hint"]


@pytest.mark.parametrize(
    ("code", "word", "status"),
    [
        (Code.REFUSED, "no", 4),
        (Code.NO_SUCH_BRIDGE, "no", 1),
        (Code.UNSUPPORTED, "no", 3),
        (Code.BUSY, "unknown", 1),
    ],
)
def test_helper_that_fails(
    code: Code, word: str, status: int, folder: Path, capsys: Captured
) -> None:
    """A helper that cannot say whether leaves it open; its words and hint are shown."""
    with fake.helper(folder / "tap.sock", fake.refuses(code)):
        assert main(["can-i", "--bridge", "br0"]) == status

    width = max(len("yes"), len(word))
    assert capsys.readouterr().out == (
        f"{word:<{width}}  tap on bridge 'br0', 1 queue: the helper refused: why\n"
        f"{'':{width}}  hint: what to do\n"
    )


@pytest.mark.parametrize("is_terminal", [True, False])
def test_who_waits_for_a_helper_at_a_terminal_is_told(
    folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool
) -> None:
    """Else there would be nothing to see for 15 seconds."""
    monkeypatch.setattr(connection.Connection, "slow", None)
    monkeypatch.setattr(connection, "SLOW_SECONDS", 0.05)
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    with fake.helper(folder / "tap.sock", fake.keeps_silent):
        assert main(["can-i", "--bridge", "br0"]) == 1

    said = f"bpferry: waiting for the helper at '{folder}/tap.sock' ...\n"
    assert capsys.readouterr().err == (said if is_terminal else "")


@pytest.mark.parametrize("as_json", [True, False])
def test_bridge_that_is_not_there(folder: Path, capsys: Captured, *, as_json: bool) -> None:
    """That is not a refusal, whatever policy says about the name: status 1."""
    words = ["can-i", "--bridge", "br9", *(["--json"] if as_json else [])]
    with fake.helper(folder / "tap.sock", fake.replies(NO)):
        assert main(words) == 1

    out = capsys.readouterr().out
    assert f"this host has no bridge 'br9' ({NO.because})" in out
    if as_json:
        assert json.loads(out)["answers"][0]["code"] == "no-such-bridge"


def test_name_from_the_command_line_changes_no_terminal(folder: Path, capsys: Captured) -> None:
    """A bridge's name with control characters is shown with codes in their place."""
    with fake.helper(folder / "tap.sock", fake.replies(NO)):
        assert main(["can-i", "--bridge", "a\x1b[2J"]) == 1

    assert "tap on bridge 'a\\x1b[2J', 1 queue" in capsys.readouterr().out


@pytest.mark.privileged
def test_who_is_not_in_the_group_is_refused(folder: Path, capsys: Captured) -> None:
    """Not being let in at the socket is a no of the administrator's: status 4."""
    with fake.helper(folder / "tap.sock", fake.replies(YES)) as path:
        os.chown(path, 0, 1_799_999)
        Path(path).chmod(0o660)
        let_in(folder)
        with acting_as(ALICE):
            assert main(["can-i", "--bridge", "br0", "--json"]) == 4

    (answer,) = json.loads(capsys.readouterr().out)["answers"]
    assert (answer["allowed"], answer["code"]) == (False, "not-in-group")
    assert "only members of the group '1799999' may use it" in answer["because"]
    assert f"sudo usermod -aG 1799999 {ALICE.uid}" in answer["hint"]


HELLO = HelloReply("tap", "1", Caller(1, (), 0), 4096, 64)
TAPS = QuotaReply(2, 16, 3, 256, "kernel")
SETS = QuotaReply(0, 8, 1, 64, "kernel")


def answers_by_source(conn: socket.socket, request: bytes) -> None:
    """Answer as a helper whose policy opens br0 and nothing else."""
    match decode_request(request):
        case Hello():
            fake.replies(HELLO)(conn, request)
        case Quota():
            fake.replies(TAPS)(conn, request)
        case Can(Tap("br0")):
            fake.replies(YES)(conn, request)
        case _:
            fake.replies(NO)(conn, request)


def loads(conn: socket.socket, request: bytes) -> None:
    """Answer as a helper that loads, and says what is held."""
    asks_quota = isinstance(decode_request(request), Quota)
    fake.replies(SETS if asks_quota else YES)(conn, request)


@pytest.mark.qemu
def test_everything_that_could_be_asked(folder: Path, no_vhost: str, capsys: Captured) -> None:
    """Without options, each bridge of the host is asked about; a no among them is not a failure."""
    with (
        fake.helper(folder / "tap.sock", answers_by_source),
        fake.helper(folder / "bpf.sock", loads),
    ):
        assert main(["can-i"]) == 0
        text = capsys.readouterr().out
        assert main(["can-i", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)

    assert text == (
        f"yes  tap on bridge 'br0', 1 queue: {YES.because}\n"
        f"no   tap on bridge 'virbr0', 1 queue: {NO.because}\n"
        f"no   tap on network 'default', 1 queue: {NO.because}\n"
        f"yes  eBPF program 'rss' of '{QEMU}': {YES.because}\n"
        f"no   vhost by '{no_vhost}': cannot open '{no_vhost}': No such file or directory\n"
        "     hint: ask the administrator to load the module: modprobe vhost_net\n"
        "taps: you hold 2 of 16, all users 3 of 256\n"
        "eBPF sets: you hold 0 of 8, all users 1 of 64\n"
    )
    assert [answer["allowed"] for answer in told["answers"]] == [True, False, False, True, False]
    assert told["quota"] == {"taps": TAPS._asdict(), "sets": SETS._asdict()}


@pytest.mark.qemu
@pytest.mark.usefixtures("no_vhost")
def test_everything_without_helpers(capsys: Captured) -> None:
    """A helper that is not there is told once, and is status 5."""
    assert main(["can-i"]) == 5

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("unknown  taps on bridges of this host: cannot connect")
    assert lines[2].startswith(f"unknown  eBPF program 'rss' of '{QEMU}': cannot connect")
    assert len(lines) == 6


def test_qemu_without_the_program(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    """Where QEMU carries no such program, no helper is asked: status 3."""
    bare = msgspec.structs.replace(CAPABILITIES, objects={})
    monkeypatch.setattr(can_i, "find_or_probe", lambda *_, **__: bare)

    assert main(["can-i", "--ebpf"]) == 3
    assert "carries no such object" in capsys.readouterr().out


def test_qemu_that_cannot_be_asked(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    """A QEMU that does not answer is a failure with its reason."""

    def fails(*_: object, **__: object) -> None:
        raise QemuError("cannot ask it", "look at it")

    monkeypatch.setattr(can_i, "find_or_probe", fails)

    assert main(["can-i", "--ebpf"]) == 1
    assert "cannot ask it\n         hint: look at it\n" in capsys.readouterr().out
