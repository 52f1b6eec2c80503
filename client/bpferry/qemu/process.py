# SPDX-License-Identifier: LGPL-2.1-or-later
"""Start a program that cannot outlive us, and end it with everything that it started.

A child gets its own session, so that Ctrl-C on our terminal reaches only us, and so that one signal
to the group reaches what a wrapper script started. It gets only the fds that it is given, and
/dev/null as standard input; its standard output and error are one pipe that we read. If the guest's
console is on QEMU's standard streams, these are a socket, and the pipe is its standard error.

A child dies when we are killed. QEMU 10.2 and later can do that itself
(``-run-with exit-with-parent=on``), but a probed program may be anything, so one simple method is
used for all: setpriv(1) of util-linux sets the parent-death signal (prctl(2), PR_SET_PDEATHSIG) and
then becomes the program, under the same process id. Doing the same between fork and exec in Python
would not be safe with threads. The signal is tied to the thread that forked: start children only
from the main thread.

We may have been killed before the signal was set. So there is a shell between the two: it continues
only if we are still its parent, and from then on the signal cannot be missed.
A service or a session ends with a signal to each of its processes. A child that others still need
does not hear it: those signals are blocked in it from its first instruction on (sigprocmask(2); the
mask survives exec, and QEMU, swtpm, passt and virtiofsd leave it as it is). We end it otherwise.
"""

import contextlib
import os
import select
import signal
import socket
import stat
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from bpferry.errors import NoProgram, QemuError

TAIL_BYTES: Final = 8192
"""How much of the end of a child's standard error is kept, in bytes."""

PIPE_BYTES: Final = 1 << 16
"""What a pipe holds (pipe(7)). All beyond that was written since, and a flood has no end."""

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""With which people, systemd and terminals ask a process to end."""

SETPRIV_PATHS: Final = ("/usr/bin/setpriv", "/bin/setpriv")
"""Where util-linux installs setpriv."""


STILL_OUR_CHILD: Final = '[ "$PPID" = "$1" ] || exit 1; shift; exec "$@"'
"""A script for sh(1). Its arguments are the process id of its rightful parent, and the program."""


def check_program(path: str) -> None:
    """Raise NoProgram unless *path* is a file that can be executed.

    A text file without ``#!`` is refused here, since execvp(3) would run it with a shell.
    """
    what = f"cannot start '{path}'"
    hint = "give the path of a QEMU, such as /usr/bin/qemu-system-x86_64"
    try:
        mode = Path(path).stat().st_mode
        if stat.S_ISDIR(mode):
            raise NoProgram(f"{what}: it is a directory", hint)
        if not stat.S_ISREG(mode):
            raise NoProgram(f"{what}: it is not a regular file", hint)
        if not os.access(path, os.X_OK):
            raise NoProgram(f"{what}: you have no permission to execute it", hint)
        with Path(path).open("rb") as file:
            start = file.read(4)
    except PermissionError as error:
        # Nobody installs a program that may be executed but not read.
        raise NoProgram(f"{what}: {error.strerror}", hint) from error
    except (OSError, ValueError) as error:
        raise NoProgram(f"{what}: {getattr(error, 'strerror', error)}", hint) from error
    if start != b"\x7fELF" and not start.startswith(b"#!"):
        raise NoProgram(f"{what}: it is neither a program (ELF) nor a script (#!)", hint)


def guarded(argv: Sequence[str], parent: int) -> tuple[str, ...]:
    """Return *argv* so that it dies with the process *parent*; unchanged if there is no setpriv."""
    setpriv = next((path for path in SETPRIV_PATHS if os.access(path, os.X_OK)), None)
    if setpriv is None:
        return tuple(argv)
    check = ("/bin/sh", "-c", STILL_OUR_CHILD, "sh", str(parent))
    return (setpriv, "--pdeathsig", "KILL", "--", *check, *argv)


@contextlib.contextmanager
def start_child(
    argv: Sequence[str],
    pass_fds: Sequence[int] = (),
    *,
    streams: int | None = None,
    environment: Mapping[str, str] | None = None,
    blocked: Iterable[signal.Signals] = (),
    through: Sequence[str] = (),
) -> Iterator["Child"]:
    """Start *argv* with *pass_fds*, under the numbers that they have; end it with the block.

    With *streams*, that fd (borrowed) is its standard input and output, and we read only its
    standard error. *environment* is added to ours. The signals *blocked* do not reach it.
    *through* is a command that becomes it, such as systemd-run(1) with a scope.

    Raises:
        QemuError: it cannot be started.
    """
    check_program(argv[0])
    try:
        with _blocking(blocked):
            process = subprocess.Popen(
                guarded((*through, *argv), os.getpid()),
                pass_fds=tuple(pass_fds),
                stdin=subprocess.DEVNULL if streams is None else streams,
                stdout=subprocess.PIPE if streams is None else streams,
                stderr=subprocess.STDOUT if streams is None else subprocess.PIPE,
                env={**os.environ, **environment} if environment else None,
                start_new_session=True,
            )
    except (OSError, ValueError) as error:
        raise QemuError(f"cannot start '{argv[0]}': {error}") from error
    child = Child(argv[0], process)
    try:
        yield child
    finally:
        child.end()


@contextlib.contextmanager
def _blocking(signals: Iterable[signal.Signals]) -> Iterator[None]:
    """Block *signals* in this thread, and in what it starts; they arrive after the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Child:
    """A running child: its output, its end, and its exit status."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]") -> None:
        self.name = name
        self.pid = process.pid
        self._process = process
        output = process.stdout or process.stderr
        assert output is not None  # noqa: S101 - one of them was asked for
        self.output = output
        os.set_blocking(self.output.fileno(), False)
        self.pidfd = os.pidfd_open(process.pid)
        self._tail = b""

    def read_output(self) -> bytes | None:
        """Return what it wrote since the last call: None if nothing, empty if it closed its end."""
        try:
            data = os.read(self.output.fileno(), TAIL_BYTES)
        except BlockingIOError:
            return None
        self._tail = (self._tail + data)[-TAIL_BYTES:]
        return data

    def tail(self) -> str:
        """Return the end of everything that it has written by now, as text."""
        for _ in range(PIPE_BYTES // TAIL_BYTES + 1):
            if self.output.closed or not self.read_output():
                break
        return self._tail.decode(errors="replace").strip()

    def kill(self) -> None:
        """Kill it and everything that it started."""
        # It is not reaped yet, so the number is still that of its group.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def end(self) -> None:
        """Kill what is left of it, reap it, close what is open. Doing so twice does nothing."""
        if self.pidfd < 0:
            return
        self.kill()
        self._process.wait()
        self.tail()
        self.output.close()
        os.close(self.pidfd)
        self.pidfd = -1

    def wait(self, seconds: float) -> bool:
        """Wait at most *seconds* for its end; say whether it ended."""
        # Not select(), which takes no fd above 1,023; a VM with many queues has such fds.
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def exit_status(self) -> int:
        """Wait for the end, and return the exit status, or minus the signal that ended it."""
        if self.pidfd < 0:
            return int(self._process.returncode)
        # It is not reaped here: until end(), its number has to stay that of its group.
        ending = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOWAIT)
        assert ending is not None  # noqa: S101 - only with WNOHANG
        return ending.si_status if ending.si_code == os.CLD_EXITED else -ending.si_status


def describe_exit(status: int) -> str:
    """Say how a process ended, for people."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


@contextlib.contextmanager
def socket_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Make two connected stream sockets; both are closed with the block."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs
