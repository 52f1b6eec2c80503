# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a running VM is asked while its QEMU answers late, or the VM is being saved."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bpferry.domain.model.machine import Machine
from bpferry.errors import BadInput, BpferryError, NotReady, QemuError
from bpferry.machine.control import life
from bpferry.machine.control.life import RunningVm
from bpferry.machine.control.operations import operations
from bpferry.machine.control.queues import Queues
from bpferry.machine.control.save_file import SaveFile
from bpferry.machine.control.saving import Saving
from bpferry.machine.control.screen import Screen
from bpferry.machine.control.states import State
from bpferry.steering.plan import CardPlan, Rung
from bpferry_wire.codec import Fields

LATE_SECONDS = 0.2


class LateMonitor:
    """Answers late, and takes no fd."""

    def __init__(self) -> None:
        self.commands: list[str] = []

    async def execute(self, command: str, _arguments: object = None) -> object:
        """Answer what a migration says at its end."""
        self.commands.append(command)
        await asyncio.sleep(LATE_SECONDS)
        return {"status": "completed"}

    async def add_fd(self, _fd: int) -> int:
        """Never answer."""
        await asyncio.Event().wait()
        raise AssertionError


@pytest.fixture
def monitor() -> LateMonitor:
    """Return the monitor of ``vm``."""
    return LateMonitor()


@pytest.fixture
def vm(monitor: LateMonitor, monkeypatch: pytest.MonkeyPatch) -> RunningVm:
    """Return a VM whose QEMU answers later than it is waited for."""
    monkeypatch.setattr(life, "QEMU_SECONDS", LATE_SECONDS / 4)
    document = SimpleNamespace(machine=Machine(name="t", memory=2**26))
    quits: list[str] = []
    stopper = SimpleNamespace(monitor=monitor, quit=quits.append, quits=quits)
    plan = CardPlan("net0", Rung.NONE, vhost=False, queues=1, because=())
    prepared = SimpleNamespace(document=document, plans={"net0": plan})
    return RunningVm(cast("Any", prepared), cast("Any", None), 1, cast("Any", stopper))


def test_a_slow_disk_does_not_break_off_a_save(vm: RunningVm, tmp_path: Path) -> None:
    """QEMU answers nothing while it waits for the disk; the guest would go on without a file."""
    work = Saving(vm)
    file = SaveFile(tmp_path / "saved", replace=False)
    work._file = file
    asyncio.run(work._follow(State.RUNNING))
    assert file.written
    assert cast("Any", vm.stopper).quits == ["the VM is saved: stopping QEMU"]
    file.remove()


def test_a_screenshot_of_a_vm_that_hangs_ends(vm: RunningVm) -> None:
    """Or each would keep a connection for ever, until none is left for ``bpferry stop``."""

    async def shoot() -> None:
        async with asyncio.timeout(5):
            await Screen(vm).shoot(Fields({}, "the request"))

    with pytest.raises(QemuError, match="did not answer 'add-fd'"):
        asyncio.run(shoot())


@pytest.mark.parametrize("op", ["pause", "resume", "reset"])
def test_a_vm_that_is_being_saved_cannot_be_continued(
    vm: RunningVm, monitor: LateMonitor, op: str
) -> None:
    """Its guest would change disks after the file says how they are."""
    vm.state = State.SAVING

    async def ask() -> None:
        await operations(vm)[op](Fields({}, "the request"))

    with pytest.raises(NotReady, match="'t' is being saved"):
        asyncio.run(ask())
    assert monitor.commands == []


def test_a_file_that_cannot_be_looked_at_is_named(tmp_path: Path) -> None:
    """A path that is too long, for one, is an error of its own."""
    with pytest.raises(BpferryError, match=r"cannot save to '.*': File name too long"):
        SaveFile(tmp_path / ("x" * 300), replace=False)


def test_a_folder_that_is_not_there_is_to_be_made(tmp_path: Path) -> None:
    """Whoever mistyped it is told more than that it is not there."""
    with pytest.raises(BpferryError, match="No such file or directory") as caught:
        SaveFile(tmp_path / "there" / "saved", replace=False)

    assert caught.value.hint == "create its folder, or choose a path that you may write to"


def test_a_folder_is_no_file_to_save_to(tmp_path: Path) -> None:
    """It would be found out after the VM has ended."""
    with pytest.raises(BadInput, match="it is a folder"):
        SaveFile(tmp_path, replace=True)


def test_steering_of_a_vm_that_hangs_ends(vm: RunningVm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its QEMU may be stopped (SIGSTOP), or wait for a disk."""
    monkeypatch.setattr(Queues, "_from_maps", lambda _queues, card: SimpleNamespace(card_id=card))

    async def ask() -> None:
        async with asyncio.timeout(60):
            await Queues(vm).steering(Fields({"card": "net0"}, "the request"))

    with pytest.raises(QemuError, match="did not answer 'x-query-virtio-queue-status' within"):
        asyncio.run(ask())
