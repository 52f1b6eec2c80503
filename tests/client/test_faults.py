# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real VM whose QEMU, whose host or whose neighbours behave badly.

QEMU floods its standard error or hangs, nobody reads ours, the disk with the log is full, other
users and broken programs are at the VM's sockets.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpferry.errors import BpferryError
from bpferry.machine.control import client, life
from bpferry.machine.control.packets import decode_reply
from bpferry.machine.control.running import connect
from bpferry_wire import limits
from tests.client.running import BASE, DISK, Run, start, type_in
from tests.client.support import is_gone, let_in, script, wait_until
from tests.support import packets
from tests.support.census import fd_targets

pytestmark = pytest.mark.qemu

LONG = 150.0
"""Seconds after which something has gone wrong, and is not only slow."""

FLOODS = """\
case "$*" in *guest=t,*) yes "QEMU has a lot to say" >&2 & esac
exec qemu-system-x86_64 "$@"
"""
"""A QEMU with something in its process group that writes without an end, also after it."""


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, folder in (("XDG_RUNTIME_DIR", "run"), ("XDG_STATE_HOME", "state")):
        (tmp_path / folder).mkdir(mode=0o700)
        monkeypatch.setenv(name, str(tmp_path / folder))


def environment() -> dict[str, str]:
    """Return the environment in which `bpferry` is found."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def bpferry(*words: str) -> "subprocess.CompletedProcess[str]":
    """Run `bpferry` with *words* to its end."""
    argv = [sys.executable, "-m", "bpferry", *words]
    return subprocess.run(
        argv, check=False, capture_output=True, text=True, timeout=LONG, env=environment()
    )


def runs(run: Run) -> None:
    """Wait until its guest runs."""
    assert wait_until(lambda: "hello" in run.out() or run.process.poll() is not None, LONG)
    assert run.process.poll() is None, run.err()


def qemu_of() -> int:
    """Return the process id of the VM's QEMU."""
    with connect("t") as control:
        found = control.ask("status")["qemu_pid"]
    assert isinstance(found, int)
    return found


def in_each_process(folder: Path, patch: pytest.MonkeyPatch, text: str) -> None:
    """Let *text* be what each process of bpferry's runs first."""
    (folder / "sitecustomize.py").write_text(text, encoding="utf-8")
    patch.syspath_prepend(str(folder))


def test_flood_on_standard_error_does_not_keep_commands_from_the_vm(tmp_path: Path) -> None:
    """They are answered, the log stays small, and the flood does not keep the VM from ending."""
    text = f'qemu = "{script(tmp_path, FLOODS)}"\n{BASE}{DISK}'
    with start(tmp_path, text) as run:
        runs(run)
        qemu = qemu_of()
        for words in (("status", "t"), ("pause", "t"), ("resume", "t"), ("stop", "--force", "t")):
            done = bpferry(*words)
            assert (done.returncode, done.stderr) == (0, "")

        assert run.process.wait(LONG) == 0
        assert is_gone(qemu)
    logs = [path.stat().st_size for path in (tmp_path / "state/bpferry/t").glob("log*")]
    assert sum(logs) <= 2 << 20


