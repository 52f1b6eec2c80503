# SPDX-License-Identifier: LGPL-2.1-or-later
"""Boot the host, run commands in it, and leave nothing behind.

QEMU emulates it whole. Its serial line is its console, which goes to a file; commands go over a
virtio serial port whose other end is ``inside/courier.py``. The host may restart; what it has
written to its disk is gone when it is taken down.
"""

import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.support.debian_folder import BUILD_SECONDS
from tests.support.old_qemu import old_qemu
from tests.vm.image import Image
from tests.vm.initrd import write_initrd

IN_THE_HOST: Final = (
    pytest.mark.system,
    pytest.mark.privileged,
    pytest.mark.guest,
    pytest.mark.slow,
    # The first test may have to wait for the image to be made, and for the host to boot.
    pytest.mark.timeout(2 * BUILD_SECONDS),
)
"""The marks of a test that needs the host."""

EMULATOR: Final = "11.1.3"
"""QEMU 10.0 loses interrupts of a host in which a VM runs: helper_vmrun(), in QEMU's
target/i386/tcg/system/svm_helper.c, changes interrupt_request without the lock that others hold,
which a later QEMU does atomically. The host then sleeps, or lets its VM spin, until a device has
something else to say. In 10.0.2, the third boot of a guest of two processors was such a one; in
this one, none of fifty was."""

PROCESSORS: Final = 1
"""With two, under QEMU 10.0, guests in there were seen to restart, after triple faults: about once
in ten."""

MEMORY_MIB: Final = 2048

SHARE: Final = "-10"
"""Its nice value among this machine's sessions (sched(7), autogroup). With an equal share beside
seven others, guests in there were not up after four minutes, and helpers missed their watchdog."""

ARGUMENTS: Final = (
    "console=ttyS0 root=/dev/vda rw fsck.mode=skip quiet panic=-1 "
    # An emulated processor has nothing to mitigate, and would be slower.
    "mitigations=off "
    # Nor does it test what the kernel has of cryptography.
    "cryptomgr.notests "
    "systemd.default_device_timeout_sec=300 "
    # The profiles of other packages: an emulated processor compiles them for a minute.
    "systemd.mask=apparmor.service "
    # No caches to renew, as after an upgrade.
    "systemd.condition_needs_update=0 "
    # No log-in on the console but what helpers say: a failed test shows it.
    "systemd.mask=serial-getty@ttyS0.service systemd.mask=getty@tty1.service "
    "systemd.journald.forward_to_console=1 systemd.show_status=false"
)

BOOT_SECONDS: Final = 480
"""It takes 25 on an idle machine, and 160 on one with six other jobs."""

RESTART_SECONDS: Final = BOOT_SECONDS + 300
"""With what the systemd of a user and its VMs take to stop."""

GRACE_SECONDS: Final = 15
"""The courier ends a command by itself; this is how long it may take to say so."""

SHOWN_LINES: Final = 40
READ_BYTES: Final = 64 << 10


