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
from bpferry_wire.messages import Bandwidth, Create, ErrorReply, Load, Rate, StatusReply
from bpferry_wire.packets import encode_reply
from tests import requires
from tests.support.census import wait_until
from tests.support.helper_process import HelperProcess, helper_command
from tests.support.people import ALICE, SOCKET_GID, ask, ask_once, connect
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

    assert ["uid", "user", "asked", "by", "pid", "object", "for", "VM"] == head.split()
    assert [str(ALICE.uid), "-", str(os.getpid()), "rss"] == row.split()[:4]
    assert "-" == row.split()[-1]
    assert "counted by: kernel" == counted


@pytest.mark.kernel
@pytest.mark.qemu
def test_for_which_vm_a_set_is(helper: HelperProcess, tap_helper: TapProcess) -> None:
    """As the client called it; also after a restart of the helper, and in the journal."""
    load = Load("rss", hashlib.sha256(rss_object()).digest(), "web-1")
    with ask_once(helper.path, load, ALICE).fds:
        before = status(helper.path, tap_helper.path)
        helper.restart()
        after = status(helper.path, tap_helper.path)

    rows = [done.stdout.splitlines()[1] for done in (before, after)]
    assert ["web-1", "web-1"] == [row.split()[-1] for row in rows]
    assert rows[0].index("web-1") == before.stdout.splitlines()[0].index("VM")
    assert f"(pid {os.getpid()}, VM 'web-1'), maps " in helper.log()


def test_who_holds_which_tap(helper: HelperProcess, tap_helper: TapProcess) -> None:
    """One line for each tap that is alive, after the sets."""

    def lines() -> list[str]:
        return status(helper.path, tap_helper.path).stdout.splitlines()

    name, fds = granted(tap_helper, tap_on("br0"))
    with fds:
        # A set or tap that the test before had may take a moment to go, and has a line until then.
        assert wait_until(lambda: len(lines()) == 5), lines()
        sets, empty, head, row, counted = lines()

    assert ("no set is alive", "", "counted by: kernel") == (sets, empty, counted)
    assert ["uid", "user", "asked", "by", "pid", "interface", "for", "bridge", "VM"] == head.split()
    assert [str(ALICE.uid), "-", str(os.getpid()), name] == row.split()[:4]
    assert ["br0", "-"] == row.split()[5:]


def test_for_which_vm_a_tap_is(helper: HelperProcess, tap_helper: TapProcess) -> None:
    """As the client called it; also after a restart of the helper, and in the journal."""
    name, fds = granted(tap_helper, tap_on("br0", vm="web-1"))
    with fds:
        before = status(helper.path, tap_helper.path)
        tap_helper.restart()
        after = status(helper.path, tap_helper.path)
        alias = tap_helper.find(name).alias

    rows = [done.stdout.splitlines()[3] for done in (before, after)]
    assert [["br0", "web-1"]] * 2 == [row.split()[5:] for row in rows]
    assert alias.endswith(" vm=web-1")
    assert f"(pid {os.getpid()}, VM 'web-1')" in tap_helper.log()


def test_a_tap_that_is_on_no_bridge(helper: HelperProcess, tap_helper: TapProcess) -> None:
    """Somebody took it off; the control: it was on one before."""
    name, fds = granted(tap_helper, tap_on("br0", vm="web-1"))
    with fds:
        before = status(helper.path, tap_helper.path)
        tap_helper.ip(f"link set dev {name} nomaster")
        after = status(helper.path, tap_helper.path)

    places = [done.stdout.splitlines()[3].split()[5:] for done in (before, after)]
    assert [["br0", "web-1"], ["-", "web-1"]] == places


def test_a_refusal_has_the_vm_in_the_journal(tap_helper: TapProcess) -> None:
    """A tap's, a tap's that stays, and what is asked about one; then one that names none."""
    wanted = tap_on("none", vm="db")
    for request in (wanted, Create(wanted), wanted._replace(vm="")):
        assert isinstance(ask_once(tap_helper.path, request, ALICE).reply, ErrorReply)
    told = [line for line in tap_helper.log().splitlines() if "no-such-bridge for" in line]

    pid = os.getpid()
    assert [f"(pid {pid}, VM 'db')"] * 2 + [f"(pid {pid})"] == [
        line[line.index("(pid") : line.index(")", line.index("(pid")) + 1] for line in told
    ]


def test_a_packet_that_is_none_has_no_vm(tap_helper: TapProcess) -> None:
    """Nor that of the request before it on the same connection."""
    with connect(tap_helper.path, ALICE) as sock:
        assert isinstance(ask(sock, tap_on("none", vm="db2")).reply, ErrorReply)
        channel.send(sock, b"\xc1")
        channel.receive(sock).fds.close()
    last = [line for line in tap_helper.log().splitlines() if "bad-request for" in line][-1]

    assert "VM" not in last
    assert "VM 'db2'" in tap_helper.log()


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