def test_qemu_that_floods_and_never_answers_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error comes when the time for an answer is over, and not when the flood is."""
    impatient = "from bpferry.machine import supervisor\nsupervisor.MONITOR_SECONDS = 3.0\n"
    in_each_process(tmp_path, monkeypatch, impatient)
    body = 'case "$*" in *guest=t,*) exec yes "no time" >&2;; esac; exec qemu-system-x86_64 "$@"'
    text = f'qemu = "{script(tmp_path, body)}"\n{BASE}{DISK}'
    with start(tmp_path, text) as run:
        assert run.process.wait(LONG) == 1
        assert "did not answer at its monitor within 3 s" in run.err()[-2000:]


@contextlib.contextmanager
def unread(folder: Path, text: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the VM of *text* with a standard error that nobody reads."""
    (folder / "vm.toml").write_text(text, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "-m", "bpferry", "run", str(folder / "vm.toml")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_nobody_who_reads_does_not_keep_commands_from_the_vm(tmp_path: Path) -> None:
    """A stopped terminal or a program that sleeps at the end of a pipe is not waited for."""
    text = f'qemu = "{script(tmp_path, FLOODS)}"\n{BASE}'
    log = tmp_path / "state/bpferry/t/log"
    with unread(tmp_path, text) as process:
        # By then more was said than fits into the pipe and into what waits for it.
        assert wait_until(lambda: log.exists() and log.stat().st_size > 900_000, LONG)
        for words in (("status", "t"), ("stop", "--force", "t")):
            done = bpferry(*words)
            assert (done.returncode, done.stderr) == (0, "")

        assert process.wait(LONG) == 0


def test_log_on_a_full_disk_does_not_stop_the_vm(tmp_path: Path) -> None:
    """It is told once; the guest goes on and powers off as usual."""
    state = tmp_path / "state"
    mount = ["/bin/mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(state)]
    subprocess.run(mount, check=True)
    try:
        text = f'qemu = "{script(tmp_path, FLOODS)}"\n{BASE}{DISK}'
        with start(tmp_path, text) as run:
            runs(run)
            said = f"cannot write the log '{state}/bpferry/t/log': No space left on device"
            assert wait_until(lambda: said in run.err(), LONG)
            type_in(run, b"echo")
            assert wait_until(lambda: "echo" in run.out(), LONG)
            type_in(run, b"q")

            assert run.process.wait(LONG) == 0
            assert run.err().count("cannot write the log") == 1
    finally:
        subprocess.run(["/bin/umount", "--lazy", str(state)], check=True)


def test_qemu_that_hangs_is_told_and_can_be_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not need it is answered; what does ends with an error; the VM can be stopped.

    The error is the supervisor's, which gives QEMU up before the command gives up the supervisor.
    """
    assert life.QEMU_SECONDS < client.ANSWER_SECONDS
    impatient = "from bpferry.machine.control import life\nlife.QEMU_SECONDS = 2.0\n"
    in_each_process(tmp_path, monkeypatch, impatient)
    with start(tmp_path, BASE + DISK) as run:
        runs(run)
        qemu = qemu_of()
        os.kill(qemu, signal.SIGSTOP)
        for asked in (("list",), ("status", "t")):
            assert bpferry(*asked).returncode == 0
        picture = str(tmp_path / "picture.png")
        for words in (("pause", "t"), ("screenshot", "t", picture)):
            done = bpferry(*words)
            assert (words, done.returncode) == (words, 1)
            assert "QEMU of 't' did not answer" in done.stderr
        assert not Path(picture).exists()
        assert bpferry("stop", "--force", "t").returncode == 0

        assert run.process.wait(LONG) == 128 + signal.SIGKILL
        assert is_gone(qemu)


def test_commands_of_all_kinds_at_once_leave_the_vm_in_order(tmp_path: Path) -> None:
    """Each of them is done or refused in words, and the guest answers afterwards."""
    with start(tmp_path, BASE + DISK) as run:
        runs(run)
        done: list[subprocess.CompletedProcess[str]] = []
        kinds = ("pause", "resume", "reset", "status", "pause", "resume", "set-link")
        threads = [
            threading.Thread(
                target=lambda kind: done.append(bpferry(kind, "t", *_more(kind))), args=(kind,)
            )
            for kind in kinds
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(done) == len(kinds)
        assert all("Traceback" not in one.stderr for one in done)
        assert {one.returncode for one in done} <= {0, 1, 2}

        assert bpferry("resume", "t").returncode == 0
        # A guest that has just been reset may lose what is typed.
        assert wait_until(lambda: _typed(run, b"q"), LONG)
        assert run.process.wait(LONG) == 0


def _typed(run: Run, data: bytes) -> bool:
    """Type *data* unless the VM has ended; say whether it has."""
    with contextlib.suppress(BrokenPipeError, subprocess.TimeoutExpired):
        type_in(run, data)
        run.process.wait(0.5)
    return run.process.poll() is not None


def _more(kind: str) -> tuple[str, ...]:
    return ("net9", "down") if kind == "set-link" else ()


def test_bad_packets_at_the_control_socket_are_answered_and_leave_nothing(tmp_path: Path) -> None:
    """Each packet of the wire's own list ends its connection with a reason, and no other one."""
    bad = {**packets.BAD, **packets.FOREIGN_VERSIONS, **packets.UNKNOWN_OPS}
    with start(tmp_path, BASE + DISK) as run:
        runs(run)
        path = tmp_path / "run/bpferry/t/control.sock"
        with connect("t") as before:
            before.ask("summary")
            fds = fd_targets(run.process.pid)
            for name, packet in bad.items():
                with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
                    sock.settimeout(LONG)
                    sock.connect(str(path))
                    sock.send(packet)
                    with pytest.raises(BpferryError) as caught:
                        decode_reply(sock.recv(limits.MAX_REPLY_BYTES))
                    assert caught.value.code in ("bad-request", "unknown-op"), name
                    assert caught.value.message, name
            assert before.ask("summary")["state"] == "running"
            assert wait_until(lambda: fds == fd_targets(run.process.pid), LONG)
        type_in(run, b"q")
        assert run.process.wait(LONG) == 0


CONNECTS = """
import socket, sys
for path in sys.argv[1:]:
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        with socket.socket(socket.AF_UNIX, kind) as sock:
            try:
                sock.connect(path)
                print(path)
            except OSError as error:
                pass
"""

SOCKETS = """\
[[serials]]
type = "unix"
sources = [{{ mode = "bind", path = "{run}/bpferry/t/serial.sock" }}]
[[channels]]
type = "unix"
target = "virtio"
name = "org.qemu.guest_agent.0"
[[graphics]]
type = "vnc"
socket = "{run}/bpferry/t/vnc.sock"
"""


@pytest.mark.privileged
def test_another_user_reaches_no_socket_of_a_vm(tmp_path: Path) -> None:
    """The folder is closed to others; where it was opened by mistake, each socket still is."""
    with start(tmp_path, BASE + DISK + SOCKETS.format(run=tmp_path / "run")) as run:
        runs(run)
        folder = tmp_path / "run/bpferry/t"
        sockets = sorted(path for path in folder.rglob("*") if path.is_socket())
        names = {"control.sock", "qmp.sock", "serial.sock", "vnc.sock"}
        assert names <= {path.name for path in sockets}
        assert len(sockets) == len(names) + 1
        assert folder.stat().st_mode & 0o7777 == 0o700
        for _ in ("closed", "open"):
            done = subprocess.run(
                [sys.executable, "-c", CONNECTS, *map(str, sockets)],
                user=61_234,
                check=True,
                capture_output=True,
                text=True,
            )
            assert done.stdout == ""
            let_in(folder)
        type_in(run, b"q")
        assert run.process.wait(LONG) == 0


def test_time_that_is_waited_does_not_depend_on_the_clock(tmp_path: Path) -> None:
    """A clock that jumps by a day ends no stop early, and an uptime stays what it is."""
    # Python's own clock, in every process of bpferry: a host's clock is not for tests to set.
    jumps = (
        "import time\nreal, begin = time.time, time.monotonic()\n"
        "time.time = lambda: real() + 86_400 * ((time.monotonic() - begin) // 0.5 % 2)\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        in_each_process(tmp_path, patch, jumps)
        with start(tmp_path, BASE + DISK) as run:
            runs(run)
            time.sleep(1.0)
            with connect("t") as control:
                uptime = control.ask("summary")["uptime_s"]
                assert isinstance(uptime, int)
                assert 0 <= uptime < LONG
                control.ask("stop", force=False, seconds=3600)
                assert not control.wait_for_end(3.0)
            type_in(run, b"q")
            assert run.process.wait(LONG) == 0
