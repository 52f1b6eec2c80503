# SPDX-License-Identifier: LGPL-2.1-or-later
"""Look at a VM that gets as many packets as it takes.

Its guest does nothing with them: its driver takes them off the queue, and its network drops them,
as they are for an address that it does not have. Who reads the tap is QEMU's main loop or the
threads of vhost; the kernel counts what they read as sent by the tap, and that is what is taken.

Between two looks nothing is on its way, and nothing may have been lost.
"""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.command import BenchError
from benchmarks.path_guest_figures import Lane, Look
from benchmarks.path_plan import FLOWS, HOSTS, plan
from benchmarks.yardstick import Yardstick, started_by
from bpferry.steering.maps import Steering
from bpferry.steering.toeplitz import HashType
from guest.console import Console
from guest.flows import read_flows
from guest.netns import Namespace
from steering_demo.counts import counters
from steering_demo.rounds import hashed
from steering_demo.vm import Machine

FAMILY: Final = 4

WARM_S: Final = 0.5
"""Until the rings of the guest's card are full, and stay so."""

DRAINED_S: Final = 30.0
"""Within which a guest has taken what is in its rings: at most a thousand packets."""

FLOOD_S: Final = 10.0

POLL_S: Final = 0.02

NO_CHOICE: Final = Steering(
    redirect=False, hash_types=HashType(0), key=b"", table=(), default_queue=0
)
"""What a card with one queue has."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """A VM on a bridge whose guest is up. Borrows the machine."""

    lane: Lane
    machine: Machine
    tap: str

    @property
    def console(self) -> Console:
        """The guest's."""
        return self.machine.console


@dataclass(frozen=True, slots=True)
class Sender:
    """What sends to receivers: the program, and the bridge. Borrows the namespace of both."""

    program: Path
    bridge: str
    space: Namespace
    folder: Path
    pause_us: int = 50
    """How long it sleeps when it has nothing to send."""

    @contextmanager
    def to(self, receiver: Receiver, rate: int) -> Iterator[Yardstick]:
        """Send to *receiver* until the block is left; ask for sent, taken, and nanoseconds.

        *rate* is packets a second, or 0 for as many as it takes.
        """
        plans = self.folder / f"{receiver.lane.key}.plan"
        plans.write_bytes(plan(receiver.lane.queues, FAMILY, receiver.lane.card))
        taken = f"/sys/class/net/{receiver.tap}/statistics/tx_packets"
        argv = [str(self.program), self.bridge, taken, str(plans), str(rate), str(self.pause_us)]
        with started_by(self.space.command(argv), "send") as yardstick:
            yield yardstick


def tap_of(pid: int) -> str:
    """Return the name of the one tap that the process *pid* has open.

    Raises:
        BenchError: it has none, or several.
    """
    lines: list[str] = []
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        # It may be closed meanwhile.
        with suppress(FileNotFoundError):
            lines += info.read_text(encoding="ascii").splitlines()
    taps = {line.split()[1] for line in lines if line.startswith("iff:")}
    if len(taps) != 1:
        raise BenchError(f"cannot tell the tap of QEMU (pid {pid}): it has {len(taps)}")
    return taps.pop()


def look(sender: Sender, receiver: Receiver, rate: int, seconds: float) -> Look:
    """Send *rate* packets a second to *receiver*, as in Sender, and measure for *seconds*.

    Raises:
        BenchError: it did not take packets for some seconds, or some were lost.
    """
    pid = receiver.machine.qemu_pid()
    with _losing_none(sender, receiver, rate) as yardstick:
        time.sleep(WARM_S)
        before = _sample(yardstick, pid)
        time.sleep(seconds)
        after = _sample(yardstick, pid)
    return Look(*(now - then for now, then in zip(after, before, strict=True)))


def _sample(yardstick: Yardstick, pid: int) -> Look:
    """Return the counts since some beginning."""
    _, taken, sending_ns = yardstick.ask_ns(0)
    return Look(time.monotonic_ns(), taken, sending_ns, *_threads_ns(pid))


def _threads_ns(pid: int) -> tuple[int, int, int]:
    """Return how long threads of QEMU had a processor: main loop and others, vhost, processors."""
    spent = {"": 0, "vhost-": 0, "CPU ": 0}
    for task in Path(f"/proc/{pid}/task").iterdir():
        # Some of its threads come and go.
        with suppress(FileNotFoundError, ProcessLookupError):
            name = (task / "comm").read_text(encoding="utf-8")
            kind = next((kind for kind in ("vhost-", "CPU ") if name.startswith(kind)), "")
            spent[kind] += int((task / "schedstat").read_text(encoding="ascii").split()[0])
    return spent[""], spent["vhost-"], spent["CPU "]


@contextmanager
def _losing_none(sender: Sender, receiver: Receiver, rate: int) -> Iterator[Yardstick]:
    """Send to *receiver* until the block is left, and then wait until its guest has everything."""
    counted = _counted(receiver)
    with sender.to(receiver, rate) as yardstick:
        yield yardstick
        last, _ = yardstick.process.communicate()
    if not last:
        raise BenchError(f"'send' ended with status {yardstick.process.returncode}")
    sent, taken, _ = map(int, last.split())
    deadline = time.monotonic() + DRAINED_S
    while (missing := counted + sent - _counted(receiver)) > 0:
        if time.monotonic() > deadline:
            raise BenchError(
                f"of {sent} packets to '{receiver.lane.key}' {missing} did not arrive within "
                f"{DRAINED_S:g} s; {taken} had been read from its tap when the last was sent"
            )
        time.sleep(POLL_S)


def _counted(receiver: Receiver) -> int:
    """Return how many packets the guest has got, those of its neighbours among them."""
    return sum(counters(receiver.console).values())


def stops_after(sender: Sender, receiver: Receiver) -> int | None:
    """Flood *receiver*; return how many packets it has taken when it takes no more, if it does."""
    with sender.to(receiver, 0) as yardstick:
        try:
            yardstick.process.wait(FLOOD_S)
        except subprocess.TimeoutExpired:
            return None
        last, _ = yardstick.process.communicate()
    return int(last.split()[1])


def asked(console: Console) -> Steering:
    """Return the steering that a guest with RSS asks for."""
    answer = console.ask("table")
    table = answer["table"]
    assert isinstance(table, list)  # noqa: S101 - the agent is ours
    return Steering(
        redirect=True,
        hash_types=HashType.IPV4 | HashType.TCPV4 | HashType.UDPV4,
        key=bytes.fromhex(str(answer["key"])),
        table=tuple(table),
        default_queue=0,
    )


def as_asked_percent(sender: Sender, receiver: Receiver, wanted: Steering) -> float:
    """Send some packets of each flow to *receiver*; return how many are where they are *wanted*."""
    console = receiver.console
    console.ask("flows")
    with _losing_none(sender, receiver, FLOWS) as yardstick:
        while yardstick.ask_ns(0)[1] < FLOWS:
            time.sleep(POLL_S)
    found = [
        (wanted.queue_for(hashed(flow)), queues)
        for flow, queues in read_flows(console.ask("flows"))
        if flow.destination == str(HOSTS[FAMILY][1])
    ]
    right = sum(queues.get(queue, 0) for queue, queues in found)
    return 100 * right / sum(sum(queues.values()) for _, queues in found)
