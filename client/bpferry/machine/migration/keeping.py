# SPDX-License-Identifier: LGPL-2.1-or-later
"""What keeps a VM that has arrived, when the ssh connection that brought it is closed.

A service of the user's own systemd does not belong to the session of that connection, and is asked
to stop when the host shuts down. It is used if that systemd runs without a session (lingering);
otherwise it would end some seconds after ssh, and the VM with it. Without it, the supervisor is a
process in a session of its own, as ``setsid`` makes one. It goes on after ssh, unless the
administrator lets logind kill what a session leaves behind (KillUserProcesses= of logind.conf(5)).

The process that ssh has started stays in front of either until the VM has arrived, since sshd
closes the connection when it ends.
"""

import contextlib
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bpferry.machine.folders import folder_name
from bpferry.machine.user_manager import has_linger

PASSED_ON: Final = ("BPFERRY_", "XDG_", "PYTHON", "PATH", "HOME", "LANG", "LC_")
"""How the variables begin that the service gets from us; a systemd may have others."""

PROPERTIES: Final = ("KillMode=mixed", "TimeoutStopSec=infinity", "OOMPolicy=continue")
"""As in bpferry@.service; our own time limit for the guest holds, of which systemd does not know
here."""


@dataclass(frozen=True, slots=True)
class Keeper:
    """The one of this process."""

    words: str
    front: int
    """A pidfd of the process in front, which is ours."""

    def let_go(self) -> None:
        """End the process in front, and with it the connection."""
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(self.front, signal.SIGTERM)
        os.close(self.front)


def service_argv(vm_name: str) -> tuple[str, ...] | None:
    """Return what makes a service of ``bpferry receive`` for the VM, or None if there is none.

    It becomes the process in front: the same process as this one.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    program = shutil.which("systemd-run")
    if program is None or not Path(runtime, "systemd/private").exists() or not _lingers():
        return None
    variables = (
        f"--setenv={name}={value}"
        for name, value in sorted(os.environ.items())
        if name.startswith(PASSED_ON)
    )
    return (
        program, "--user", "--pipe", "--quiet", "--collect",
        f"--unit={unit_of(vm_name)}",
        f"--description=VM '{vm_name}' of bpferry, which came from another host",
        *(f"--property={one}" for one in PROPERTIES),
        *variables,
        "--", *_ourselves(), "receive", f"--front={os.getpid()}", "--", vm_name,
    )  # fmt: skip


def unit_of(vm_name: str) -> str:
    """Return the unit of a VM that has arrived."""
    return f"bpferry-arrived-{folder_name(vm_name)}.service"


def fork_off() -> int:
    """Fork, and go on in a session of its own; return the process in front, which stays behind.

    That one ends with our status, or with 0 when we let go of it. Nothing may have made a thread.
    """
    front = os.getpid()
    child = os.fork()
    if child == 0:
        os.setsid()
        return front
    for number in (signal.SIGINT, signal.SIGHUP):
        # We notice by the closed connection that the source has left.
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(status if status >= 0 else 128 - status)


def _ourselves() -> tuple[str, ...]:
    """Return how we were started, without the command line of bpferry."""
    words = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1]
    return (sys.executable, *words[1:])


def _lingers() -> bool:
    try:
        return has_linger()
    except (KeyError, OSError):
        return False  # A user without a name.
