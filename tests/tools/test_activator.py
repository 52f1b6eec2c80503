# SPDX-License-Identifier: LGPL-2.1-or-later
"""The activator of the demo and the benchmarks, with a helper of three lines."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from activation import activator
from tests import requires
from tests.support.census import wait_until

pytestmark = pytest.mark.privileged

PATIENCE_S: Final = 20.0
GROUP: Final = 1_700_000

HELPER: Final = """
import os, socket, sys
fds = range(3, 3 + int(os.environ["LISTEN_FDS"]))
sockets = [socket.socket(fileno=fd) for fd in fds]
families = ",".join(sock.family.name for sock in sockets)
ours = os.environ["LISTEN_PID"] == str(os.getpid())
while True:
    client, _ = sockets[0].accept()
    client.send(f"{os.getpid()} {ours} {families}".encode())
    if sys.argv[1:]:
        sys.exit(int(sys.argv[1]))
"""
"""Says to each client what it is; with an argument it ends with that status after the first one."""


@pytest.fixture(autouse=True)
def _root() -> None:
    requires.root()


@contextmanager
def _activator(
    path: Path, options: Sequence[str] = (), arguments: Sequence[str] = ()
) -> Iterator["subprocess.Popen[str]"]:
    ours = [sys.executable, "-I", activator.__file__, *options, f"--group={GROUP}", str(path)]
    with subprocess.Popen(
        [*ours, sys.executable, "-I", "-c", HELPER, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"Listening on {path}\n"
            yield process
        finally:
            process.terminate()


def _ask(path: Path) -> tuple[int, str]:
    """Connect, and return the helper's process id and what it says of its sockets."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.settimeout(PATIENCE_S)
        client.connect(str(path))
        pid, _, said = client.recv(1000).decode().partition(" ")
        return int(pid), said


def _is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_nothing_is_started_before_somebody_connects(tmp_path: Path) -> None:
    """Listening costs one process."""
    with _activator(tmp_path / "sock") as process:
        assert Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text() == ""


def test_the_socket_is_the_groups(tmp_path: Path) -> None:
    """Members of the group may connect and nobody else."""
    path = tmp_path / "sock"
    with _activator(path):
        found = path.stat()
        assert (0, GROUP, 0o660) == (found.st_uid, found.st_gid, found.st_mode & 0o7777)


@pytest.mark.parametrize(
    ("options", "families"), [((), "AF_UNIX"), (("--route",), "AF_UNIX,AF_NETLINK,AF_NETLINK")]
)
def test_the_sockets_are_passed(tmp_path: Path, options: tuple[str, ...], families: str) -> None:
    """The helper gets what it is to get, with variables that name it."""
    with _activator(tmp_path / "sock", options):
        assert f"True {families}" == _ask(tmp_path / "sock")[1]


def test_one_helper_answers_all(tmp_path: Path) -> None:
    """As long as it runs, no second one is started."""
    with _activator(tmp_path / "sock"):
        assert _ask(tmp_path / "sock") == _ask(tmp_path / "sock")


def test_a_killed_helper_is_started_again(tmp_path: Path) -> None:
    """The next who connects is answered by a new one."""
    with _activator(tmp_path / "sock"):
        first, _ = _ask(tmp_path / "sock")
        os.kill(first, signal.SIGKILL)
        # Who connects before it is gone may be accepted by it with its last breath.
        assert wait_until(lambda: not _is_alive(first))

        second, _ = _ask(tmp_path / "sock")

    assert first != second


def test_a_helper_that_has_gone_idle_is_started_again(tmp_path: Path) -> None:
    """Status 0 is not a failure."""
    with _activator(tmp_path / "sock", arguments=["0"]):
        first, _ = _ask(tmp_path / "sock")

        assert first != _ask(tmp_path / "sock")[0]


def test_a_helper_that_fails_ends_it(tmp_path: Path) -> None:
    """It would fail again for the next client."""
    with _activator(tmp_path / "sock", arguments=["3"]) as process:
        _ask(tmp_path / "sock")

        assert process.wait(PATIENCE_S) == 3


def test_it_can_become_the_helper(tmp_path: Path) -> None:
    """Its process is the helper's, from the first client on; and it is not started again."""
    with _activator(tmp_path / "sock", ["--become", "--route"], arguments=["3"]) as process:
        said = _ask(tmp_path / "sock")

        assert process.wait(PATIENCE_S) == 3

    assert (process.pid, "True AF_UNIX,AF_NETLINK,AF_NETLINK") == said


@pytest.mark.parametrize("way", ["SIGTERM", "hang-up"])
def test_nothing_is_left_at_the_end(tmp_path: Path, way: str) -> None:
    """The helper and the socket's file go, when we are told to end and when our parent is gone."""
    with _activator(tmp_path / "sock") as process:
        helper, _ = _ask(tmp_path / "sock")
        if way == "SIGTERM":
            process.terminate()
        elif process.stdin is not None:
            process.stdin.close()

        assert process.wait(PATIENCE_S) == 0

    assert not _is_alive(helper)
    assert not list(tmp_path.iterdir())
