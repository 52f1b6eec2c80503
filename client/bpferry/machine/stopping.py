# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a VM that runs is stopped: through its guest, and in a harder way if that takes too long.

    the first signal    the guest's power button, and again every ten seconds, since a guest that
                        still boots does not notice; after the time limit, as the second
    the second          QEMU is told to end, and after some seconds the same as the third
    the third           QEMU is killed

What ends a session or a service often sends several signals for one wish: systemd sends SIGTERM and
SIGHUP to all processes of a session, timeout(1) sends SIGTERM twice, and when a terminal is closed
the kernel and the shell send SIGHUP. So SIGHUP asks the guest and never counts as another signal,
nor does a SIGTERM right after another.

While a VM is saved, its guest has to stand still: it is not asked, the VM ends when it is saved. If
the save fails or is cancelled, the guest is asked then, with all of its time.
"""

import asyncio
import contextlib
import enum
import signal
from collections.abc import Callable, Coroutine
from typing import Final

from bpferry.errors import QemuError
from bpferry.machine.reporter import Reporter
from bpferry.qemu.monitor import CommandRefused, Monitor

QUIT_SECONDS: Final = 5.0
"""QEMU ends in some milliseconds when told to, unless a disk does not answer."""

PRESS_SECONDS: Final = 10.0
"""Between two presses of the power button. A guest that shuts down already ignores the others."""

SAME_SECONDS: Final = 1.0
"""Within which a second SIGTERM is for the same wish."""

AGAIN: Final = {
    signal.SIGINT: "press Ctrl-C again to stop QEMU",
    signal.SIGTERM: f"another SIGTERM, {SAME_SECONDS:g} s later or more, stops QEMU",
}
"""How to go on after the first of a signal."""

FORCE: Final = "'bpferry stop --force' ends it at once"
"""The same after SIGHUP, which never counts."""


ASLEEP: Final = "suspended"
"""The state of QEMU in which a guest sleeps, and sees its power button only once it is awake."""

PAUSED: Final = ("paused", "io-error", "watchdog")
"""States of QEMU in which a guest can be continued."""

DEAD: Final = ("guest-panicked", "internal-error")
"""States of QEMU in which the guest never notices a power button."""


class Step(enum.IntEnum):
    """How far a VM is on its way to its end."""

    NONE = 0
    POWER_DOWN = 1
    QUIT = 2
    KILL = 3


class Stopper:
    """Stops one QEMU, one step after the other. The event loop has to run."""

    def __init__(
        self,
        reporter: Reporter,
        begin: Callable[[Coroutine[None, None, None]], object],
        stops: Callable[[float | None], None],
        kill: Callable[[], None],
        seconds: float | None,
    ) -> None:
        """Stop nothing yet.

        Args:
            reporter: is told each step.
            begin: starts work that goes on beside everything else.
            stops: is called with the time limit when somebody wants QEMU to end, and with another
                one if that changes.
            kill: kills QEMU.
            seconds: the time limit of the guest; None if there is no limit.
        """
        self._reporter = reporter
        self._begin = begin
        self._stops = stops
        self._kill = kill
        self._seconds = seconds
        self._signals = 0
        self._last_term = -SAME_SECONDS
        self._timer: asyncio.TimerHandle | None = None
        self._limit: float | None = None
        self._again = FORCE
        self._may_ask = asyncio.Event()
        self._may_ask.set()
        self.monitor: Monitor | None = None
        """As soon as QEMU answers."""
        self.step = Step.NONE
        self.is_arriving = False
        """Whether the guest is somewhere else until it may run here."""

    @property
    def seconds(self) -> float | None:
        """The time limit of the guest; None if there is no limit."""
        return self._seconds

    @property
    def begun(self) -> bool:
        """Whether QEMU is to end."""
        return self.step > Step.NONE

    @property
    def killed(self) -> bool:
        """Whether QEMU was killed, since that was asked for or since it did not stop."""
        return self.step is Step.KILL

    def signalled(self, number: signal.Signals) -> None:
        """Do what a signal asks for."""
        if number is signal.SIGHUP:
            if not self.begun:
                self.power_down()
            return
        now = asyncio.get_running_loop().time()
        if number is signal.SIGTERM:
            before, self._last_term = self._last_term, now
            if now - before < SAME_SECONDS:
                return
        self._signals += 1
        if self._signals == 1:
            self.power_down(again=AGAIN.get(number, FORCE))
        elif self._signals == int(Step.QUIT):
            self.quit()
        else:
            self.kill()

    def power_down(self, seconds: float | None = None, again: str = FORCE) -> None:
        """Press the guest's power button; end QEMU after *seconds*, or after the usual limit.

        If the button was pressed already, only the limit is another one.
        """
        if self.monitor is None or self.is_arriving:
            self._end_early()
        elif self.step <= Step.POWER_DOWN:
            self._limit = self._seconds if seconds is None else seconds
            self._again = again
            self._tell("have already asked" if self.begun else "asked")
            if not self.begun:
                self._begin(self._press(self.monitor))
            self.step = Step.POWER_DOWN
            self._stops(self._limit)
            self._after(self._limit, self._too_late, self._limit)

    def hold(self) -> None:
        """Leave the guest alone from now on: it is paused, and must not go on."""
        self._may_ask.clear()

    def let_go(self) -> None:
        """Ask the guest again, and first for what came meanwhile."""
        was_held = not self._may_ask.is_set()
        self._may_ask.set()
        if was_held and self.step is Step.POWER_DOWN:
            self._tell("asked")
            self._after(self._limit, self._too_late, self._limit)

    def _tell(self, asked: str) -> None:
        within = "" if self._limit is None else f", within {self._limit:g} s"
        if self._may_ask.is_set():
            what = f"{asked} the guest to power down{within}"
        else:
            what = f"the VM is being saved, and ends as soon as it is{within}"
        self._reporter.note(f"{what}; {self._again}")

    def quit(self, words: str = "stopping QEMU") -> None:
        """Tell the user *words*, and QEMU to end; kill it if it does not."""
        if self.monitor is None:
            self._end_early()
        elif self.step < Step.QUIT:
            self.step = Step.QUIT
            self._stops(0)
            self._reporter.note(words)
            self._begin(_quietly(self.monitor.quit()))
            self._after(QUIT_SECONDS, self.kill)

    def kill(self) -> None:
        """Kill QEMU."""
        self.step = Step.KILL
        self._stops(0)
        self._after(None, self.kill)
        self._kill()

    def close(self) -> None:
        """Forget all time limits."""
        self._after(None, self.kill)

    async def _press(self, monitor: Monitor) -> None:
        """Press the power button until the guest powers down, and let it see that."""
        with contextlib.suppress(QemuError):
            while self.step is Step.POWER_DOWN:
                await self._may_ask.wait()
                await monitor.power_down()
                state = await monitor.run_state()
                if state in PAUSED:
                    await self._try(monitor, "cont")
                elif state == ASLEEP:
                    await self._try(monitor, "system_wakeup")
                elif state in DEAD:
                    self.quit("the guest has crashed and cannot power down: stopping QEMU")
                await asyncio.sleep(PRESS_SECONDS)

    async def _try(self, monitor: Monitor, command: str) -> None:
        """Let the guest go on; if it cannot, it is tried again with the next press."""
        try:
            await monitor.execute(command)
        except CommandRefused as error:
            self._reporter.note(f"the guest cannot see its power button: {error.message}")

    def _end_early(self) -> None:
        if not self.begun:
            self._reporter.note("stopping QEMU, which has not started the VM yet")
            self.kill()

    def _too_late(self, seconds: float) -> None:
        what = "the guest did not power down" if self._may_ask.is_set() else "the VM was not saved"
        self.quit(f"{what} within {seconds:g} s: stopping QEMU")

    def _after(self, seconds: float | None, act: Callable[..., None], *values: object) -> None:
        """Do *act* after *seconds*, in place of what a former call was about."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, act, *values)


async def _quietly(work: Coroutine[None, None, None]) -> None:
    """Do *work*; if it fails, QEMU stays or is already gone, which shows anyway."""
    with contextlib.suppress(QemuError):
        await work
