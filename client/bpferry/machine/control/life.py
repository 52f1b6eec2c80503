# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is known of a running VM: its state, and what it was started with."""

import asyncio
import shlex
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from bpferry.domain.model.machine import Machine
from bpferry.errors import NotReady, QemuError
from bpferry.machine.card_watch import CardWatch
from bpferry.machine.control.record import Record
from bpferry.machine.control.states import ASLEEP, LASTING, STATES, State
from bpferry.machine.preparation import Prepared
from bpferry.machine.stopping import Stopper
from bpferry.qemu.monitor import Monitor

T = TypeVar("T")


QEMU_SECONDS: Final = 20.0
"""For QEMU to answer a question; it takes a millisecond unless a disk hangs or the host is busy.
Less than a command waits for us (``client``)."""

CHANGE_SECONDS: Final = 240.0
"""For QEMU to do what cannot be left half done. To add a device may take seconds: if that fails,
QEMU waits until no thread reads the list of devices any more (drain_call_rcu in qmp_device_add),
also for the threads of emulated processors, of which a busy host runs only some."""


class Hangs(QemuError):  # noqa: N818 - as in errors: the words say it
    """QEMU has not answered in time; nobody knows whether it has done what was asked."""


@dataclass(slots=True)
class RunningVm:
    """One running VM, as its supervisor knows it."""

    prepared: Prepared
    record: Record
    qemu_pid: int
    stopper: Stopper
    state: State = State.STARTING
    asleep: bool = False
    """The guest sleeps, or slept when the VM was paused."""
    watches: dict[str, CardWatch] = field(default_factory=dict)
    """By card; only for cards that eBPF steers."""
    started_s: float = field(default_factory=time.monotonic)
    machine: Machine = field(init=False)
    """As it is now: with what was plugged in, and without what was taken out."""
    watching: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    """What runs each of the watches."""
    plugging: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a device is plugged in."""
    leftovers: set[str] = field(default_factory=set)
    """Devices in QEMU that could not be plugged in, and that the guest has not let go of yet."""
    background: set[asyncio.Task[Any]] = field(default_factory=set)
    """What else is being done."""

    def __post_init__(self) -> None:
        self.machine = self.prepared.document.machine

    @property
    def monitor(self) -> Monitor | None:
        """QEMU's monitor; None before QEMU answers."""
        return self.stopper.monitor

    @property
    def name(self) -> str:
        """The VM's name."""
        return self.machine.name

    @property
    def uptime_s(self) -> int:
        """Seconds since QEMU was started. A change of the host's clock does not matter."""
        return int(time.monotonic() - self.started_s)

    async def ask_qemu(
        self,
        command: str,
        arguments: dict[str, object] | None = None,
        seconds: float | None = None,
    ) -> object:
        """Return what QEMU answers to *command* within *seconds*, or the usual time.

        Raises:
            BpferryError: it does not answer yet, or in time (``Hangs``), or refuses.
        """
        work = self.need_monitor().execute(command, arguments)
        return await self._wait_for(work, command, seconds)

    async def give_fd(self, name: str, fd: int, seconds: float | None = None) -> None:
        """Give QEMU a copy of *fd*, which it knows by *name*.

        Raises:
            BpferryError: as ``ask_qemu``.
        """
        await self._wait_for(self.need_monitor().give_fd(name, fd), "getfd", seconds)

    async def add_fd(self, fd: int) -> int:
        """Give QEMU a copy of *fd* as the only one of a set, and return the set's number.

        Raises:
            BpferryError: as ``ask_qemu``.
        """
        return await self._wait_for(self.need_monitor().add_fd(fd), "add-fd")

    async def _wait_for(
        self, work: Coroutine[None, None, T], command: str, seconds: float | None = None
    ) -> T:
        """Wait for an answer, and no longer than *seconds*; it is read in any case.

        QEMU does what it was asked, also when nobody waits any more. Fds would be mixed up if the
        next one were sent before it has taken this one.
        """
        seconds = QEMU_SECONDS if seconds is None else seconds
        asked = asyncio.create_task(work)
        self.background.add(asked)
        asked.add_done_callback(self._answered)
        await asyncio.wait([asked], timeout=seconds)
        if not asked.done():
            raise Hangs(
                f"QEMU of '{self.name}' did not answer '{command}' within {seconds:g} s",
                "a disk or the host may be stuck, and QEMU may still do it; the VM ends with: "
                f"bpferry stop --force {shlex.quote(self.name)}",
            )
        return asked.result()

    def _answered(self, asked: "asyncio.Task[Any]") -> None:
        self.background.discard(asked)
        if not asked.cancelled():
            # Or Python would say that nobody has looked at it.
            asked.exception()

    def begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Do *work* besides everything else, for as long as the VM runs."""
        task = asyncio.create_task(work)
        self.background.add(task)
        task.add_done_callback(self.background.discard)
        return task

    def need_monitor(self) -> Monitor:
        """Return the monitor.

        Raises:
            NotReady: QEMU does not answer yet.
        """
        if self.monitor is None:
            raise NotReady(f"'{self.name}' is still starting: its QEMU does not answer yet")
        return self.monitor

    def check_settled(self) -> None:
        """Raise NotReady if the VM is still being started, or is being saved or moved.

        At its start, a guest that runs early would see what is not there yet. While it is saved, a
        guest that goes on would write to disks of which the file knows nothing, and a device that
        comes or goes would not be in the description that the file is restored with.
        """
        if self.state is State.STARTING:
            raise NotReady(f"'{self.name}' is still starting", "try again when it runs")
        if self.state is State.SAVING:
            raise NotReady(
                f"'{self.name}' is being saved, and its guest has to wait",
                "to let it continue, press Ctrl-C in 'bpferry save'",
            )
        if self.state is State.MOVING:
            raise NotReady(
                f"'{self.name}' is being moved to another host",
                "wait until it is there, or press Ctrl-C in 'bpferry migrate'",
            )

    def runs(self, *, paused: bool) -> None:
        """Take note that the guest runs now, or could, if nothing else has happened meanwhile."""
        if self.state is State.STARTING:
            self.state = State.PAUSED if paused else self._awake()

    def follow(self, event: str) -> None:
        """Take note of an *event* of QMP."""
        self.asleep = ASLEEP.get(event, self.asleep)
        state = self._awake() if event == "RESUME" else STATES.get(event)
        if state is None or (event == "STOP" and self.state in LASTING):
            return
        # A VM that was told to end stays one that ends, whatever its guest does until then.
        if not self.stopper.begun:
            self.state = state

    def stops(self) -> None:
        """Take note that QEMU is to end. A VM that is being saved is that first."""
        if self.state is not State.SAVING:
            self.state = State.STOPPING

    def _awake(self) -> State:
        return State.SUSPENDED if self.asleep else State.RUNNING
