# SPDX-License-Identifier: LGPL-2.1-or-later
"""``bpferry-helper status`` asks both helpers, and says what each says."""

import hashlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bpferry_helper.status import _ask
from bpferry_wire import channel
from bpferry_wire.messages import Bandwidth, Load, Rate, StatusReply
from bpferry_wire.packets import encode_reply
from tests import requires
from tests.support.helper_process import HelperProcess, helper_command
from tests.support.people import ALICE, SOCKET_GID, ask_once
from tests.support.qemu import rss_object
from tests.support.tap_process import TapProcess, granted, running_tap_helper, tap_on

pytestmark = pytest.mark.privileged


@pytest.fixture(scope="module")
def tap_helper() -> Iterator[TapProcess]:
    """Yield a real tap helper that the tests of this file share."""
    requires.root()
    with running_tap_helper() as helper:
        yield helper


def status(bpf: Path, tap: Path, user: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command as *user*, with the sockets *bpf* and *tap*."""
    sockets = {"BPFERRY_BPF_SOCKET": str(bpf), "BPFERRY_TAP_SOCKET": str(tap)}
    return subprocess.run(
        helper_command("status"), capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], **sockets}, user=user, group=SOCKET_GID, extra_groups=[],
    )  # fmt: skip


def test_nothing_is_granted(helper: HelperProcess, tap_helper: TapProcess) -> None:
    """A line for each helper, exit status 0; spare taps are nobody's."""
    done = status(helper.path, tap_helper.path)

    assert (0, "no set is alive\n\nno tap is alive\n", "") == (
        done.returncode,
        done.stdout,
        done.stderr,
    )


@pytest.mark.kernel
@pytest.mark.qemu
def test_who_holds_which_set(helper: HelperProcess, tap_helper: TapProcess) -> None:
    """One line for each set that is alive, and how it is known."""
    digest = hashlib.sha256(rss_object()).digest()
    with ask_once(helper.path, Load("rss", digest), ALICE).fds:
        done = status(helper.path, tap_helper.path)
    head, row, counted = done.stdout.splitlines()[:3]

    assert ["uid", "user", "asked", "by", "pid", "object", "for"] == head.split()
    assert [str(ALICE.uid), "-", str(os.getpid()), "rss"] == row.split()[:4]
    assert "counted by: kernel" == counted


def test_who_holds_which_tap(helper: HelperProcess, tap_helper: TapProcess) -> None:
    """One line for each tap that is alive, after the sets."""
    name, fds = granted(tap_helper, tap_on("br0"))
    with fds:
        done = status(helper.path, tap_helper.path)
    sets, empty, head, row, counted = done.stdout.splitlines()

    assert ("no set is alive", "", "counted by: kernel") == (sets, empty, counted)
    assert ["uid", "user", "asked", "by", "pid", "interface", "for"] == head.split()
    assert [str(ALICE.uid), "-", str(os.getpid()), name] == row.split()[:4]


def test_the_limits_of_a_tap_are_at_the_end_of_its_line(
    helper: HelperProcess, tap_helper: TapProcess
) -> None:
    """In the unit of networks."""
    limited = tap_on("br0", bandwidth=Bandwidth(inbound=Rate(1_000_000)))
    with granted(tap_helper, limited)[1]:
        done = status(helper.path, tap_helper.path)

    assert done.stdout.splitlines()[3].endswith("  at most 8 Mbit/s to the VM")


def test_both_answer_root_alone(helper: HelperProcess, tap_helper: TapProcess) -> None:
    """Somebody else gets each helper's refusal and its hint."""
    done = status(helper.path, tap_helper.path, user=ALICE.uid)

    assert (1, "") == (done.returncode, done.stdout)
    assert (2, 2) == (done.stderr.count("only uid 0"), done.stderr.count("hint: ask with sudo"))


@pytest.mark.parametrize(("role", "other"), [("bpf", "no tap"), ("tap", "no set")])
def test_one_helper_is_not_there(
    role: str, other: str, helper: HelperProcess, tap_helper: TapProcess, roots_folder: Path
) -> None:
    """Exit status 1, where it was looked for, and what the other one says all the same."""
    missing = roots_folder / "none"
    sockets = {"bpf": helper.path, "tap": tap_helper.path, role: missing}
    done = status(sockets["bpf"], sockets["tap"])

    assert (1, f"{other} is alive\n") == (done.returncode, done.stdout)
    assert f"cannot ask the helper at '{missing}': there is no such socket" in done.stderr
    assert "Errno" not in done.stderr
    assert f"systemctl status bpferry-{role}.socket" in done.stderr


def test_a_full_queue_of_connections_is_waited_for(tmp_path: Path) -> None:
    """During a flood, connect(2) fails at once. The control: it does so here."""
    path = str(tmp_path / "sock")
    with ExitStack() as stack:
        listener, other, refused = (
            stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            for _ in range(3)
        )
        listener.bind(path)
        listener.listen(0)
        other.connect(path)
        refused.setblocking(False)  # noqa: FBT003 - the function's own signature
        with pytest.raises(BlockingIOError):
            refused.connect(path)
        answering = threading.Timer(0.3, _answer_second, [listener])
        answering.start()
        reply = _ask(path)
        answering.join()

    assert reply == NOBODY


NOBODY = StatusReply((), "kernel")


def _answer_second(listener: socket.socket) -> None:
    """Take two clients out of the queue and answer the second."""
    listener.accept()[0].close()
    with listener.accept()[0] as client:
        channel.receive(client).fds.close()
        channel.send(client, encode_reply(NOBODY))
