# SPDX-License-Identifier: LGPL-2.1-or-later
"""One move of a running VM to another host; the source's side.

The command that asks for it gets one end of a socket pair, for the standard input and output of its
ssh. The other end is ours: first for what the two supervisors say to each other (``migration``),
then for QEMU, which writes its stream there, then for us again. So nothing listens anywhere, and
ssh has the user's terminal, agent and settings.

    until Run is sent     whatever fails, the guest goes on here: QEMU runs it until all of its
                          memory is there, and is told to continue (``cont``) if it had stopped
    after that            it never goes on here by itself, except if the other side says that it
                          does not run there
"""

import asyncio
import contextlib
import shlex
import socket
import time
from collections.abc import Mapping
from typing import Final

from bpferry.errors import BpferryError, NotReady, QemuError, harmless
from bpferry.machine.control.life import RunningVm
from bpferry.machine.control.links import changed_links
from bpferry.machine.control.packets import shortened
from bpferry.machine.control.states import State
from bpferry.machine.migration.comparison import check_devices, uncompared
from bpferry.machine.migration.devices import gather
from bpferry.machine.migration.messages import (
    Broken,
    Loaded,
    Ready,
    Refusal,
    Run,
    Runs,
    Stream,
    Talk,
)
from bpferry.machine.migration.offer import make_offer
from bpferry.machine.migration.receiving import announce, set_capability
from bpferry.machine.saved import of_records

FD_NAME: Final = "moving"

NO_LIMIT: Final = 1 << 50
"""Bytes per second. QEMU's default is 128 MiB/s; here, ssh and the network are the limit."""

POLL_SECONDS: Final = 0.1
"""How often QEMU is asked how far it is. That the VM is there is not noticed by this."""

LOAD_SECONDS: Final = 300.0
"""For the other side to read what is on its way, and to let the guest run. It takes a moment, and
the guest stands still meanwhile."""

EXPLAIN_SECONDS: Final = 10.0
"""For the other side to say why it does not read any more."""

TOLD_SECONDS: Final = 5.0
"""For the command to ask once more, and learn that the VM is there, before it ends here."""

OVER: Final = ("completed", "failed", "cancelled", "none", "")
"""States of a migration in which QEMU does nothing more about it."""

HERE: Final = "it stays on this host"

MAX_WARNINGS: Final = 16
"""Of the other host; a reply has no room for many."""


