# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry can-i: one line for each thing asked, and an exit status for all of it."""

import json
from pathlib import Path

import msgspec
import pytest

from bpferry.cli import can_i
from bpferry.cli.main import main
from bpferry.errors import QemuError
from bpferry.qemu.cache import find_or_probe
from bpferry_wire.errors import Code
from bpferry_wire.messages import Can, CanReply, Load, Request, Tap
from tests.client import fake_helper as fake
from tests.client.support import CAPABILITIES, QEMU

YES = CanReply(allowed=True, because="/etc/bpferry/policy.toml:12 (groups.kvm)")
NO = CanReply(allowed=False, because="/etc/bpferry/policy.toml:3 (users.bob) has no 'br0'")
NOT_THERE = "systemctl status bpferry-{}.socket"
EVERYTHING = ["can-i", "--bridge", "br0", "--queues", "4", "--ebpf", "--vhost"]

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in which both helpers' sockets will be."""
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
    """Bridge or network, queues and MTU are in the question; one queue if nothing is said."""
    asked: list[Request] = []
    with fake.helper(folder / "tap.sock", fake.keeps(asked, fake.replies(YES))):
        assert main(["can-i", "--bridge", "br0", "--queues", "4", "--mtu", "9000"]) == 0
        assert main(["can-i", "--network", "lan"]) == 0

    assert [
        Can(Tap("br0", is_network=False, queues=4, mtu=9000)),
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
                "/etc/bpferry/policy.toml:12 (groups.kvm)\n"
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
        assert main(EVERYTHING) == 4

    assert capsys.readouterr().out == (
        f"yes  tap on bridge 'br0', 4 queues: {YES.because}\n"
        f"yes  eBPF program 'rss' of '{QEMU}': {YES.because}\n"
        f"no   vhost by '{no_vhost}': cannot open '{no_vhost}': No such file or directory\n"
        "     hint: the administrator runs 'modprobe vhost_net', and the device is there\n"
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
                "allowed": False,
                "code": "refused",
                "because": NO.because,
                "hint": "",
            },
            {"asked": "ebpf", "allowed": True, "code": None, "because": YES.because, "hint": ""},
            {
                "asked": "vhost",
                "allowed": False,
                "code": "refused",
                "because": f"cannot open '{no_vhost}': No such file or directory",
                "hint": "the administrator runs 'modprobe vhost_net', and the device is there",
            },
        ],
    }


def test_vhost_that_works(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    """A device that opens and answers is a yes."""
    # No machine of ours has vhost-net: /dev/null answers in its place.
    monkeypatch.setattr("fcntl.ioctl", lambda *_: bytes(8))
    monkeypatch.setattr(can_i, "VHOST_DEVICE", "/dev/null")

    assert main(["can-i", "--vhost"]) == 0
    assert capsys.readouterr().out == (
        "yes  vhost by '/dev/null': the device opens for you, and is one\n"
    )


@pytest.mark.qemu
@pytest.mark.usefixtures("no_vhost")
def test_no_helper_outweighs_a_no(folder: Path, capsys: Captured) -> None:
    """A helper that is not there is status 5, and the other questions have their answers."""
    with fake.helper(folder / "bpf.sock", fake.replies(NO)):
        assert main(EVERYTHING) == 5

    lines = capsys.readouterr().out.splitlines()
    assert ["no ", "   ", "no ", "no ", "   "] == [line[:3] for line in lines]
    assert "cannot connect to the helper at" in lines[0]
    assert NOT_THERE.format("tap") in lines[1]


@pytest.mark.qemu
def test_no_helper_for_programs(capsys: Captured) -> None:
    """The hint names the unit of the helper that was asked."""
    assert main(["can-i", "--ebpf"]) == 5

    assert NOT_THERE.format("bpf") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "status"), [(Code.REFUSED, 4), (Code.NO_SUCH_BRIDGE, 4), (Code.BUSY, 1)]
)
def test_helper_that_fails(code: Code, status: int, folder: Path, capsys: Captured) -> None:
    """A helper that cannot say whether is no yes; its words and hint are shown."""
    with fake.helper(folder / "tap.sock", fake.refuses(code)):
        assert main(["can-i", "--bridge", "br0"]) == status

    assert capsys.readouterr().out == (
        "no   tap on bridge 'br0', 1 queue: the helper refused: why\n     hint: what to do\n"
    )


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
    assert "cannot ask it\n     hint: look at it\n" in capsys.readouterr().out
