# SPDX-License-Identifier: LGPL-2.1-or-later
"""What it costs to have a VM looked after, each step compared with a rival.

    run       ``bpferry run`` until the guest runs (READY=1 to NOTIFY_SOCKET); compared with a bare
              QEMU with the same command line until QMP says ``running``
    steered   the same of a VM whose card has four queues and an eBPF set, which the helper has
              loaded ahead; compared with a bare QEMU with such a tap
    virsh     ``virsh start`` in session mode of the same VM, if libvirt is installed: of an
              ordinary user, since root has no session mode, and of a daemon that runs already
    listing   ``bpferry list`` as a process with 20 VMs; compared with a Python process that does
              nothing
    request   one request to a running VM

and of an idle supervisor its resident memory, and how often it wakes up in ten seconds. The client
is the installed one.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.bare import start_bare, without_own
from benchmarks.command import BenchError, run
from benchmarks.domains import end_domain
from benchmarks.figures import KIB_PER_MIB, Verdict, over_ms, percentile, to_ms, to_times
from benchmarks.installed import install_client
from benchmarks.interrupts import Interrupts
from benchmarks.notified import ready
from benchmarks.progress import show_progress
from benchmarks.report import WITHOUT_LIBVIRT, object_of, table_of
from benchmarks.start import NOTHING, own_cache
from benchmarks.steered import steered
from bpferry.machine.control.running import connect
from launchers.virsh import VIRSH, is_installed

RUN_OVER_BARE_MS: Final = 150.0
STEERED_OVER_BARE_MS: Final = 150.0
RUN_OF_VIRSH: Final = 0.8
LIST_MS: Final = 120.0
REQUEST_MS: Final = 10.0
RESIDENT_MIB: Final = 32.0
WAKE_UPS: Final = 0.0
"""None, as long as nothing happens."""

VMS: Final = 20
IDLE_S: Final = 10.0
SETTLED_S: Final = 3.0
ENDS_WITHIN_S: Final = 60.0

DESCRIPTION: Final = 'name = "{name}"\nmemory = "64 MiB"\nvcpus = 2\naccelerator = "tcg"\n'
NOBODY: Final = 65534


@dataclass(slots=True)
class Life:
    """What was measured; times in nanoseconds, those at the same place in turn."""

    run: list[int] = field(default_factory=list)
    bare: list[int] = field(default_factory=list)
    steered: list[int] = field(default_factory=list)
    steered_bare: list[int] = field(default_factory=list)
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
        steered = over_ms(self.steered, self.steered_bare)
        rest = [
            Verdict("steered", "with eBPF, over bare QEMU", steered, STEERED_OVER_BARE_MS, "ms"),
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


TIMED: Final = (
    "run", "bare", "steered", "steered_bare", "virsh", "listing", "python", "request",
)  # fmt: skip


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
        client = ["env", *environment, *install_client(folder)]
        argv = _argv_of(client, _describe(folder, "bare"))
        for done in range(rounds):
            interrupts.check()
            show_progress("starts", done, rounds)
            with _vm(client, folder, "one") as (_, took_ns):
                life.run.append(took_ns)
            life.bare.append(start_bare(argv))
            if virsh:
                life.virsh.append(_start_with_virsh(virsh))
        show_progress("starts", rounds, rounds)
        _start_steered(life, rounds, interrupts)
        _look_at_many(life, client, environment, folder, rounds)
    return life


def _start_steered(life: Life, rounds: int, interrupts: Interrupts) -> None:
    with steered() as vm:
        for done in range(rounds):
            interrupts.check()
            show_progress("with eBPF", done, rounds)
            life.steered.append(vm.start())
            life.steered_bare.append(vm.start_bare())
        show_progress("with eBPF", rounds, rounds)


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
    notify = folder / f"{name}.notify"
    command = [*client, "run", str(_describe(folder, name))]
    with ready(command, notify, {**os.environ, "NOTIFY_SOCKET": str(notify)}) as started:
        yield started


def _argv_of(client: list[str], path: Path) -> list[str]:
    """Return the command line of the VM at *path* without what is there for bpferry."""
    done = subprocess.run(
        [*client, "run", "--dry-run=json", str(path)], check=True, capture_output=True
    )
    return without_own([str(word) for word in json.loads(done.stdout)["argv"]])


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
            select.select([fd], [], [], ENDS_WITHIN_S)
        finally:
            os.close(fd)


def _start_with_virsh(virsh: list[str]) -> int:
    """Start the VM in libvirt's session mode and end it; return how many ns the start took."""
    try:
        return _timed([*virsh, "start", "virsh"])
    finally:
        end_domain(virsh, "virsh")
