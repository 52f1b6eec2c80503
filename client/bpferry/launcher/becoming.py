# SPDX-License-Identifier: LGPL-2.1-or-later
"""Become a program: the same process, with the launcher's fds, environment and signals.

What Python changed in its own process is undone first: it ignores two signals, and may have set
LC_CTYPE (PEP 538), which the kernel's copy of our first environment does not have.

This module imports nothing of ours, and little else: it is on the way of a start that changes
nothing.
"""

import contextlib
import errno
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
"""The statuses of a shell that cannot start a program (POSIX, Shell Command Language, 2.8.2)."""


def find_program(name: str) -> str | None:
    """Return the path of the program *name*, as a shell looks for it; None if there is none.

    A name with a slash is a path, whether anything is there or not.
    """
    if "/" in name:
        return name
    paths = (os.path.join(folder, name) for folder in os.get_exec_path())  # noqa: PTH118 - as text
    return next((path for path in paths if _is_program(path)), None)


def _is_program(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)  # noqa: PTH113 - as above


def become(
    path: str,
    argv: Sequence[str],
    *,
    passed: Iterable[int] = (),
    closed: Iterable[int] = (),
) -> OSError:
    """Become the program at *path*, or return why that is not possible.

    Args:
        path: of the program.
        argv: its arguments, its own name first.
        passed: fds of ours that it gets.
        closed: fds of the launcher's that it does not get.
    """
    for fd in passed:
        os.set_inheritable(fd, True)  # noqa: FBT003 - its only form
    for fd in closed:
        # One that the launcher named and did not open is closed already.
        with contextlib.suppress(OSError):
            os.set_inheritable(fd, False)  # noqa: FBT003 - as above
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))
    try:
        os.execve(path, list(argv), first_environment())  # noqa: S606 - that is what exec is for
    except (OSError, ValueError) as error:
        # A word with a NUL cannot come from a command line.
        return error if isinstance(error, OSError) else OSError(errno.EINVAL, str(error))


def first_environment() -> Mapping[bytes, bytes]:
    """Return the environment that this process was started with."""
    try:
        with open("/proc/self/environ", "rb") as file:  # noqa: PTH123 - as above
            entries = file.read().split(b"\0")
    except OSError:
        return os.environb
    pairs = (entry.partition(b"=") for entry in entries if b"=" in entry[1:])
    return {name: value for name, _, value in pairs}


def status_of(error: OSError) -> int:
    """Return the exit status of a shell that could not start a program because of *error*."""
    return NOT_FOUND if error.errno == errno.ENOENT else NOT_EXECUTABLE
