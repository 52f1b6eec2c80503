# SPDX-License-Identifier: LGPL-2.1-or-later
"""A person at a terminal: a pseudo-terminal with one command of bpferry on it."""

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from bpferry.errors import BpferryError
from bpferry.machine.control.running import connect
from tests.client import guest
from tests.client.support import PATIENCE_S, wait_until

VM: Final = """\
name = "{name}"
memory = "32 MiB"
accelerator = "tcg"
[[serials]]
type = "stdio"
[[disks]]
file = "disk.img"
format = "raw"
"""


class Person:
    """Sees all that is on the terminal, also what bpferry says, and types."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", main: int, line: int, before: list[object]
    ) -> None:
        self.process = process
        self.line = line
        """The terminal's own end."""
        self.before = before
        """Its mode before anything ran on it."""
        self._main = main
        self._seen = bytearray()
        self._reading = threading.Event()
        self._reading.set()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._ended = False
        self._reader.start()

    def _read(self) -> None:
        while not self._ended:
            self._reading.wait()
            poll = select.poll()
            poll.register(self._main, select.POLLIN)
            if not poll.poll(50):
                continue
            try:
                self._seen += os.read(self._main, 65536)
            except OSError:
                return

    def look_away(self) -> None:
        """Read nothing from now on, so that the terminal takes no more."""
        self._reading.clear()

    def look_again(self) -> None:
        """Read what has come meanwhile, and go on."""
        self._reading.set()

    def seen(self) -> bytes:
        """Return all that has been on the terminal."""
        return bytes(self._seen)

    def sees(self, words: bytes, seconds: float = PATIENCE_S) -> bool:
        """Wait until *words* are on the terminal."""
        return wait_until(lambda: words in self._seen, seconds)

    def types(self, keys: bytes) -> None:
        """Press *keys*."""
        os.write(self._main, keys)

    def mode(self) -> list[object]:
        """Return how the terminal handles keys now."""
        return list(termios.tcgetattr(self.line))

    def hang_up(self) -> None:
        """Close the terminal, as when its window or an ssh connection is closed."""
        self._stop_reading()
        os.close(self.line)
        os.close(self._main)
        self._main = self.line = -1

    def status(self) -> int:
        """Wait for the command's end, and return its exit status."""
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        """Kill the command, and put the terminal away."""
        self.process.kill()
        self.process.wait()
        self._stop_reading()
        for fd in (self._main, self.line):
            if fd >= 0:
                os.close(fd)

    def _stop_reading(self) -> None:
        self._ended = True
        self._reading.set()
        self._reader.join()


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **more}


@contextlib.contextmanager
def at_terminal(*command: str, **environment: str) -> Iterator[Person]:
    """Run `bpferry COMMAND` on a terminal of its own."""
    main, line = pty.openpty()
    before: list[object] = list(termios.tcgetattr(line))
    argv = ("setsid", "--ctty", "--wait", sys.executable, "-m", "bpferry", *command)
    process = subprocess.Popen(
        argv[:2] + argv[3:], stdin=line, stdout=line, stderr=line, env=_environment(environment)
    )
    person = Person(process, main, line, before)
    try:
        yield person
    finally:
        person.close()


def bpferry(*command: str, typed: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    """Run `bpferry COMMAND` without a terminal, with *typed* piped in, and return its output."""
    return subprocess.run(
        [sys.executable, "-m", "bpferry", *command],
        input=typed,
        capture_output=True,
        env=_environment({}),
        timeout=60,
        check=True,
    )


@contextlib.contextmanager
def vm_file(folder: Path, text: str = VM) -> Iterator[tuple[str, str]]:
    """Write the description of a VM, and give its path and name; end the VM with the block."""
    name = f"t{os.getpid()}"
    guest.write_disk(folder / "disk.img")
    file = folder / "vm.toml"
    file.write_text(text.format(name=name), encoding="utf-8")
    try:
        yield str(file), name
    finally:
        end(name)


@contextlib.contextmanager
def background_vm(folder: Path, text: str = VM) -> Iterator[str]:
    """Run a VM without a terminal, as a unit does, and give its name."""
    with vm_file(folder, text) as (file, name):
        process = subprocess.Popen(
            [sys.executable, "-m", "bpferry", "run", file],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=_environment({}),
        )
        try:
            assert wait_until(lambda: is_running(name), 60)
            yield name
        finally:
            end(name)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()


def is_running(name: str) -> bool:
    """Say whether the guest of the VM *name* runs."""
    try:
        with connect(name) as control:
            return control.ask("summary")["state"] == "running"
    except BpferryError:
        return False


def supervisor_of(name: str) -> int:
    """Return the process that is QEMU's parent."""
    with connect(name) as control:
        return int(str(control.ask("summary")["pid"]))


def end(name: str) -> None:
    """End the VM, if it runs."""
    with contextlib.suppress(BpferryError), connect(name) as control:
        pid = int(str(control.ask("summary")["pid"]))
        control.ask("stop", force=True)
        if not control.wait_for_end(10):
            os.kill(pid, signal.SIGKILL)
