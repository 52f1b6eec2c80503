# SPDX-License-Identifier: LGPL-2.1-or-later
"""What it costs to have a VM looked after, each step compared with a rival.

    run       ``bpferry run`` until the guest runs (READY=1 to NOTIFY_SOCKET); compared with a bare
              QEMU with the same command line until QMP says ``running``
    virsh     ``virsh start`` in session mode of the same VM, if libvirt is installed: of an
              ordinary user, since root has no session mode, and of a daemon that runs already
    listing   ``bpferry list`` as a process with 20 VMs; compared with a Python process that does
              nothing
    request   one request to a running VM

and of an idle supervisor its resident memory, and how often it wakes up in ten seconds.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.command import BenchError, run
from benchmarks.domains import end_domain
from benchmarks.figures import KIB_PER_MIB, Verdict, over_ms, percentile, to_ms, to_times
from benchmarks.interrupts import Interrupts
from benchmarks.progress import show_progress
from benchmarks.report import WITHOUT_LIBVIRT, object_of, table_of
from benchmarks.start import NOTHING, count_lines, own_cache
from bpferry.machine.control.running import connect
from launchers.virsh import VIRSH, is_installed

RUN_OVER_BARE_MS: Final = 150.0
RUN_OF_VIRSH: Final = 0.8
LIST_MS: Final = 120.0
REQUEST_MS: Final = 10.0
RESIDENT_MIB: Final = 32.0
WAKE_UPS: Final = 0.0
"""None, as long as nothing happens."""

VMS: Final = 20
IDLE_S: Final = 10.0
SETTLED_S: Final = 3.0
STARTS_WITHIN_S: Final = 60.0

DESCRIPTION: Final = 'name = "{name}"\nmemory = "64 MiB"\nvcpus = 2\naccelerator = "tcg"\n'
OWN_MONITORS: Final = ("-chardev", "-mon")
"""The bare QEMU has one monitor of its own, so bpferry's are left out of its command line."""

WAITS: Final = "-S"
"""Nor does it wait with the guest."""

NOBODY: Final = 65534


@dataclass(slots=True)
class Life:
    """What was measured; times in nanoseconds, those at the same place in turn."""

    run: list[int] = field(default_factory=list)
    bare: list[int] = field(default_factory=list)
    virsh: list[int] = field(default_factory=list)
    listing: list[int] = field(default_factory=list)
    python: list[int] = field(default_factory=list)
    request: list[int] = field(default_factory=list)
    resident_kib: int = 0
    wake_ups: int = 0

    def verdicts(self) -> "Sequence[Verdict]":
        """Return what is wanted, and what came out."""
        of_list = to_ms(percentile(self.listing, 50))
        of_request = to_ms(percentile(self.request, 99))
        over = over_ms(self.run, self.bare)
        rest = [
            Verdict("list", f"a list of {VMS} VMs", of_list, LIST_MS, "ms"),
            Verdict("request", "a request, p99", of_request, REQUEST_MS, "ms"),
            Verdict("resident", "an idle supervisor", self.resident_kib / KIB_PER_MIB,
                    RESIDENT_MIB, "MiB"),
            Verdict("wake_ups", f"its wake-ups in {IDLE_S:g} s", self.wake_ups, WAKE_UPS, ""),
        ]  # fmt: skip
        if self.virsh:
            ratio = to_times(self.run, self.virsh)
            rest.insert(0, Verdict("of_virsh", "a run, of virsh", ratio, RUN_OF_VIRSH, "times"))
        return [Verdict("run", "a run, over bare QEMU", over, RUN_OVER_BARE_MS, "ms"), *rest]


TIMED: Final = ("run", "bare", "virsh", "listing", "python", "request")


def as_table(life: Life) -> str:
    """Return everything for a person to read."""
    return table_of(_times(life), life.verdicts(), WITHOUT_LIBVIRT)


def as_object(life: Life) -> dict[str, object]:
    """Return everything as one JSON object; times are in milliseconds."""
    return object_of(_times(life), life.verdicts())


def _times(life: Life) -> dict[str, list[int]]:
    return {name: getattr(life, name) for name in TIMED}


def measure(rounds: int, interrupts: Interrupts) -> Life:
    """Measure everything in *rounds* rounds.

    Raises:
        BenchError: something could not be started.
    """
    life = Life()
    with own_cache() as environment, _own_folders() as folder, _libvirt(folder) as virsh:
        client = ["env", *environment, sys.executable, "-m", "bpferry"]
        argv = _argv_of(client, _describe(folder, "bare"))
        for done in range(rounds):
            interrupts.check()
            show_progress("starts", done, rounds)
            with _vm(client, folder, "one") as (_, took_ns):
                life.run.append(took_ns)
            life.bare.append(_start_bare(argv))
            if virsh:
                life.virsh.append(_start_with_virsh(virsh))
        show_progress("starts", rounds, rounds)
        _look_at_many(life, client, environment, folder, rounds)
    return life


