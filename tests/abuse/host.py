# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host with both real helpers, on which users run VMs with ``bpferry``, each a real QEMU.

It is the host of ``running_tap_helper``: a network namespace with a bridge. The guests do nothing,
and cost nothing: their firmware is one instruction that halts the processor.
"""

import atexit
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from bpferry_wire.messages import Quota, QuotaReply
from tests.client.hot_plug.vm import NATIVE
from tests.client.migration import ssh
from tests.support.census import Held, held_through, wait_until
from tests.support.helper_process import REPOSITORY, HelperProcess, installed, running_helper
from tests.support.people import ALICE, BOB, ROOT, Person, ask_once
from tests.support.tap_process import TapProcess, running_tap_helper

USERS: Final = (ALICE, BOB)
QUEUES: Final = 4
PATIENCE_S: Final = 60.0

HALT: Final = b"\xf4\xeb\xfd"
"""hlt, and again should anything wake it."""
RESET_VECTOR: Final = 0xFFF0
FIRMWARE_BYTES: Final = 0x10000
"""Where a PC begins, and the least that QEMU takes for a BIOS."""

FOLDERS: Final = (
    "HOME",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "XDG_RUNTIME_DIR",
)

DESCRIPTION: Final = """\
name = "{name}"
memory = "16 MiB"
vcpus = 4
accelerator = "tcg"
require-ebpf = true
qemu-arguments = {arguments}
"""

CARD: Final = f'[[cards]]\nbridge = "br0"\nqueues = {QUEUES}\nrss = true\n'


@cache
def client() -> Path:
    """Return a folder with the client, compiled, that any user can read."""
    folder = Path(tempfile.mkdtemp(prefix="bpferry-test-client-", dir="/run"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "client/bpferry", folder / "bpferry", ignore=ignore)
    shutil.copy(ssh.__file__, folder / "ssh.py")
    subprocess.run([sys.executable, "-I", "-m", "compileall", "-q", folder], check=True)
    return folder


class Holding(NamedTuple):
    """What one process has open of what the helpers grant."""

    sets: frozenset[Held]
    queues: Counter[str]
    """How many of each tap."""


class VmHost:
    """See the module's docstring. Made by ``vm_host``."""

    def __init__(self, bpf: HelperProcess, tap: TapProcess) -> None:
        self.bpf = bpf
        self.tap = tap
        self._folder = tap.folder
        self._started: list[subprocess.Popen[bytes]] = []
        firmware = bytearray(FIRMWARE_BYTES)
        firmware[RESET_VECTOR : RESET_VECTOR + len(HALT)] = HALT
        (self._folder / "firmware").write_bytes(firmware)
        (self._folder / "bin").mkdir()
        for person in USERS:
            self.home(person).mkdir(mode=0o700)
            os.chown(self.home(person), person.uid, person.gid)

    def home(self, person: Person) -> Path:
        """Return the folder for all that *person* has."""
        return self._folder / f"home-{person.uid}"

    def reaches(self, other: "VmHost") -> None:
        """Let ssh of this host's users end up on the *other* host."""
        script = self._folder / "bin/ssh"
        there = " ".join(f'{name}="{path}"' for name, path in other._sockets().items())
        home = f"STAND_IN_FOLDER={other._folder}/home-$(id -u)"
        script.write_text(
            f'#!/bin/sh\nexec env {there} {home} {sys.executable} {client()}/ssh.py "$@"\n'
        )
        script.chmod(0o755)

    def _sockets(self) -> dict[str, Path]:
        return {"BPFERRY_BPF_SOCKET": self.bpf.path, "BPFERRY_TAP_SOCKET": self.tap.path}

    def describe(self, person: Person, name: str, cards: int = 1) -> Path:
        """Write a VM with *cards* cards, each with a tap and a set, and return its path."""
        path = self._folder / f"{name}.toml"
        words = json.dumps([*NATIVE, "-bios", str(self._folder / "firmware")])
        path.write_text(DESCRIPTION.format(name=name, arguments=words) + CARD * cards)
        os.chown(path, person.uid, person.gid)
        return path

    def command(self, person: Person, *words: str) -> list[str]:
        """Return ``bpferry`` with *words* as a command of *person*."""
        environment = [
            *(f"{name}={self.home(person)}" for name in FOLDERS),
            f"PYTHONPATH={client()}:{installed()}",
            # Compiled byte code lies beside the modules, and a user cannot write any.
            "PYTHONPYCACHEPREFIX=",
            f"PATH={self._folder}/bin:{os.environ['PATH']}",
            *(f"{name}={path}" for name, path in self._sockets().items()),
        ]
        user = ["setpriv", f"--reuid={person.uid}", f"--regid={person.gid}", "--clear-groups"]
        program = [sys.executable, "-B", "-m", "bpferry"]
        return self.tap.command(*user, "env", *environment, *program, *words)

    def ask(self, person: Person, *words: str) -> "subprocess.CompletedProcess[str]":
        """Do it, and return what it says."""
        return subprocess.run(
            self.command(person, *words),
            check=False, capture_output=True, text=True, timeout=PATIENCE_S, cwd="/",
        )  # fmt: skip

    def start(self, person: Person, name: str, cards: int = 1) -> "subprocess.Popen[bytes]":
        """Begin to run a VM. What it says is in ``said``."""
        words = ("run", str(self.describe(person, name, cards)))
        with self._log(name).open("wb") as log:
            process = subprocess.Popen(
                self.command(person, *words),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
            )  # fmt: skip
        self._started = [one for one in self._started if one.poll() is None]
        self._started.append(process)
        return process

    def end(self) -> None:
        """Kill all processes of users that are left."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self._started:
            process.kill()
            process.wait()
        assert wait_until(lambda: not self.processes(), PATIENCE_S)

    def said(self, name: str) -> str:
        """Return what the last run of the VM *name* has said."""
        return self._log(name).read_text(errors="replace")

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def held(self, person: Person) -> tuple[int, int]:
        """Return how many sets and taps the helpers say that *person* holds."""
        return _quota(self.bpf, person).held, _quota(self.tap, person).held

    def held_by_all(self) -> tuple[int, int]:
        """Return how many all users together hold, as the helpers say."""
        return _quota(self.bpf).held_by_all, _quota(self.tap).held_by_all

    def processes(self) -> list[int]:
        """Return the processes of all users of this host."""
        network = Path(f"/proc/{self.tap.holder}/ns/net").readlink()
        uids = {person.uid for person in USERS}
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                uid = int((path / "status").read_text().partition("\nUid:\t")[2].split()[0])
                if uid in uids and (path / "ns/net").readlink() == network:
                    found.append(int(path.name))
        return found


def _quota(helper: HelperProcess, person: Person = ROOT) -> QuotaReply:
    reply = ask_once(helper.path, Quota(), person).reply
    assert isinstance(reply, QuotaReply), reply
    return reply


def qemu_of(client: int) -> int | None:
    """Return the QEMU that the process *client* of ``bpferry run`` has started."""
    with suppress(OSError):
        for child in Path(f"/proc/{client}/task/{client}/children").read_text().split():
            if Path(f"/proc/{child}/comm").read_text().startswith("qemu-system"):
                return int(child)
    return None


def holding_of(pid: int) -> Holding:
    """Return what *pid* holds; nothing once it has ended."""
    sets: set[Held] = set()
    queues: Counter[str] = Counter()
    with suppress(OSError):
        for path in Path(f"/proc/{pid}/fdinfo").iterdir():
            info = path.read_text()
            sets |= held_through(info)
            queues.update(re.findall(r"^iff:\s*(\S+)$", info, re.MULTILINE))
    return Holding(frozenset(sets), queues)


@contextmanager
def vm_host(policy: str) -> Iterator[VmHost]:
    """Run both helpers with *policy*; afterwards no process of a user is left."""
    with running_helper(policy) as bpf, running_tap_helper(policy) as tap:
        host = VmHost(bpf, tap)
        try:
            yield host
        finally:
            host.end()
