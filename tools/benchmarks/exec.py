# SPDX-License-Identifier: LGPL-2.1-or-later
"""What bpferry exec adds to a start of QEMU.

    exec    ``bpferry exec`` until QEMU's monitor answers, with a tap of four queues and an eBPF set
            from both helpers, which run already
    bare    the same QEMU alone, with a tap of one queue that is there
    probe   ``bpferry-qemu-system-x86_64 -version``, as launchers ask; compared with QEMU's own

They take turns. A network namespace plays the host, and an ordinary user starts all of them.
"""

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

from benchmarks.command import BenchError, ending
from benchmarks.figures import Verdict, over_ms
from benchmarks.interrupts import Interrupts
from benchmarks.report import object_of, table_of
from guest.netns import Namespace, bridged
from steering_demo.helpers import activated_helpers
from steering_demo.vm import FOLDERS
from steering_demo.workplace import BRIDGE, Workplace, workplace

EXEC_OVER_BARE_MS: Final = 120.0
PROBE_OVER_BARE_MS: Final = 60.0

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

EMULATOR: Final = (
    "import sys; from bpferry.cli import emulator; "
    "sys.exit(emulator.main(['bpferry-qemu-system-x86_64', '-version']))"
)


@dataclass(slots=True)
class Times:
    """What was timed, in nanoseconds; entries at the same place were measured in turn."""

    exec: list[int] = field(default_factory=list)
    bare: list[int] = field(default_factory=list)
    probe: list[int] = field(default_factory=list)
    version: list[int] = field(default_factory=list)

    def verdicts(self) -> list[Verdict]:
        """Return what is wanted, and what came out."""
        start, probe = over_ms(self.exec, self.bare), over_ms(self.probe, self.version)
        return [
            Verdict("exec", "exec, over bare QEMU", start, EXEC_OVER_BARE_MS, "ms"),
            Verdict("probe", "a question, over bare QEMU", probe, PROBE_OVER_BARE_MS, "ms"),
        ]


def as_table(times: Times) -> str:
    """Return everything for a person to read."""
    return table_of(asdict(times), times.verdicts())


def as_object(times: Times) -> dict[str, object]:
    """Return everything as one JSON object; times are in milliseconds."""
    return object_of(asdict(times), times.verdicts())


def measure(rounds: int, interrupts: Interrupts) -> Times:
    """Measure everything in *rounds* rounds.

    Raises:
        BenchError: something could not be started.
    """
    times = Times()
    with (
        workplace() as place,
        bridged(BRIDGE, ["10.83.0.1/24"], 1500) as space,
        activated_helpers(place, space),
    ):
        flags = ["mode", "tap", "user", str(place.user_uid), "vnet_hdr"]
        space.run(["ip", "tuntap", "add", "dev", TAP, *flags])
        client = _as_user(place, space, [sys.executable, "-m", "bpferry", "exec", "--", *BRIDGED])
        bare = _as_user(place, space, BARE)
        probe = _as_user(place, space, [sys.executable, "-c", EMULATOR])
        version = _as_user(place, space, [QEMU, "-version"])
        # Once for the helpers' start, the capabilities, and Python's bytecode.
        _start(client)
        _start(probe)
        for _ in range(rounds):
            interrupts.check()
            times.exec.append(_start(client))
            times.bare.append(_start(bare))
            times.probe.append(_start(probe))
            times.version.append(_start(version))
    return times


def _as_user(place: Workplace, space: Namespace, argv: Sequence[str]) -> list[str]:
    """Return *argv* as a command of the user on the host that is played."""
    environment = [
        f"PYTHONPATH={place.python_path('client', 'shared')}",
        f"PYTHONPYCACHEPREFIX={place.home}/bytecode",
        f"BPFERRY_BPF_SOCKET={place.socket('bpf')}",
        f"BPFERRY_TAP_SOCKET={place.socket('tap')}",
        *(f"{name}={place.home}" for name in FOLDERS),
    ]
    words = ["env", "--unset=PYTHONDONTWRITEBYTECODE", *environment, *argv]
    return space.command(words, user=place.user_uid)


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
