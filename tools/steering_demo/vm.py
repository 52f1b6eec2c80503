# SPDX-License-Identifier: LGPL-2.1-or-later
"""``bpferry run`` as the user, and the guest's console."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from guest.build import Guest
from guest.command import GuestError
from guest.console import Console
from guest.netns import Namespace
from steering_demo.workplace import Workplace

QUEUES: Final = 4
MEMORY_MIB: Final = 256
POWERDOWN_S: Final = 20.0

DESCRIPTION: Final = """\
name = "bpferry-demo"
memory = "{memory} MiB"
vcpus = {queues}
accelerator = "tcg"
kernel = "{kernel}"
initrd = "{initrd}"
command-line = "console=ttyS0 quiet"
require-ebpf = true

[[serials]]
type = "stdio"

[[cards]]
tap = "{tap}"
queues = {queues}
rss = true
"""


@dataclass(frozen=True, slots=True)
class Vm:
    """A running VM. Borrows its process."""

    console: Console
    process: subprocess.Popen[bytes]
    """bpferry, QEMU's parent."""

    def wait(self) -> None:
        """Wait until the guest has gone down and bpferry has ended with status 0.

        Raises:
            GuestError: it did not, or said that something went wrong.
        """
        try:
            status = self.process.wait(POWERDOWN_S)
        except subprocess.TimeoutExpired as error:
            raise GuestError(f"the guest did not go down in {POWERDOWN_S:g} s") from error
        if status != 0:
            raise GuestError(f"bpferry ended with status {status}")

    def qemu_pid(self) -> int:
        """Return the process id of QEMU, the one child of bpferry."""
        pid = self.process.pid
        (qemu,) = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        return int(qemu)


def write_description(place: Workplace, guest: Guest, tap: str) -> Path:
    """Write the VM's description where the user can read it, and return its path."""
    path = place.folder / "demo.toml"
    path.write_text(
        DESCRIPTION.format(
            memory=MEMORY_MIB, queues=QUEUES, kernel=guest.kernel, initrd=guest.initrd, tap=tap
        ),
        encoding="utf-8",
    )
    return path


@contextmanager
def running_vm(place: Workplace, space: Namespace, description: Path) -> Iterator[Vm]:
    """Start the VM in *space* as the user, and end it."""
    environment = [
        f"PYTHONPATH={place.python_path('client', 'shared')}",
        f"BPFERRY_BPF_SOCKET={place.socket}",
    ]
    run = [sys.executable, "-B", "-m", "bpferry", "run", str(description)]
    argv = space.command(["env", *environment, *run], user=place.user_uid)
    with place.log("bpferry").open("wb") as log:
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd="/"
        )
    try:
        assert process.stdin is not None  # noqa: S101 - asked for above
        assert process.stdout is not None  # noqa: S101 - asked for above
        yield Vm(Console(process.stdout, process.stdin), process)
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask bpferry to end the VM, as Ctrl-C twice does; kill it if it does not obey."""
    for number in (signal.SIGINT, signal.SIGINT, signal.SIGKILL):
        try:
            process.wait(timeout=POWERDOWN_S if number == signal.SIGKILL else 1.0)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
    process.communicate()


def said(place: Workplace) -> str:
    """Return what bpferry and QEMU wrote to standard error."""
    log = place.log("bpferry")
    return log.read_text(errors="replace") if log.exists() else "nothing: it was not started"
