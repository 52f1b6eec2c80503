# SPDX-License-Identifier: LGPL-2.1-or-later
"""What bpferry exec adds to a start of QEMU.

    exec    ``bpferry exec`` until QEMU's monitor answers, with a tap of four queues and an eBPF set
            from both helpers, which run already
    bare    the same QEMU alone, with a tap of one queue that is there
    probe   ``bpferry-qemu-system-x86_64 -version``, as launchers ask; compared with QEMU's own
    virsh   ``virsh start`` of a domain with bpferry as its emulator, and of one with QEMU itself,
            if libvirt is installed

They take turns. A network namespace plays the host, and an ordinary user starts all of them.
"""

import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from benchmarks import virsh
from benchmarks.command import BenchError, ending
from benchmarks.figures import Verdict, over_ms, to_times
from benchmarks.installed import install_client
from benchmarks.interrupts import Interrupts
from benchmarks.report import WITHOUT_LIBVIRT, object_of, table_of
from guest.netns import Namespace
from launchers.host import launcher_host
from steering_demo.vm import FOLDERS
from steering_demo.workplace import BRIDGE, Workplace

EXEC_OVER_BARE_MS: Final = 120.0
PROBE_OVER_BARE_MS: Final = 60.0
VIRSH_OF_BARE: Final = 1.4

QEMU: Final = "/usr/bin/qemu-system-x86_64"
QUEUES: Final = 4
TAP: Final = "bench0"

MACHINE: Final = (
    *("-M", "q35,accel=tcg", "-smp", str(QUEUES), "-m", "64", "-nodefaults", "-display", "none"),
    *("-S", "-qmp", "stdio"),
)
CARD: Final = ("-device", "virtio-net-pci,netdev=n0")
BARE: Final = (
    QEMU, *MACHINE, "-netdev", f"tap,id=n0,ifname={TAP},script=no,downscript=no", *CARD,
)  # fmt: skip
BRIDGED: Final = (QEMU, *MACHINE, "-netdev", f"bridge,id=n0,br={BRIDGE}", *CARD)


@dataclass(slots=True)
class Times:
    """What was timed, in nanoseconds; entries at the same place were measured in turn."""

    exec: list[int] = field(default_factory=list)
    bare: list[int] = field(default_factory=list)
    probe: list[int] = field(default_factory=list)
    version: list[int] = field(default_factory=list)
    virsh: list[int] = field(default_factory=list)
    virsh_bare: list[int] = field(default_factory=list)

    def verdicts(self) -> list[Verdict]:
        """Return what is wanted, and what came out."""
        start, probe = over_ms(self.exec, self.bare), over_ms(self.probe, self.version)
        found = [
            Verdict("exec", "exec, over bare QEMU", start, EXEC_OVER_BARE_MS, "ms"),
            Verdict("probe", "a question, over bare QEMU", probe, PROBE_OVER_BARE_MS, "ms"),
        ]
        if self.virsh:
            ratio = to_times(self.virsh, self.virsh_bare)
            found.append(Verdict("virsh", "virsh start, of bare", ratio, VIRSH_OF_BARE, "times"))
        return found


def as_table(times: Times) -> str:
    """Return everything for a person to read."""
    return table_of(asdict(times), times.verdicts(), WITHOUT_LIBVIRT)


def as_object(times: Times) -> dict[str, object]:
    """Return everything as one JSON object; times are in milliseconds."""
    return object_of(asdict(times), times.verdicts())


def measure(rounds: int, interrupts: Interrupts) -> Times:
    """Measure everything in *rounds* rounds.

    Raises:
        BenchError: something could not be started.
    """
    times = Times()
    with launcher_host() as host, virsh.defined(host) as domains:
        place, space = host.place, host.space
        flags = ["mode", "tap", "user", str(place.user_uid), "vnet_hdr"]
        space.run(["ip", "tuntap", "add", "dev", TAP, *flags])
        *python, launcher = install_client(place.folder)
        emulator = Path(launcher).with_name("bpferry-qemu-system-x86_64")
        emulator.symlink_to(launcher)
        commands = {
            "exec": [*python, launcher, "exec", "--", *BRIDGED],
            "bare": BARE,
            "probe": [*python, str(emulator), "-version"],
            "version": [QEMU, "-version"],
        }
        words = {name: as_user(place, space, argv) for name, argv in commands.items()}
        # Once for the helpers' start, and the capabilities.
        _start(words["exec"])
        _start(words["probe"])
        for _ in range(rounds):
            interrupts.check()
            for name, command in words.items():
                getattr(times, name).append(_start(command))
            for name in domains:
                getattr(times, name).append(virsh.start(host, name))
    return times


def as_user(place: Workplace, space: Namespace, argv: Sequence[str]) -> list[str]:
    """Return *argv* as a command of the user on the host that is played."""
    environment = [
        f"BPFERRY_BPF_SOCKET={place.socket('bpf')}",
        f"BPFERRY_TAP_SOCKET={place.socket('tap')}",
        *(f"{name}={place.home}" for name in FOLDERS),
    ]
    return space.command(["env", *environment, *argv], user=place.user_uid)


def _start(argv: Sequence[str]) -> int:
    """Run *argv* until its first line, and end it; return how long that took.

    Raises:
        BenchError: it wrote none.
    """
    before = time.perf_counter_ns()
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd="/",
    )  # fmt: skip
    with ending(process):
        assert process.stdout is not None  # noqa: S101 - asked for above
        line = process.stdout.readline()
        taken = time.perf_counter_ns() - before
        if not line:
            assert process.stderr is not None  # noqa: S101 - asked for above
            raise BenchError(f"QEMU did not start: {process.stderr.read()}")
    return taken