class Move:
    """One attempt."""

    def __init__(self, vm: RunningVm, host: str, sock: socket.socket) -> None:
        """Take over *sock*."""
        self._vm = vm
        self._host = host
        self._sock = sock
        self._talk = Talk(sock.fileno(), sock.fileno())
        self._paused = vm.state is State.PAUSED
        self._task: asyncio.Task[None] | None = None
        self._phase = "connecting"
        self._error: BpferryError | None = None
        self._streams = False
        self._committed = False
        self._cancelled = False
        self._arrived: Runs | None = None
        self._warnings: tuple[str, ...] = ()
        self._numbers: dict[str, object] = {}
        self._still_s: float | None = None
        self._was_told = asyncio.Event()

    @property
    def is_active(self) -> bool:
        """Whether it goes on."""
        return self._task is not None and not self._task.done()

    def begin(self) -> None:
        """Begin, besides everything else."""
        self._task = self._vm.begin(self._run())

    def cancel(self) -> None:
        """Give up, unless the VM has left already."""
        if self._task is not None and not (self._committed or self._cancelled):
            self._cancelled = True
            self._task.cancel()

    def told(self) -> dict[str, object]:
        """Return how far it is."""
        if self._arrived is not None:
            self._was_told.set()
        error = self._error
        return {
            "active": self.is_active and self._arrived is None,
            "phase": self._phase,
            "paused": self._paused,
            "warnings": [_one_line(text) for text in self._warnings[:MAX_WARNINGS]],
            "error": None
            if error is None
            else {
                "code": _one_line(error.code),
                "message": _one_line(error.message),
                "hint": _one_line(error.hint),
            },
            "pid": None if self._arrived is None else self._arrived.pid,
            "kept_by": None if self._arrived is None else _one_line(self._arrived.kept_by),
            **self._numbers,
        }

    async def _run(self) -> None:
        try:
            await self._go()
        except asyncio.CancelledError:
            if not self._cancelled:
                raise
            self._error = BpferryError(f"the move was cancelled; {HERE}")
        except BpferryError as error:
            self._error = error
        finally:
            self._sock.close()
        if self._error is not None:
            await self._stay()
            self._vm.record.note(f"'{self._vm.name}' has not moved: {self._error.message}")

    async def _go(self) -> None:
        """Do all of it; afterwards QEMU ends here."""
        try:
            await self._prepare()
            await self._stream()
        except Broken as error:
            raise BpferryError(
                f"the connection to '{self._host}' ended before '{self._vm.name}' was there: "
                f"{error.message}; {HERE}",
                "see what ssh has said; the log there: bpferry log " + shlex.quote(self._vm.name),
            ) from error
        except Refusal as error:
            raise self._refused(error) from error
        await self._hand_over()
        self._phase = "there"
        text = f"'{self._vm.name}' is now at '{self._host}': stopping QEMU here"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TOLD_SECONDS):
                await self._was_told.wait()
        self._vm.stopper.quit(text)

    def _refused(self, error: BpferryError) -> BpferryError:
        told = BpferryError(f"at '{self._host}': {error.message}; {HERE}", error.hint)
        told.code = error.code
        return told

    async def _prepare(self) -> None:
        """Let the other side make everything, and compare."""
        vm, talk = self._vm, self._talk
        await talk.be_greeted()
        self._phase = "preparing"
        offer = make_offer(
            vm.prepared,
            paused=self._paused,
            links=changed_links(vm),
            asleep=vm.asleep,
            stop_seconds=vm.stopper.seconds,
        )
        await talk.tell(offer)
        ready = await talk.hear(Ready)
        ours = await gather(vm.need_monitor(), [card.id for card in offer.cards])
        check_devices(ours, ready.devices, self._host)
        self._warnings = (*ready.warnings, *uncompared(ours, ready.devices))
        if vm.stopper.begun:
            raise NotReady(f"'{vm.name}' has been told to stop meanwhile")

    async def _stream(self) -> None:
        """Let QEMU write its stream, and return when the other side has all of it."""
        vm, monitor = self._vm, self._vm.need_monitor()
        await self._talk.tell(Stream())
        self._phase, self._streams = "copying", True
        vm.state = State.MOVING
        await set_capability(monitor, "auto-converge")
        await vm.ask_qemu("migrate-set-parameters", {"max-bandwidth": NO_LIMIT})
        await vm.give_fd(FD_NAME, self._sock.fileno())
        await vm.ask_qemu("migrate", {"uri": f"fd:{FD_NAME}"})
        loaded = asyncio.ensure_future(self._talk.hear(Loaded))
        try:
            await self._follow(loaded)
            async with asyncio.timeout(LOAD_SECONDS):
                await loaded
        except TimeoutError as error:
            raise BpferryError(
                f"'{self._host}' has not read the VM within {LOAD_SECONDS:g} s; {HERE}"
            ) from error
        finally:
            loaded.cancel()
            # The connection is closed next, and nobody may wait for it any more.
            await asyncio.wait({loaded})

    async def _follow(self, loaded: "asyncio.Future[Loaded]") -> None:
        """Return when QEMU has written everything.

        Raises:
            BpferryError: it cannot, the other side cannot, or the VM is to stop.
        """
        status = "active"
        while status != "completed":
            await asyncio.wait({loaded}, timeout=POLL_SECONDS)
            if loaded.done() and loaded.exception() is not None:
                # Its words are better than QEMU's about the connection that it closes.
                await loaded
            answer = await self._ask()
            status = str(answer.get("status", ""))
            if status in ("failed", "cancelled"):
                await self._explain(loaded, str(answer.get("error-desc", "it does not say why")))
            if self._vm.stopper.begun:
                raise NotReady(f"'{self._vm.name}' has been told to stop meanwhile")
        self._phase = "handing over"
        self._still_s = time.monotonic()

    async def _explain(self, loaded: "asyncio.Future[Loaded]", words: str) -> None:
        """Raise why QEMU could not write: what the other side says, if it says something."""
        await asyncio.wait({loaded}, timeout=EXPLAIN_SECONDS)
        if loaded.done():
            await loaded
        raise QemuError(f"QEMU cannot send the VM: {words}; {HERE}")

    async def _ask(self) -> Mapping[str, object]:
        """Return what QEMU says of the migration, and keep the numbers."""
        said = await self._vm.need_monitor().execute("query-migrate")
        answer = said if isinstance(said, dict) else {}
        memory = of_records(answer, "ram")
        for name in ("transferred", "remaining", "total"):
            self._numbers[name] = memory.get(name)
        self._numbers["expected_downtime_ms"] = answer.get("expected-downtime")
        self._numbers["qemu_downtime_ms"] = answer.get("downtime")
        return answer

    async def _hand_over(self) -> None:
        """Let the guest run there, and not here any more.

        Raises:
            BpferryError: it does not, or that is not known.
        """
        self._committed = True
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                await self._talk.tell(Run())
                self._arrived = await self._talk.hear(Runs)
        except Refusal as error:
            self._committed = False
            raise self._refused(error) from error
        except (Broken, TimeoutError) as error:
            raise self._unknown() from error
        downtime = self._numbers.get("qemu_downtime_ms")
        since = 0 if self._still_s is None else time.monotonic() - self._still_s
        whole = int(since * 1000) + (downtime if isinstance(downtime, int) else 0)
        self._numbers["downtime_ms"] = whole

    def _unknown(self) -> BpferryError:
        name = shlex.quote(self._vm.name)
        return BpferryError(
            f"the connection to '{self._host}' ended while '{self._vm.name}' was handed over, so "
            "it is not known whether it runs there; it is paused here",
            f"look there: bpferry list; if it runs there, end it here: bpferry stop --force {name};"
            f" only if it does not, resume it here: bpferry resume {name}",
        )

    async def _stay(self) -> None:
        """Let the guest go on here, unless it may run there."""
        vm = self._vm
        if not self._streams:
            return
        with contextlib.suppress(BpferryError):
            if not self._committed:
                await self._stop_stream()
        if vm.state is State.MOVING:
            vm.state = State.PAUSED
        with contextlib.suppress(BpferryError):
            if self._committed or self._paused:
                return
            if await vm.need_monitor().run_state() != "running":
                await vm.ask_qemu("cont")
                await announce(vm.need_monitor())
            if vm.state is State.PAUSED:
                vm.state = State.RUNNING

    async def _stop_stream(self) -> None:
        await self._vm.ask_qemu("migrate_cancel")
        async with asyncio.timeout(LOAD_SECONDS):
            over = False
            while not over:
                await asyncio.sleep(POLL_SECONDS)
                over = str((await self._ask()).get("status", "")) in OVER


def _one_line(text: str) -> str:
    """Return *text*, which the other host may have chosen, for a reply and for a terminal."""
    return shortened(harmless(shortened(text), kept=""))
