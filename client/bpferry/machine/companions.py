# SPDX-License-Identifier: LGPL-2.1-or-later
"""The processes beside QEMU, such as swtpm: started before it, ended after it.

Each is a child like QEMU (``qemu.process``): it dies with us, has a session of its own, and none of
our fds except those that it should inherit. It inherits its end of a connection to QEMU, and
counts as started at once, since what QEMU writes waits there. Where that is not possible, as for
passt with vhost-user, it counts as started when it listens on its socket, according to the kernel's
list of Unix sockets. We do not connect to find out: it serves one connection and ends with it.

They do not hear the signals that end a service or a session, since the VM needs them while it
powers down. When QEMU has ended, swtpm, passt and virtiofsd end by themselves with its connection;
what is left then gets SIGINT, which systemd does not send and no terminal of ours, and at last
SIGKILL.
"""

import contextlib
import os
import signal
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from bpferry.commandline.parts import Companion, Step
from bpferry.errors import BpferryError, CompanionError, QemuError
from bpferry.machine.listening import check_path, make_folder, remove_stale
from bpferry.machine.paths import exists, holds_files, is_folder
from bpferry.machine.reporter import Reporter
from bpferry.qemu.process import Child, describe_exit, start_child
from bpferry.qemu.signals import explain_signal

SOCKET_SECONDS: Final = 10.0
"""From the start of a process to its socket; swtpm takes 20 ms."""

STEP_SECONDS: Final = 120.0
"""For a step before the start; swtpm_setup makes RSA keys, which takes about a second."""

OWN_SECONDS: Final = 0.3
"""For all of them to end by themselves, as they do some milliseconds after QEMU."""

END_SECONDS: Final = 2.0
"""For all of them to end once they are told to, before they are killed."""

BLOCKED: Final = (signal.SIGTERM, signal.SIGHUP)
"""Signals that they do not hear."""

POLL_SECONDS: Final = 0.01

LIBEXEC: Final = ("/usr/libexec", "/usr/lib/qemu", "/usr/sbin")
"""Where distributions install such programs, besides PATH."""

ACCEPTING: Final = 0x10000
"""__SO_ACCEPTCON of linux/net.h: the flag of a listening socket in /proc/net/unix."""

FLAGS_COLUMN: Final = 3
PATH_COLUMN: Final = 7


class Running(Struct, frozen=True):
    """A companion that runs. Its output has to be read, or it stops when a pipe is full."""

    companion: Companion
    child: Child

    def describe_end(self) -> CompanionError:
        """Return what to tell the user when it has ended and QEMU has not."""
        return _ended(self.companion, self.child, "exited while the VM still needs it")

    def has_failed(self, seconds: float) -> bool:
        """Say whether it ends within *seconds* other than one does whose QEMU has gone."""
        return self.child.wait(seconds) and self.child.exit_status() != 0


@contextlib.contextmanager
def start_companions(
    companions: Sequence[Companion], reporter: Reporter, fds: Mapping[str, int] | None = None
) -> Iterator[tuple[Running, ...]]:
    """Start *companions* one after the other; they all end with the block.

    *fds*, by name, has at least those that they inherit; it is borrowed. Call this from the main
    thread (``qemu.process``), and leave the block after QEMU has ended.

    Raises:
        BpferryError: one of them cannot be started, or ends, or does not listen in time.
    """
    with contextlib.ExitStack() as stack:
        running: list[Running] = []
        # This runs before the others: all of them are told to end before any of them is killed.
        try:
            for companion in companions:
                reporter.progress(f"starting '{companion.name}'")
                _prepare(companion, reporter)
                if companion.socket:
                    stack.callback(_remove_socket, Path(companion.socket))
                running.append(Running(companion, _start(companion, stack, fds or {})))
                if companion.socket:
                    _wait_for_socket(running[-1])
            yield tuple(running)
        finally:
            _ask_to_end([one.child for one in running])


def _prepare(companion: Companion, reporter: Reporter) -> None:
    """Make the folders of *companion*, remove what a former run left, and do its steps."""
    try:
        for folder in map(Path, companion.folders):
            make_folder(folder)
        if companion.socket:
            _make_room(Path(companion.socket))
    except BpferryError as error:
        raise CompanionError(
            f"cannot start '{companion.name}': {error.message}", error.hint, companion.key
        ) from error
    left_out: set[str] = set()
    for step in companion.steps:
        if step.without not in left_out and not _do(step, companion, reporter):
            left_out.add(step.without)


def _make_room(path: Path) -> None:
    """Make sure that a socket can be made at *path*."""
    check_path(path)
    make_folder(path.parent)
    remove_stale(path)


def _do(step: Step, companion: Companion, reporter: Reporter) -> bool:
    """Run *step* to its end, unless a former run did; say whether it is done.

    An optional step may fail, and the user is told. Steps that depend on it have the same text for
    that (``without``), and are left out as well. That its program is missing is told with its place
    before a start (``programs``).
    """
    if step.without and find_program(step.argv[0]) is None:
        return False
    folder = Path(step.empty) if step.empty is not None else None
    if folder is not None and holds_files(folder):
        return True
    with contextlib.ExitStack() as undo:
        if folder is not None:
            undo.callback(_empty, folder)
        try:
            _run(step, companion)
        except CompanionError as error:
            if not step.without:
                raise
            reporter.warn(f"{step.without}: {error.message}", error.hint)
            return False
        undo.pop_all()
    return True


