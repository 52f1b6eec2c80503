# SPDX-License-Identifier: LGPL-2.1-or-later
"""``bpferry run`` as the user, and the guests' consoles."""

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from guest.build import KERNEL_ARGUMENTS, Guest
from guest.command import GuestError
from guest.console import Console
from guest.netns import Namespace
from steering_demo.stations import MTU, Station
from steering_demo.workplace import BRIDGE, Workplace

MEMORY_MIB: Final = 256
POWERDOWN_S: Final = 20.0

FOLDERS: Final = (
    "HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME",
    "XDG_RUNTIME_DIR",
)  # fmt: skip
"""Where a user's programs store things. The variables that we got may be root's."""

WITHOUT_A_CARD: Final = f"""\
name = "{{station.name}}"
memory = "{{memory}} MiB"
vcpus = {{station.queues}}
accelerator = "tcg"
kernel = "{{guest.kernel}}"
initrd = "{{guest.initrd}}"
command-line = "{KERNEL_ARGUMENTS}"

[[serials]]
type = "stdio"
"""

DESCRIPTION: Final = f"""\
require-ebpf = true
{WITHOUT_A_CARD}
[[cards]]
bridge = "{{bridge}}"
mac = "{{station.mac}}"
mtu = {{mtu}}
queues = {{station.queues}}
rss = true
"""


class Machine(Protocol):
    """A VM whose guest answers, and whose QEMU can be looked into, whoever started it."""

    @property
    def console(self) -> Console:
        """The guest's."""

    def qemu_pid(self) -> int:
        """Return the process id of its QEMU."""


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


def client(
    place: Workplace, space: Namespace, arguments: Sequence[str], variables: Sequence[str] = ()
) -> list[str]:
    """Return ``bpferry`` with *arguments* as a command in *space*, run as the user.

    *variables*, such as "NAME=value", replace those that are set here.
    """
    environment = [
        f"PYTHONPATH={place.python_path('client', 'shared')}",
        f"BPFERRY_BPF_SOCKET={place.socket('bpf')}",
        f"BPFERRY_TAP_SOCKET={place.socket('tap')}",
        *(f"{name}={place.home}" for name in FOLDERS),
        *variables,
    ]
    program = [sys.executable, "-B", "-m", "bpferry"]
    return space.command(["env", *environment, *program, *arguments], user=place.user_uid)


def write_description(place: Workplace, guest: Guest, station: Station, text: str) -> Path:
    """Fill in *text*, write it where the user can read it, and return its path."""
    path = place.folder / f"{station.name}.toml"
    filled = text.format(station=station, memory=MEMORY_MIB, guest=guest, bridge=BRIDGE, mtu=MTU)
    path.write_text(filled, encoding="utf-8")
    return path


@contextmanager
def running_vm(
    place: Workplace, space: Namespace, guest: Guest, station: Station, text: str = DESCRIPTION
) -> Iterator[Vm]:
    """Start the VM of *station* in *space* as the user, as *text* describes it, and end it."""
    argv = client(place, space, ["run", str(write_description(place, guest, station, text))])
    with started_vm(argv, place.log(station.name)) as machine:
        yield machine


@contextmanager
def started_vm(argv: Sequence[str], said: Path) -> Iterator[Vm]:
    """Start a VM by *argv*, whose standard error goes to the file *said*, and end it."""
    with said.open("wb") as log:
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
    """Ask bpferry to end the VM, as two Ctrl-C do; kill it if it does not."""
    for number in (signal.SIGINT, signal.SIGINT, signal.SIGKILL):
        try:
            process.wait(timeout=POWERDOWN_S if number == signal.SIGKILL else 1.0)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
    process.communicate()


def said(place: Workplace, station: Station) -> str:
    """Return what bpferry and QEMU wrote to standard error."""
    log = place.log(station.name)
    return log.read_text(errors="replace") if log.exists() else "nothing: it was not started"
