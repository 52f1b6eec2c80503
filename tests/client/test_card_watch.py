# SPDX-License-Identifier: LGPL-2.1-or-later
"""When the maps of a card are polled, and what is told of it."""

import asyncio
import contextlib
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from msgspec.structs import replace

from bpferry.errors import QemuError
from bpferry.machine.card_watch import CHANGES, CardWatch, follow
from bpferry.machine.control import record as control_record
from bpferry.machine.reporter import Silent
from bpferry.steering.maps import Steering
from bpferry.steering.plan import CardPlan, Rung
from bpferry.steering.settling import MAX_TOLD, Pace, Watch
from bpferry.steering.toeplitz import HashType
from bpferry.steering.view import Seen
from tests import requires
from tests.client import running
from tests.client.support import Record

PLAN: Final = CardPlan("net0", Rung.EBPF, vhost=False, queues=4, because=())
OFF: Final = Steering(
    redirect=False, hash_types=HashType(0), key=bytes(40), table=(), default_queue=0
)
ON: Final = Steering(
    redirect=True,
    hash_types=HashType.TCPV4,
    key=bytes(40),
    table=(0, 1, 2, 3) * 32,
    default_queue=0,
)
PACE: Final = Pace(quiet_s=0.2, patience_s=0.6)

IDLE_SECONDS: Final = 10


class Maps:
    """Maps in memory that count how often they are read."""

    def __init__(self, steering: Steering) -> None:
        self.steering = steering
        self.reads = 0

    def read(self) -> Steering:
        """Return what they contain."""
        self.reads += 1
        return self.steering


class Sight:
    """A card without a VM."""

    def __init__(self, maps: Maps) -> None:
        self.maps = maps
        self.switched_on: int | None = None
        self.driver = True

    def look(self) -> Seen:
        """Return what is to be seen."""
        return Seen(self.maps.read(), switched_on=self.switched_on)

    async def is_up(self) -> bool:
        """Return what the test says."""
        return self.driver


class Scene:
    """One card that is watched, and what QEMU was asked."""

    def __init__(self, steering: Steering) -> None:
        self.maps = Maps(steering)
        self.sight = Sight(self.maps)
        self.record = Record()
        self._settled = asyncio.Semaphore(0)
        self.asked: list[tuple[str, dict[str, object]]] = []
        self.withdrawn: list[str] = []
        self.watch = CardWatch(PLAN, self.sight, self.record, self.withdrawn.append, PACE)

    async def ask(self, command: str, arguments: dict[str, object]) -> object:
        """Answer as QEMU does."""
        self.asked.append((command, arguments))
        self._settled.release()
        return []

    async def until_settled(self) -> None:
        """Wait until the steering has settled once more: QEMU is asked something then."""
        async with asyncio.timeout(10):
            await self._settled.acquire()

    async def play(self, act: Callable[[], None]) -> None:
        """Watch, *act* when it has settled, and wait until it has settled again."""
        task = asyncio.create_task(self.watch.run(self.ask))
        await self.until_settled()
        act()
        await self.until_settled()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def test_a_settled_card_is_not_looked_at() -> None:
    """Once the steering has settled, nothing is read until something happens."""

    async def count() -> tuple[int, int]:
        scene = Scene(ON)
        task = asyncio.create_task(scene.watch.run(scene.ask))
        await scene.until_settled()
        before = scene.maps.reads
        await asyncio.sleep(0.8)
        task.cancel()
        return before, scene.maps.reads

    before, after = asyncio.run(count())

    assert before == after


@pytest.mark.parametrize("event", sorted(CHANGES))
def test_an_event_makes_it_look_again(event: str) -> None:
    """After a restart, a pause, or when a driver comes up, what is new is told."""
    scene = Scene(OFF)

    def act() -> None:
        scene.maps.steering = ON
        follow("BLOCK_JOB_READY", [scene.watch])
        follow(event, [scene.watch])

    asyncio.run(scene.play(act))

    assert [("net0", ON)] == scene.record.steering


def test_qemu_is_asked_to_tell_of_the_next_driver() -> None:
    """QEMU tells of a card's filter once, and again only after it was asked for it."""
    scene = Scene(ON)
    asyncio.run(scene.play(scene.watch.look_again))

    assert [("query-rx-filter", {"name": "net0"})] * 2 == scene.asked


def test_the_same_warning_is_given_once() -> None:
    """A guest without RSS that is paused and continued every hour does not fill the log."""
    scene = Scene(OFF)
    asyncio.run(scene.play(scene.watch.look_again))

    (warning,) = scene.record.texts("warning")

    assert "the guest has not set RSS up" in warning