def _run(step: Step, companion: Companion) -> None:
    program = find_program(step.argv[0])
    if program is None:
        raise not_installed(step.argv[0], companion, step)
    with contextlib.ExitStack() as stack:
        child = _enter((program, *step.argv[1:]), companion, stack)
        end = time.monotonic() + STEP_SECONDS
        while not child.wait(POLL_SECONDS):
            child.read_output()
            if time.monotonic() > end:
                raise _ended(companion, child, f"did not end within {STEP_SECONDS:g} s", step)
        if child.exit_status() != 0:
            raise _ended(companion, child, "failed", step)


def _empty(folder: Path) -> None:
    """Remove the files in *folder* that a failed step has left."""
    for path in folder.iterdir():
        if not is_folder(path):
            path.unlink()


def find_program(name: str) -> str | None:
    """Return the path of the program *name*, on PATH or where such programs are installed."""
    import shutil  # noqa: PLC0415 - brings compressors, which few VMs need

    folders = os.pathsep.join((os.environ.get("PATH", os.defpath), *LIBEXEC))
    return name if "/" in name else shutil.which(name, path=folders)


def _start(companion: Companion, stack: contextlib.ExitStack, fds: Mapping[str, int]) -> Child:
    program = find_program(companion.argv[0])
    if program is None:
        raise not_installed(companion.argv[0], companion)
    inherited = [fds[name] for name in companion.inherits]
    return _enter((program, *companion.argv[1:]), companion, stack, inherited, BLOCKED)


def _enter(
    argv: Sequence[str],
    companion: Companion,
    stack: contextlib.ExitStack,
    inherited: Sequence[int] = (),
    blocked: Sequence[signal.Signals] = (),
) -> Child:
    try:
        return stack.enter_context(start_child(argv, inherited, blocked=blocked))
    except QemuError as error:
        raise CompanionError(error.message, install_hint(companion), companion.key) from error


def _wait_for_socket(running: Running) -> None:
    companion, child = running.companion, running.child
    end = time.monotonic() + SOCKET_SECONDS
    while not is_listening(companion.socket):
        child.read_output()
        if child.wait(POLL_SECONDS):
            raise _ended(companion, child, "exited before it listened on its socket")
        if time.monotonic() > end:
            raise _ended(companion, child, f"does not listen after {SOCKET_SECONDS:g} s")


def is_listening(path: str) -> bool:
    """Say whether a process of this network namespace listens on the Unix socket *path*."""
    if not exists(path):
        return False
    with Path("/proc/net/unix").open(encoding="utf-8", errors="surrogateescape") as table:
        next(table)
        for line in table:
            columns = line.rstrip("\n").split(maxsplit=PATH_COLUMN)
            if len(columns) > PATH_COLUMN and columns[PATH_COLUMN] == path:
                return bool(int(columns[FLAGS_COLUMN], 16) & ACCEPTING)
    return False


def _ended(
    companion: Companion, child: Child, what: str, step: Step | None = None
) -> CompanionError:
    """Return an error about *child*, with its last words."""
    evidence = child.tail()
    name = Path(step.argv[0]).name if step else companion.name
    last = evidence.splitlines()[-1:]
    hint, status = f"it said: {last[0].strip()}" if last else "", ""
    if child.wait(0):
        number = child.exit_status()
        status = f": {describe_exit(number)}"
        hint = "; ".join(filter(None, (hint, explain_signal(number, child.pid, name))))
    return CompanionError(f"'{name}' {what}{status}", hint, companion.key, evidence)


def not_installed(program: str, companion: Companion, step: Step | None = None) -> CompanionError:
    """Return the error that *program*, needed by *companion* or its *step*, is missing."""
    return CompanionError(
        f"cannot start '{program}': it is not installed",
        install_hint(companion, step),
        companion.key,
    )


def install_hint(companion: Companion, step: Step | None = None) -> str:
    """Return which package has the program of *companion*, or of its *step*."""
    package = step.package if step else ""
    package = package or companion.package or Path(companion.argv[0]).name
    return f"install it; Debian's package is '{package}'"


def _ask_to_end(children: Sequence[Child]) -> None:
    if _wait_for_end(children, OWN_SECONDS):
        return
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(child.pidfd, signal.SIGINT)
    _wait_for_end(children, END_SECONDS)


def _wait_for_end(children: Sequence[Child], seconds: float) -> bool:
    """Wait at most *seconds* for the end of all; say whether all have ended."""
    end = time.monotonic() + seconds
    return all(child.wait(max(0.0, end - time.monotonic())) for child in children)


def _remove_socket(path: Path) -> None:
    """Remove the socket of a process that was killed."""
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()
