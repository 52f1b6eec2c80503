# SPDX-License-Identifier: LGPL-2.1-or-later
"""A `bpferry run` with a real QEMU, its helpers at sockets in the test's own folder."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bpferry.machine.control.running import find_running
from tests.client import guest
from tests.client.support import PATIENCE_S, wait_until

BASE = 'name = "t"\nmemory = "32 MiB"\naccelerator = "tcg"\n'
DISK = '[[serials]]\ntype = "stdio"\n[[disks]]\nfile = "disk.img"\nformat = "raw"\n'
BROKEN = 'qemu-arguments = ["-global", "nosuch"]\n'
CARD = '[[cards]]\ntap = "t0"\nqueues = 4\n'


class Run:
    """A running `bpferry run`, its output in files."""

    def __init__(self, folder: Path, process: "subprocess.Popen[bytes]") -> None:
        self.folder = folder
        self.process = process

    def out(self) -> str:
        """Return its standard output so far."""
        return (self.folder / "out").read_text(encoding="utf-8")

    def err(self) -> str:
        """Return its standard error so far."""
        return (self.folder / "err").read_text(encoding="utf-8")

    def qemu(self) -> int:
        """Return the process id of its QEMU, as soon as it runs and was not just started."""

        def found() -> bool:
            return bool(self._children()) and "starts with" in self.err()

        assert wait_until(found), self.err()
        return self._children()[0]

    def _children(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(word) for word in path.read_text(encoding="ascii").split()]

    def says(self, words: str) -> bool:
        """Wait until it says *words*, on either stream."""
        return wait_until(lambda: words in self.out() + self.err())

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def status(self) -> int:
        """Wait for its end, and return its exit status."""
        return self.process.wait(PATIENCE_S)


@contextlib.contextmanager
def start(
    folder: Path,
    text: str,
    *options: str,
    prefix: tuple[str, ...] = (),
    keyboard: int = subprocess.PIPE,
    writes: bool = True,
) -> Iterator[Run]:
    """Write *text* as a description, and run it with a pipe or the fd *keyboard* to type at.

    Its disk is there already unless this *writes* it.
    """
    (folder / "vm.toml").write_text(text, encoding="utf-8")
    if writes:
        guest.write_disk(folder / "disk.img")
    argv = [*prefix, sys.executable, "-m", "bpferry", "run", *options, str(folder / "vm.toml")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "BPFERRY_BPF_SOCKET": str(folder / "bpf.sock"),
        "BPFERRY_TAP_SOCKET": str(folder / "tap.sock"),
    }
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        process = subprocess.Popen(argv, stdin=keyboard, stdout=out, stderr=err, env=environment)
    try:
        yield Run(folder, process)
    finally:
        process.kill()
        process.communicate()


def state() -> str:
    """Return the state of the one VM as a list shows it; empty if none answers."""
    found = find_running()
    return str(found[0].summary.get("state", "")) if found else ""


def runs(run: Run) -> None:
    """Wait until its guest runs, and everything is known of it."""
    assert run.says("hello from the boot sector"), run.err()
    assert wait_until(lambda: state() == "running")


def type_in(run: Run, data: bytes) -> None:
    """Type *data* at its keyboard."""
    assert run.process.stdin is not None
    run.process.stdin.write(data)
    run.process.stdin.flush()
