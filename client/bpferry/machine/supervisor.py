# SPDX-License-Identifier: LGPL-2.1-or-later
"""QEMU's parent, for as long as it runs.

QEMU gets the fds of its command line and no others, and a session of its own, and dies when we are
killed (``qemu.process``). Our copies of what it inherited are closed as soon as it runs, so that
its taps and sets end with it. What it writes is shown line by line.

QEMU does not hear SIGINT, SIGTERM and SIGHUP, nor do the processes beside it: whoever sends them to
all processes of a session or a service would cut the guest's power. We hear them, and ask the guest
(``stopping``).
"""

import asyncio
import contextlib
import gc
import signal
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from functools import partial
from typing import Final

from bpferry.commandline.parts import Limit
from bpferry.domain.identity import uuid_of
from bpferry.errors import BpferryError, QemuError
from bpferry.machine.arrival import Arrival
from bpferry.machine.card_watch import follow
from bpferry.machine.companion_watch import CompanionWatch
from bpferry.machine.console.foreground import Leash
from bpferry.machine.console.hub import Hub, open_hub
from bpferry.machine.console.operation import console_operations
from bpferry.machine.console.relay import relay_to
from bpferry.machine.console.streams import Streams
from bpferry.machine.control.events import GuestEvents
from bpferry.machine.control.hot_plug.operations import HotPlug
from bpferry.machine.control.life import RunningVm
from bpferry.machine.control.links import restore_links
from bpferry.machine.control.moving import Moving
from bpferry.machine.control.operations import operations
from bpferry.machine.control.record import Record
from bpferry.machine.control.saving import Saving
from bpferry.machine.control.server import Server
from bpferry.machine.control.snapshots import Snapshots
from bpferry.machine.control.states import State
from bpferry.machine.control.watching import begin_watching
from bpferry.machine.ending import early_end, report_end
from bpferry.machine.endpoints import describe, find_chosen
from bpferry.machine.in_force import confirm
from bpferry.machine.pinning import pin_threads
from bpferry.machine.preparation import Prepared
from bpferry.machine.processors import plug_in
from bpferry.machine.qemu_output import QemuOutput
from bpferry.machine.registration import described, register, unregister
from bpferry.machine.service_manager import ServiceManager
from bpferry.machine.starting import Started
from bpferry.machine.stopping import QUIT_SECONDS, Stopper
from bpferry.qemu.monitor import Monitor, open_monitor
from bpferry.qemu.process import STOP_SIGNALS, Child

Signals = asyncio.Queue[signal.Signals]

SOON_SECONDS: Final = 0.5
"""Within which a QEMU has ended that closed its monitor, in which case it says no more."""

GARBAGE: Final = 700
"""New objects after which Python looks for garbage; it is what Python begins with."""

MONITOR_SECONDS: Final = 30.0
"""QEMU greets after 0.1 s; if it has to touch much memory first it may take a while."""


def supervise(
    prepared: Prepared,
    record: Record,
    started: Started,
    user: Streams | Leash | None,
    stop_seconds: float | None,
) -> int:
    """Stay until the QEMU that was *started* ends; return its exit status, 128 + n for signal n.

    *user* is where the guest's console goes: to streams of ours, to the process at the terminal
    that forked us, or only to those who ask for it. *stop_seconds* is how long the guest may take
    to power down; None: no limit.

    Raises:
        QemuError: it ended before it could run the VM.
    """
    return asyncio.run(_supervise(prepared, record, started, user, stop_seconds))


async def _supervise(
    prepared: Prepared,
    record: Record,
    started: Started,
    user: Streams | Leash | None,
    stop_seconds: float | None,
) -> int:
    child, manager = started.child, started.manager
    async with contextlib.AsyncExitStack() as stack:
        signals = stack.enter_context(_signals(started.early))
        plans = prepared.plans.values()
        output_of_qemu = QemuOutput(child, record, plans, prepared.endpoints)
        stack.callback(output_of_qemu.stop)
        supervisor = _Supervisor(
            prepared, record, child, output_of_qemu, manager=manager, stop_seconds=stop_seconds
        )
        async with open_hub(prepared) as hub:
            supervisor.serve_console(hub, user)
            if hub is not None and isinstance(user, Streams):
                stack.enter_context(relay_to(hub.join(), user))
            await supervisor.run(signals)
        output_of_qemu.stop()
        status = child.exit_status()
        killed = supervisor.stopper.killed
        report_end(record, status, child.pid, killed=killed)
        if killed and manager.exists:
            # Otherwise it would start a VM again that somebody has stopped.
            return 0
        return status if status >= 0 else 128 - status