def test_a_warning_is_withdrawn_once_it_is_not_true_any_more() -> None:
    """A guest that takes long to boot has its RSS in the end, and `bpferry status` says only so."""
    scene = Scene(OFF)

    def act() -> None:
        assert [] == scene.withdrawn
        scene.maps.steering = ON
        scene.watch.look_again()

    asyncio.run(scene.play(act))

    (warning,) = scene.record.texts("warning")
    (withdrawn,) = scene.withdrawn
    assert warning.startswith(f"{withdrawn} | ")


def test_a_warning_that_stays_true_is_kept() -> None:
    """However often it is looked at."""
    scene = Scene(OFF)
    asyncio.run(scene.play(scene.watch.look_again))

    assert [] == scene.withdrawn


def test_a_withdrawn_warning_leaves_the_others() -> None:
    """And one that was pushed out by later ones meanwhile is no mistake."""
    record = control_record.Record(Silent())
    for text in ("one", "two"):
        record.warn(text)
    record.withdraw("one")
    record.withdraw("one")

    assert ["two"] == list(record.warnings)


def test_queues_that_are_switched_off_are_a_warning_and_nothing_is_said_to_be_steered() -> None:
    """Not even in passing, though the table names all of them."""
    scene = Scene(OFF)

    def act() -> None:
        scene.maps.steering, scene.sight.switched_on = ON, 1
        scene.watch.look_again()

    asyncio.run(scene.play(act))

    assert [] == scene.record.texts("note")
    assert "nothing is steered" in scene.record.texts("warning")[1]


def test_a_reset_is_no_warning() -> None:
    """It switches all queues but one off, and leaves the maps; the driver comes up later."""
    scene = Scene(ON)

    def act() -> None:
        scene.sight.switched_on, scene.sight.driver = 1, False
        follow("RESET", [scene.watch])

    asyncio.run(scene.play(act))

    assert [] == scene.record.texts("warning")
    assert [] == scene.withdrawn
    assert 1 == len(scene.record.texts("note"))


def test_another_warning_is_given_too() -> None:
    """What else is different from the plan is told."""
    scene = Scene(OFF)

    def act() -> None:
        scene.maps.steering = replace(ON, table=(1,) * 128)
        scene.watch.look_again()

    asyncio.run(scene.play(act))

    assert "all entries of the guest's table point at queue 1" in scene.record.texts("warning")[1]


def test_a_qemu_that_cannot_be_asked_changes_nothing() -> None:
    """A card that QEMU does not know any more, or no QEMU, is no reason to end the watch."""
    scene = Scene(ON)

    async def play() -> None:
        async def refuse(command: str, arguments: dict[str, object]) -> object:
            await scene.ask(command, arguments)
            raise QemuError("it has no card 'net0'")

        task = asyncio.create_task(scene.watch.run(refuse))
        await scene.until_settled()
        scene.watch.look_again()
        await scene.until_settled()
        assert not task.done()
        task.cancel()

    asyncio.run(play())


@pytest.mark.qemu
@pytest.mark.privileged
@pytest.mark.slow
def test_an_idle_supervisor_is_never_woken(tmp_path: Path) -> None:
    """A VM whose guest is left alone makes its supervisor do no system call in ten seconds."""
    with running.start(tmp_path, running.BASE + running.DISK) as run:
        assert run.says("hello from the boot sector"), run.err()
        time.sleep(2)

        assert [] == calls_of(run.process.pid, tmp_path / "calls")


def calls_of(pid: int, path: Path) -> list[str]:
    """Return the system calls of the process *pid* and its threads in ten seconds."""
    command = [requires.program("strace"), "-f", "-q", "-p", str(pid), "-o", str(path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as strace:
        time.sleep(IDLE_SECONDS)
        strace.send_signal(signal.SIGINT)
    lines = path.read_text(encoding="utf-8").splitlines()
    # The call in which it waits is shown too, without an end.
    return [line for line in lines if not line.endswith(("<detached ...>", "<unfinished ...>"))]


def test_a_guest_that_changes_its_steering_all_the_time_does_not_fill_the_log() -> None:
    """It is told so once, and told of again when it keeps one."""
    record = Record()
    maps = Maps(ON)
    pace = Pace(quiet_s=60, patience_s=0)
    look = Sight(maps).look
    watch = Watch("net0", look, record.note, record.steering_changed, pace)
    for number in range(30):
        maps.steering = replace(ON, table=tuple(range(2 + number % 2)))
        asyncio.run(watch.settle())
    notes = record.texts("note")
    assert len(notes) == MAX_TOLD + 1
    assert notes[-1].startswith("net0: its guest changes the steering again and again; ")
    assert len(record.steering) == 30

    watch._pace = Pace(quiet_s=0, patience_s=60)
    asyncio.run(watch.settle())
    maps.steering = replace(ON, table=(0, 1, 2, 3))
    asyncio.run(watch.settle())
    assert len(record.texts("note")) == MAX_TOLD + 2