class HostFailed(Exception):  # noqa: N818
    """The host is gone, or is silent; the message ends with the last lines of its console."""


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a command."""

    status: int
    output: str
    errors: str


@dataclass(slots=True)
class Host:
    """A booted host. Borrows the socket to its courier."""

    _line: socket.socket
    _log: Path
    _pending: bytes = b""
    _asked: int = 0

    def run(self, *command: str, user: str = "root", text: str = "", timeout: float = 300) -> Done:
        """Run *command* inside, with *text* as its input, and return what came of it.

        Raises:
            HostFailed: the host does not say.
        """
        self._send(command, user, text, timeout)
        return self.wait(self._asked, timeout + GRACE_SECONDS)

    def _send(self, command: Sequence[str], user: str, text: str, timeout: float) -> None:
        self._asked += 1
        request = {"id": self._asked, "argv": command, "user": user, "input": text}
        self._line.settimeout(GRACE_SECONDS)
        self._line.sendall(json.dumps(request | {"timeout": timeout}).encode() + b"\n")

    def check(self, *command: str, user: str = "root", text: str = "", timeout: float = 300) -> str:
        """Run *command* inside and return its output; anything but success fails the test."""
        done = self.run(*command, user=user, text=text, timeout=timeout)
        assert done.status == 0, f"{command}: {done.status}\n{done.output}{done.errors}"
        return done.output.strip()

    def wait(self, number: int, timeout: float) -> Done:
        """Return the answer with this *number*, which may take *timeout* seconds; 0 is the first.

        Raises:
            HostFailed: it does not come.
        """
        deadline = time.monotonic() + timeout
        while True:
            while b"\n" in self._pending:
                line, _, self._pending = self._pending.partition(b"\n")
                answer = json.loads(line)
                if answer["id"] == number:
                    return Done(answer["status"], answer["output"], answer["errors"])
                if answer["id"] == 0:
                    raise HostFailed(f"the host has restarted\n{self.console()}")
            self._receive(deadline)

    def _receive(self, deadline: float) -> None:
        self._line.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            received = self._line.recv(READ_BYTES)
        except OSError as error:
            raise HostFailed(f"the host does not answer: {error}\n{self.console()}") from error
        if not received:
            raise HostFailed(f"the host is gone\n{self.console()}")
        self._pending += received

    def restart(self) -> None:
        """Shut the host down as an administrator does, and return when it is up again.

        Raises:
            HostFailed: it does not come back.
        """
        # It may go down before its courier has answered.
        self._send(["systemctl", "reboot"], "root", "", RESTART_SECONDS)
        self.wait(0, RESTART_SECONDS)

    def write(self, path: str, text: str) -> None:
        """Write *text* into a file inside, as root, readable by everybody."""
        self.check("tee", path, text=text)

    def console(self) -> str:
        """Return the last lines of the host's console."""
        lines = self._log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-SHOWN_LINES:])


@contextmanager
def boot(image: Image, freight: Path, log: Path) -> Iterator[Host]:
    """Boot *image* with *freight* as its second disk, and end it. The console goes to *log*.

    Other files are made beside that.
    """
    emulator = old_qemu(log.parent, EMULATOR)
    initrd = None
    if image.first is not None:
        initrd = log.with_name("initrd")
        write_initrd(initrd, image.first)
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            qemu = subprocess.Popen(
                [emulator, *_arguments(image, initrd, freight, log, theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            take_more_than_an_equal_share(qemu.pid)
            host = Host(ours, log)
            host.wait(0, BOOT_SECONDS)
            yield host
        finally:
            qemu.send_signal(signal.SIGKILL)
            qemu.wait()


def take_more_than_an_equal_share(pid: int) -> None:
    """Let the session of *pid* go before others. A kernel without autogroups knows none."""
    with suppress(FileNotFoundError):
        Path(f"/proc/{pid}/autogroup").write_text(SHARE)


def _arguments(
    image: Image, initrd: Path | None, freight: Path, log: Path, courier: int
) -> list[str]:
    drive = "format=raw,if=virtio,snapshot=on"
    return [
        "-machine", "q35", "-accel", "tcg,thread=multi",
        # With AMD's virtualization, which QEMU emulates: the kvm_amd module works in there. Page
        # tables of four levels: five cost time and are of no use here.
        "-cpu", "max,la57=off",
        "-smp", str(PROCESSORS), "-m", str(MEMORY_MIB),
        "-nodefaults", "-no-user-config", "-display", "none",
        "-kernel", str(image.kernel), "-append", ARGUMENTS,
        *(() if initrd is None else ("-initrd", str(initrd))),
        "-drive", f"file={image.disk},{drive}",
        "-drive", f"file={freight},{drive}",
        "-serial", f"file:{log}",
        "-device", "virtio-serial-pci",
        "-chardev", f"socket,id=courier,fd={courier}",
        "-device", "virtserialport,chardev=courier,name=courier",
    ]  # fmt: skip