def _look_at_many(
    life: Life, client: list[str], environment: list[str], folder: Path, rounds: int
) -> None:
    with ExitStack() as stack:
        pids = [stack.enter_context(_vm(client, folder, f"vm{number}"))[0] for number in range(VMS)]
        for _ in range(rounds):
            life.listing.append(_timed([*client, "list"]))
            life.python.append(_timed(["env", *environment, *NOTHING]))
        with connect("vm0") as control:
            for _ in range(rounds):
                before = time.perf_counter_ns()
                control.ask("summary")
                life.request.append(time.perf_counter_ns() - before)
        time.sleep(SETTLED_S)
        before = _status(pids[0], "voluntary_ctxt_switches")
        time.sleep(IDLE_S)
        life.wake_ups = _status(pids[0], "voluntary_ctxt_switches") - before
        life.resident_kib = _status(pids[0], "VmRSS")


def _timed(argv: Sequence[str]) -> int:
    before = time.perf_counter_ns()
    run(argv)
    return time.perf_counter_ns() - before


def _status(pid: int, key: str) -> int:
    """Return a number of proc(5)'s status file."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0])
    raise BenchError(f"the kernel does not tell '{key}'")


@contextmanager
def _own_folders() -> Iterator[Path]:
    """Keep the VMs' files in a folder of our own."""
    with tempfile.TemporaryDirectory(prefix="bpferry-life-") as name:
        before = dict(os.environ)
        for variable in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
            os.environ[variable] = name
        try:
            yield Path(name)
        finally:
            os.environ.clear()
            os.environ.update(before)


def _describe(folder: Path, name: str) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(DESCRIPTION.format(name=name), encoding="utf-8")
    return path


@contextmanager
def _vm(client: list[str], folder: Path, name: str) -> Iterator[tuple[int, int]]:
    """Run a VM; yield the pid of its supervisor, and how many ns its start took."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(str(folder / f"{name}.notify"))
        ready.settimeout(STARTS_WITHIN_S)
        command = [*client, "run", str(_describe(folder, name))]
        environment = {**os.environ, "NOTIFY_SOCKET": str(folder / f"{name}.notify")}
        before = time.perf_counter_ns()
        with subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                _wait_until_ready(ready, name)
                yield process.pid, time.perf_counter_ns() - before
            finally:
                process.send_signal(signal.SIGKILL)
    (folder / f"{name}.notify").unlink()


def _wait_until_ready(ready: socket.socket, name: str) -> None:
    try:
        while b"READY=1" not in ready.recv(4096).split(b"\n"):
            pass
    except TimeoutError as error:
        raise BenchError(f"the VM '{name}' does not run after {STARTS_WITHIN_S:g} s") from error


def _argv_of(client: list[str], path: Path) -> list[str]:
    """Return the command line of the VM at *path* without what is there for bpferry."""
    done = subprocess.run(
        [*client, "run", "--dry-run=json", str(path)], check=True, capture_output=True
    )
    argv = [str(word) for word in json.loads(done.stdout)["argv"]]
    places = [place for place, word in enumerate(argv) if word in OWN_MONITORS]
    left_out = {place + offset for place in places for offset in (0, 1)}
    return [word for place, word in enumerate(argv) if place not in left_out and word != WAITS]


def _start_bare(argv: list[str]) -> int:
    """Start QEMU and end it; return how many ns it took until the guest ran."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        fd = theirs.fileno()
        monitor = ["-chardev", f"socket,id=qmp,fd={fd}", "-mon", "chardev=qmp,mode=control"]
        before = time.perf_counter_ns()
        with subprocess.Popen(
            [*argv, *monitor], pass_fds=[fd], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as child:
            theirs.close()
            ours.sendall(b'{"execute":"qmp_capabilities"}\n{"execute":"query-status"}\n')
            count_lines(ours, 3)
            took_ns = time.perf_counter_ns() - before
            child.kill()
    return took_ns


@contextmanager
def _libvirt(folder: Path) -> Iterator[list[str]]:
    """Define the VM 'virsh' for a user with a daemon of their own; yield the words of virsh.

    There are none if libvirt is not installed.
    """
    if not is_installed():
        yield []
        return
    description = _describe(folder, "virsh")
    convert = [sys.executable, "-m", "bpferry", "convert", str(description)]
    document = subprocess.run(convert, check=True, capture_output=True).stdout
    with tempfile.TemporaryDirectory(prefix="bpferry-libvirt-") as home:
        os.chown(home, NOBODY, NOBODY)
        path = Path(home, "virsh.xml")
        path.write_bytes(document)
        user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        places = ("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME")
        virsh = [*user, "env", *(f"{place}={home}" for place in places)]
        virsh += VIRSH
        try:
            run([*virsh, "define", str(path)])
            yield virsh
        finally:
            for pid_file in Path(home, "libvirt").glob("*.pid"):
                pid = int(pid_file.read_text(encoding="ascii"))
                os.kill(pid, signal.SIGTERM)
                _wait_until_gone(pid)


def _wait_until_gone(pid: int) -> None:
    """Wait until the process *pid*, which removes its files, has ended."""
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(pid)
        try:
            select.select([fd], [], [], STARTS_WITHIN_S)
        finally:
            os.close(fd)


def _start_with_virsh(virsh: list[str]) -> int:
    """Start the VM in libvirt's session mode and end it; return how many ns the start took."""
    try:
        return _timed([*virsh, "start", "virsh"])
    finally:
        end_domain(virsh, "virsh")
