# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry-bridge-helper: a tap for who would have run qemu-bridge-helper."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from bpferry.cli.bridge_helper import main
from bpferry.network import tun
from bpferry_wire.errors import Code
from bpferry_wire.fds import BorrowedFd
from bpferry_wire.messages import Request, Tap, TapReply
from tests import requires
from tests.client import fake_helper as fake
from tests.client import taps
from tests.client.support import QEMU

ROOT: Final = Path(__file__).parents[2]
NAME: Final = "bpferry-bridge-helper"

PROGRAM: Final = f"""#!{sys.executable}
import sys
sys.path[:0] = [{str(ROOT / "client")!r}, {str(ROOT / "shared")!r}]
from bpferry.cli.bridge_helper import main
sys.exit(main())
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where the helper is looked for."""
    found = tmp_path / "tap.sock"
    monkeypatch.setenv("BPFERRY_TAP_SOCKET", str(found))
    return found


def gives(namespace: str, asked: list[Request]) -> fake.Behaviour:
    """Return a helper's behaviour that gives a tap with one queue."""
    reply = TapReply(taps.NAME, "br7", 1500)
    return fake.keeps(asked, fake.permits(fake.gives_tap(taps.made(namespace, 1), reply)))


@pytest.mark.privileged
def test_the_caller_gets_one_queue(path: Path, namespace: str) -> None:
    """Of a tap on the bridge that it named, beside one byte, on the socket that it named."""
    asked: list[Request] = []
    ours, theirs = socket.socketpair()
    with ours, fake.helper(path, gives(namespace, asked)):
        status = main([NAME, "--use-vnet", "--br=br7", f"--fd={theirs.detach()}"])
        data, [fd], _, _ = socket.recv_fds(ours, 16, 4)
    queue = tun.identify(BorrowedFd(fd))
    os.close(fd)

    assert (0, b"\0", taps.NAME) == (status, data, queue.interface)
    assert not queue.flags & tun.IFF_MULTI_QUEUE
    assert asked == [Tap("br7", is_network=False, queues=1)]


@pytest.mark.privileged
@pytest.mark.qemu
def test_qemu_takes_the_tap(path: Path, namespace: str, tmp_path: Path) -> None:
    """A real one, by -netdev bridge,helper=."""
    requires.qemu()
    program = tmp_path / NAME
    program.write_text(PROGRAM, encoding="utf-8")
    program.chmod(0o755)
    asked: list[Request] = []
    words = "-M none -nodefaults -display none -monitor stdio -netdev"
    with fake.helper(path, gives(namespace, asked)):
        done = subprocess.run(
            [QEMU, *words.split(), f"bridge,id=n0,br=br7,helper={program}"],
            input="info network\nquit\n", capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    assert 0 == done.returncode, done.stderr
    assert "n0: index=0,type=tap" in done.stdout
    assert asked == [Tap("br7", is_network=False, queues=1)]


def test_a_refusal_is_told_and_nothing_is_sent(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the helper's words, with the status of the client's commands."""
    ours, theirs = socket.socketpair()
    with ours, fake.helper(path, fake.refuses(Code.REFUSED)):
        status = main([NAME, "--use-vnet", "--br=br7", f"--fd={theirs.detach()}"])
        assert b"" == ours.recv(16)

    assert 4 == status
    said = capsys.readouterr().err
    assert said.startswith(f"{NAME}: ")
    assert "why" in said
    assert "(hint: what to do)" in said


@pytest.mark.parametrize("number", [999, 0])
def test_a_number_that_is_no_socket(
    number: int, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether nothing is open there, or something else."""
    with fake.helper(path, fake.refuses(Code.REFUSED)), Path("/dev/null").open("rb") as null:
        status = main([NAME, "--use-vnet", f"--fd={number or null.fileno()}"])

    assert 1 == status
    assert "cannot send a tap to fd" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        "",
        "--use-vnet",
        "--br=br0 --fd=3",
        "--use-vnet --fd=three",
        "--use-vnet --fd=-1",
        "--use-vnet --fd=3 --mode=other",
        "--use-vnet --fd=3 br0",
    ],
)
def test_other_words_are_wrong_usage(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """None of them asks for anything."""
    assert 2 == main([NAME, *words.split()])
    assert capsys.readouterr().err.startswith("usage: ")
