# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two hosts on one: each is a folder for all that a user has, and a stand-in for ssh between them.

Their disks are shared, as in the real world.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.client import guest
from tests.client.migration import ssh
from tests.client.running import BASE, DISK, Run, start
from tests.client.support import wait_until

PATIENCE_S = 120.0


class Hosts:
    """The host "here", where a VM runs, and the host "there"."""

    def __init__(self, folder: Path, run: Run) -> None:
        self.folder = folder
        self.run = run
        self.there = folder / "there"

    def command(self, *words: str, there: bool = False, **stand_in: str) -> dict[str, Any]:
        """Return how `bpferry` with *words* is started at one of them, for Popen."""
        place = self.there if there else self.folder
        environment = {
            **os.environ,
            **dict.fromkeys(("HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"), str(place)),
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(sys.path),
            "BPFERRY_BPF_SOCKET": str(place / "bpf.sock"),
            "BPFERRY_TAP_SOCKET": str(place / "tap.sock"),
            "STAND_IN_FOLDER": str(self.there),
            **{f"STAND_IN_{name.upper()}": value for name, value in stand_in.items()},
        }
        return {"args": [sys.executable, "-m", "bpferry", *words], "env": environment, "text": True}

    def ask(self, *words: str, there: bool = False) -> "subprocess.CompletedProcess[str]":
        """Do `bpferry` with *words* at one of them."""
        how = self.command(*words, there=there)
        return subprocess.run(**how, capture_output=True, check=False, timeout=PATIENCE_S)

    def migrate(self, *options: str, **stand_in: str) -> "subprocess.CompletedProcess[str]":
        """Do `bpferry migrate`, and return what it says."""
        words = ("migrate", *options, "t", "ssh://alice@beta:2222")
        how = self.command(*words, there=False, **stand_in)
        return subprocess.run(**how, capture_output=True, check=False, timeout=PATIENCE_S)

    @contextlib.contextmanager
    def migrating(self, hold: str) -> Iterator["subprocess.Popen[str]"]:
        """Begin a move that waits on its way once *hold* has passed."""
        how = self.command("migrate", "t", "ssh://beta", hold=hold)
        with subprocess.Popen(**how, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            try:
                assert wait_until((self.there / "held").exists, PATIENCE_S)
                yield process
            finally:
                (self.there / "go").touch()

    def state(self, *, there: bool = False) -> str:
        """Return the state of the VM at one of them; empty if there is none."""
        listed = json.loads(self.ask("list", "--json", there=there).stdout)["vms"]
        return str(listed[0]["state"]) if listed else ""

    def qemu_there(self) -> int:
        """Return the process of QEMU there, which may not run the guest yet."""
        (vm,) = json.loads(self.ask("list", "--json", there=True).stdout)["vms"]
        return int(vm["qemu_pid"])

    def processes_there(self) -> list[int]:
        """Return all processes that belong there."""
        mark = f"XDG_RUNTIME_DIR={self.there}\0".encode()
        found = []
        for path in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                if mark in (path / "environ").read_bytes():
                    found.append(int(path.name))
        return found

    def left_there(self) -> list[str]:
        """Return what there is of the VM there, but for what was said about it."""
        files = (str(path.relative_to(self.there)) for path in self.there.glob("bpferry/**/*"))
        return [file for file in files if not re.fullmatch(r"bpferry/t(/log)?", file)]

    def check_nothing_is_there(self) -> None:
        """Fail unless nothing of the VM is there."""
        assert wait_until(lambda: not self.processes_there(), PATIENCE_S), self.log()
        assert self.left_there() == []

    def log(self) -> str:
        """Return what was said about the VM there."""
        path = self.there / "bpferry/t/log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def answers(self, data: str) -> bool:
        """Type *data* at the guest here, and say whether it answers."""
        assert self.run.process.stdin is not None
        self.run.process.stdin.write(data.encode())
        self.run.process.stdin.flush()
        return self.run.says(data)


@contextlib.contextmanager
def hosts(folder: Path, text: str = "") -> Iterator[Hosts]:
    """Run a VM here, as soon as its guest has greeted; end everything afterwards."""
    (folder / "there").mkdir()
    (folder / "bin").mkdir()
    program = folder / "bin/ssh"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {ssh.__file__} "$@"\n')
    program.chmod(0o755)
    guest.write_disk(folder / "disk.img")
    with start(folder, BASE + text + DISK, writes=False) as run:
        both = Hosts(folder, run)
        assert run.says("hello from the boot sector"), run.err()
        assert wait_until(lambda: both.state() == "running", PATIENCE_S)
        try:
            yield both
        finally:
            for pid in both.processes_there():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