@contextlib.contextmanager
def _signals(early: Sequence[signal.Signals]) -> Iterator[Signals]:
    """Queue the *early* signals, and each that arrives, instead of its usual effect."""
    loop = asyncio.get_running_loop()
    queue: Signals = asyncio.Queue()
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, queue.put_nowait, number)
    for number in early:
        queue.put_nowait(number)
    try:
        yield queue
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def _forget_start() -> None:
    """Give back what only the start needed, and look for garbage from now on in what is new.

    The command that started us let more pile up, to be quick; we may run for months.
    """
    gc.set_threshold(GARBAGE)
    gc.unfreeze()
    gc.collect()
    gc.freeze()


class _Supervisor:
    """One running QEMU: its monitor, the signals that arrive, its cards."""

    def __init__(
        self,
        prepared: Prepared,
        reporter: Record,
        child: Child,
        output: QemuOutput,
        *,
        manager: ServiceManager,
        stop_seconds: float | None,
    ) -> None:
        self._prepared = prepared
        self._reporter = reporter
        self._child = child
        self._output = output
        self.stopper = Stopper(reporter, self._begin, self._stops, child.kill, stop_seconds)
        self.stopper.is_arriving = prepared.incoming is not None
        self._vm = RunningVm(prepared, reporter, child.pid, self.stopper)
        self._manager = manager
        self._hot_plug = HotPlug(self._vm)
        self._saving = Saving(self._vm)
        served = {
            **operations(self._vm),
            **self._hot_plug.operations(),
            **self._saving.operations(),
            **Moving(self._vm).operations(),
            "snapshot": Snapshots(self._vm).take,
        }
        self._control = Server(prepared.control, served)
        self._ended = asyncio.Event()
        self._is_registered = False
        self._tasks: list[asyncio.Task[None]] = []
        self._companions = CompanionWatch(
            prepared.companions, prepared.document, reporter, self._needs_companions
        )

    def serve_console(self, hub: Hub | None, user: Streams | Leash | None) -> None:
        """Answer requests about the console at *hub*, and the process at the terminal."""
        leash = user if isinstance(user, Leash) else None
        self._control.add(console_operations(self._vm, hub, leash))
        if leash is not None:
            leash.serve(self._control, partial(self.stopper.signalled, signal.SIGHUP))

    async def run(self, signals: Signals) -> None:
        """Return when QEMU has ended."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._child.pidfd, self._ended.set)
        self._begin(self._handle(signals))
        self._control.start()
        self._manager.show(self._vm.state)
        try:
            async with self._connected() as monitor:
                if monitor is not None:
                    followed = self._begin(self._follow_events(monitor))
                    self._begin(self._hot_plug.follow(monitor))
                    for card_id in self._prepared.maps:
                        begin_watching(self._vm, card_id)
                    self._companions.start()
                    await self._let_run(monitor)
                    self._begin(self._register())
                    _forget_start()
                await self._ended.wait()
                if monitor is not None:
                    # What QEMU has said last is told before its end is.
                    await asyncio.wait([followed], timeout=SOON_SECONDS)
        finally:
            self.stopper.close()
            await self._finish_saving()
            await self._control.stop()
            if self._is_registered:
                await unregister(self._vm.name)
            loop.remove_reader(self._child.pidfd)
            self._companions.stop()
            for task in (*self._tasks, *self._vm.watching.values(), *self._vm.background):
                task.cancel()

    async def _register(self) -> None:
        """Let the user's machined, if there is one, list the VM."""
        uuid = uuid_of(self._vm.machine, self._prepared.draft.context.owner)
        told = described(self._vm.name, uuid, self._child.pid, self._reporter.endpoints)
        self._is_registered = await register(told, self._reporter)

    async def _finish_saving(self) -> None:
        try:
            self._saving.finish()
        except BpferryError as error:
            self._reporter.warn(error.message, error.hint)
            await self._saving.tell(error)

    def _needs_companions(self) -> bool:
        stopping = self.stopper.begun or self._vm.state is State.STOPPING
        return not stopping and not self._child.wait(0)

    def _begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.append(task)
        return task

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[Monitor | None]:
        """Open and close the monitor; it is None if we ended QEMU before it greeted."""
        name = self._prepared.argv[0]
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(None if self._waits() else MONITOR_SECONDS):
                    opening = open_monitor(name, self._prepared.monitor)
                    self.stopper.monitor = await stack.enter_async_context(opening)
            except TimeoutError as error:
                message = f"'{name}' did not answer at its monitor within {MONITOR_SECONDS:g} s"
                raise QemuError(message, evidence=self._child.tail()) from error
            except QemuError as error:
                if not self.stopper.begun:
                    raise await self._early_end(error) from error
            yield self.stopper.monitor

    def _waits(self) -> bool:
        """Tell the user whose connections QEMU waits for, and return whether it waits for any."""
        waiting = [endpoint for endpoint in self._prepared.endpoints if endpoint.waits]
        for endpoint in waiting:
            text = f"QEMU waits for a process to connect to {describe(endpoint)}"
            self._reporter.note(text)
            self._manager.waits(text)
        return bool(waiting)

    async def _early_end(self, error: QemuError, seconds: float = QUIT_SECONDS) -> BpferryError:
        """Return what to tell the user of a QEMU that never ran the VM."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), seconds)
        if not self._ended.is_set():
            return error
        self._output.stop()
        culprit = self._companions.find_culprit()
        if culprit is not None:
            return culprit
        status, pid = self._child.exit_status(), self._child.pid
        return early_end(self._prepared, status, pid, self._child.tail())

    async def _let_run(self, monitor: Monitor) -> None:
        """Do what has to be done before the guest runs, let it run, and say how to reach it."""
        prepared = self._prepared
        runs = False
        try:
            await confirm(self._child.pid, prepared.built.of(Limit), self._reporter)
            await plug_in(monitor, prepared.plugged_in)
            await pin_threads(
                monitor, self._child.pid, prepared.affinities, prepared.schedulings, self._reporter
            )
            await self._tell(monitor)
            if prepared.incoming is not None:
                await self._arrive(monitor, prepared.incoming)
            else:
                runs = True
                await monitor.execute("cont")
            self._vm.runs(paused=prepared.stays_paused)
            self._manager.show(self._vm.state)
            for endpoint in await find_chosen(monitor, prepared.endpoints):
                self._reporter.note(describe(endpoint))
                self._reporter.reachable(endpoint)
        except QemuError as error:
            if self.stopper.begun:
                return
            end = await self._early_end(error, SOON_SECONDS)
            # A guest that runs may end QEMU at any time; how it ended is told then.
            if not runs or not self._ended.is_set():
                raise end from error

    async def _arrive(self, monitor: Monitor, arrival: Arrival) -> None:
        """Let the guest go on that runs, or ran, somewhere else."""
        await arrival.receive(monitor)
        await restore_links(self._vm, arrival.links)
        self._vm.asleep = arrival.asleep
        self.stopper.is_arriving = False
        if not self._prepared.stays_paused:
            await monitor.execute("cont")
        await arrival.arrived(monitor)

    async def _tell(self, monitor: Monitor) -> None:
        """Tell QEMU what its command line cannot express."""
        for command in self._prepared.commands:
            try:
                await monitor.execute(command.name, dict(command.arguments))
            except QemuError as error:
                if not self.stopper.begun:
                    place = self._prepared.document.origins.describe(command.key)
                    self._reporter.warn(f"{place}: it has no effect: {error.message}")

    async def _follow_events(self, monitor: Monitor) -> None:
        guest = GuestEvents(self._vm)
        async for event in monitor.events():
            await guest.follow(event)
            self._manager.show(self._vm.state)
            follow(event.name, self._vm.watches.values())

    async def _handle(self, signals: Signals) -> None:
        while True:
            self.stopper.signalled(await signals.get())

    def _stops(self, seconds: float | None) -> None:
        """Take note that QEMU is to end, within *seconds* if there is a limit."""
        self._vm.stops()
        self._manager.stopping(seconds)
