# SPDX-License-Identifier: LGPL-2.1-or-later
"""What it means if a signal ends QEMU, or a process beside it."""

import signal
from collections.abc import Mapping
from typing import Final

FAULT: Final = (
    "that is a bug in {name} or in a library that it uses: try another version, and report it; "
    "'coredumpctl info {pid}' says where it happened, if systemd-coredump is installed"
)

MEANINGS: Final[Mapping[int, str]] = {
    signal.SIGKILL: (
        "another process did that, or the kernel (the OOM killer) since memory ran out: "
        "'journalctl -k' or 'dmesg' then has 'Killed process {pid}', and the VM needs less memory, "
        "or what it runs in needs more: the host, a container, a job (--mem)"
    ),
    signal.SIGSEGV: FAULT,
    signal.SIGABRT: FAULT,
    signal.SIGILL: FAULT,
    signal.SIGFPE: FAULT,
    signal.SIGBUS: (
        "the host had no page left for the guest's memory (huge pages, or a full /dev/shm), or "
        "an image became shorter while it was used"
    ),
    signal.SIGSYS: (
        "its own sandbox did that: it forbids a system call that {name} made; 'journalctl -k' has "
        "its number"
    ),
    signal.SIGXFSZ: "a file became larger than your session allows ('ulimit -f')",
}


def explain_signal(status: int, pid: int, name: str) -> str:
    """Return what it means that *status* ended the process *pid* of the program *name*.

    A signal is a negative status, as with ``Child.exit_status``. Empty if that is unclear.
    """
    return MEANINGS.get(-status, "").format(pid=pid, name=name) if status < 0 else ""
