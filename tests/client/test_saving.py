# SPDX-License-Identifier: LGPL-2.1-or-later
"""What happens while a VM is saved: stops, failures, files that others make."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from bpferry.domain.model.cards import Card
from bpferry.domain.model.machine import Machine
from bpferry.domain.remaining import without_entry
from bpferry.errors import BadInput, BpferryError, NotReady
from bpferry.machine import saved, stopping
from bpferry.machine.control.hot_plug import operations as hot_plug
from bpferry.machine.control.life import RunningVm
from bpferry.machine.control.links import changed_links, restore_links, set_link
from bpferry.machine.control.operations import operations
from bpferry.machine.control.save_file import SaveFile
from bpferry.machine.control.saving import Saving
from bpferry.machine.control.snapshots import Snapshots
from bpferry.machine.control.states import State
from bpferry.machine.incoming import open_saved
from bpferry.machine.saved import Header, Image
from bpferry.machine.stopping import Stopper
from bpferry.qemu.monitor import CommandRefused
from bpferry_wire.codec import Fields

MACHINE = Machine(name="t", memory=2**26, cards=(Card(type="user"), Card(type="user")))
HEADER = Header(name="t", qemu="/q", version="10.0", words=(), paused=False, saved_s=1)


class FakeMonitor:
    """Saves for as long as ``status`` says so, and does what it is told otherwise."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.status = "active"
        self.state = "paused"
        self.refuses: set[str] = set()

    async def execute(self, command: str, _arguments: object = None) -> object:
        """Take note of the command."""
        self.commands.append(command)
        await asyncio.sleep(0)
        if command in self.refuses:
            raise CommandRefused(f"refused '{command}'")
        if command == "migrate_cancel" and self.status == "active":
            self.status = "cancelled"
        return {"status": self.status}

    async def add_fd(self, _fd: int) -> int:
        """Take it."""
        return 1

    async def power_down(self) -> None:
        """Take note."""
        await self.execute("system_powerdown")

    async def run_state(self) -> str:
        """Say that it is paused, as QEMU does while it saves."""
        return self.state

    async def quit(self) -> None:
        """Take note."""
        await self.execute("quit")


class Notes:
    """A reporter that keeps what is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        """Keep it."""
        self.said.append(text)


class Scene:
    """A VM that runs, and what it is asked."""

    def __init__(self) -> None:
        self.monitor = FakeMonitor()
        self.notes = Notes()
        self.tasks: list[asyncio.Task[None]] = []
        stopper = Stopper(cast("Any", self.notes), self._begin, self._stops, lambda: None, None)
        stopper.monitor = cast("Any", self.monitor)
        capabilities = SimpleNamespace(qemu="/q", version_text="10.0")
        built = SimpleNamespace(argv=())
        draft = SimpleNamespace(
            capabilities=capabilities, after=lambda _: SimpleNamespace(built=built)
        )
        prepared = SimpleNamespace(document=SimpleNamespace(machine=MACHINE), draft=draft, plans={})
        self.vm = RunningVm(cast("Any", prepared), cast("Any", None), 1, stopper, State.RUNNING)
        self.saving = Saving(self.vm)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        self.tasks.append(asyncio.create_task(work))

    def _stops(self, _seconds: float | None) -> None:
        self.vm.stops()

    async def save(self, path: Path, *, replace: bool = False) -> None:
        """Begin to save."""
        await self.saving.save(Fields({"path": str(path), "replace": replace}, "the request"))

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait for something that has to come."""
        async with asyncio.timeout(60):
            while not done():  # noqa: ASYNC110 - it may be anything
                await asyncio.sleep(0.01)

    async def told(self) -> dict[str, object]:
        """Return what is said of the save."""
        return dict((await self.saving.saving(Fields({}, "the request"))).fields)


def perform(work: Callable[[Scene], Coroutine[None, None, None]]) -> Scene:
    """Do *work* with a VM, and return it."""
    scenes = []

    async def main() -> None:
        scenes.append(scene := Scene())
        await work(scene)
        scene.vm.stopper.close()

    asyncio.run(main())
    return scenes[0]


def test_a_vm_that_is_stopped_while_it_is_saved_ends_when_it_is_saved(tmp_path: Path) -> None:
    """Its guest is not asked before: it would go on, and change disks behind the file."""

    async def work(scene: Scene) -> None:
        await scene.save(tmp_path / "saved")
        scene.vm.stopper.power_down(90)
        await asyncio.sleep(0.3)
        assert "cont" not in scene.monitor.commands
        assert "system_powerdown" not in scene.monitor.commands
        assert scene.vm.state is State.SAVING
        scene.monitor.status = "completed"
        await scene.until(lambda: "quit" in scene.monitor.commands)
        scene.saving.finish()

    scene = perform(work)
    assert scene.notes.said[0].startswith(
        "the VM is being saved, and ends as soon as it is, within 90 s; "
    )
    assert "cont" not in scene.monitor.commands
    assert (tmp_path / "saved").exists()


def test_a_guest_is_asked_to_power_down_once_the_save_was_cancelled(tmp_path: Path) -> None:
    """It has all of its time from then on."""

    async def work(scene: Scene) -> None:
        await scene.save(tmp_path / "saved")
        scene.vm.stopper.power_down(90)
        await scene.saving.cancel(Fields({}, "the request"))
        await scene.until(lambda: "system_powerdown" in scene.monitor.commands)
        assert scene.vm.state is State.STOPPING

    scene = perform(work)
    assert scene.monitor.commands.index("cont") < scene.monitor.commands.index("system_powerdown")
    assert scene.notes.said[-1].startswith("asked the guest to power down, within 90 s; ")
    assert not list(tmp_path.iterdir())


def test_a_save_that_takes_longer_than_a_stop_may_is_told_as_such(tmp_path: Path) -> None:
    """The guest was never asked."""

    async def work(scene: Scene) -> None:
        await scene.save(tmp_path / "saved")
        scene.vm.stopper.power_down(0.05)
        await scene.until(lambda: "quit" in scene.monitor.commands)
        scene.saving.finish()

    scene = perform(work)
    assert "the VM was not saved within 0.05 s: stopping QEMU" in scene.notes.said
    assert "cont" not in scene.monitor.commands


def test_a_guest_does_not_go_on_for_the_moments_until_qemu_ends(tmp_path: Path) -> None:
    """`stop --force` ends it, and the save that fails by that lets nothing continue."""

    async def work(scene: Scene) -> None:
        await scene.save(tmp_path / "saved")
        scene.vm.stopper.quit()
        scene.monitor.status = "failed"
        await scene.until(lambda: not list(tmp_path.iterdir()))
        assert scene.vm.state is State.STOPPING

    assert "cont" not in perform(work).monitor.commands


def test_a_cancellation_that_comes_before_the_migration_is_kept(tmp_path: Path) -> None:
    """QEMU has nothing to cancel then, and would begin all the same."""

    async def work(scene: Scene) -> None:
        scene.monitor.status = ""
        save = asyncio.create_task(scene.save(tmp_path / "saved"))
        await scene.until(lambda: "stop" in scene.monitor.commands)
        await scene.saving.cancel(Fields({}, "the request"))
        await save
        scene.monitor.status = "active"
        await scene.until(lambda: scene.vm.state is not State.SAVING)
        assert (await scene.told())["error"] == "it was cancelled"

    assert "cont" in perform(work).monitor.commands


def test_a_guest_that_cannot_go_on_is_told(tmp_path: Path) -> None:
    """Otherwise the VM stays paused, and nobody knows why."""

    async def work(scene: Scene) -> None:
        scene.monitor.refuses.add("cont")
        await scene.save(tmp_path / "saved")
        scene.monitor.status = "failed"
        await scene.until(lambda: bool(scene.saving._error))
        told = await scene.told()
        assert told["active"] is False
        assert str(told["error"]).endswith(
            "; and the guest does not go on: refused 'cont'; try: bpferry resume t"
        )
        assert scene.vm.state is State.PAUSED

    perform(work)


def test_a_guest_that_cannot_go_on_after_a_refused_migration_is_told(tmp_path: Path) -> None:
    """With the reason of the refusal."""

    async def work(scene: Scene) -> None:
        scene.monitor.refuses |= {"cont", "migrate-set-parameters"}
        with pytest.raises(BpferryError, match=r"'migrate-set-parameters'; and the guest does not"):
            await scene.save(tmp_path / "saved")

    perform(work)


def test_a_guest_that_slept_sleeps_again_after_a_failed_save(tmp_path: Path) -> None:
    """QEMU sends the same event as for one that runs."""

    async def work(scene: Scene) -> None:
        scene.vm.follow("SUSPEND")
        await scene.save(tmp_path / "saved")
        scene.vm.follow("STOP")
        scene.monitor.status = "failed"
        await scene.until(lambda: "cont" in scene.monitor.commands)
        scene.vm.follow("RESUME")
        states = [str(scene.vm.state)]
        scene.vm.follow("WAKEUP")
        assert [*states, str(scene.vm.state)] == ["suspended", "running"]

    perform(work)


@pytest.mark.parametrize("event", ["RESUME", "WAKEUP", "SUSPEND", "GUEST_PANICKED"])
def test_a_vm_that_was_told_to_end_stays_one_that_ends(event: str) -> None:
    """A guest that is paused continues for its power button, and that is not a VM that runs."""

    async def work(scene: Scene) -> None:
        scene.vm.stopper.power_down(90)
        scene.vm.follow(event)
        assert scene.vm.state is State.STOPPING

    perform(work)


def test_a_guest_that_shuts_down_and_is_reset_runs() -> None:
    """Nobody told the VM to end."""

    async def work(scene: Scene) -> None:
        scene.vm.follow("SHUTDOWN")
        scene.vm.follow("RESUME")
        assert scene.vm.state is State.RUNNING

    perform(work)


@pytest.mark.parametrize("op", ["attach-nic", "detach-nic", "set-link", "detach-disk"])
def test_devices_stay_while_the_vm_is_saved(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file would be of another VM than the description."""
    parts = ("operations.Holdings", "operations.Places", "cards.Cards", "disks.Disks")
    for name in parts:
        monkeypatch.setattr(f"bpferry.machine.control.hot_plug.{name}", lambda *_: None)
    fields = {
        "attach-nic": {
            "card": '{"type": "user"}',
            "source": "s",
            "xml": False,
            "require-ebpf": False,
        },
        "detach-nic": {"card": "net0", "seconds": 1},
        "set-link": {"card": "net0", "up": False},
        "detach-disk": {"target": "vda", "seconds": 1},
    }[op]

    async def work(scene: Scene) -> None:
        scene.vm.state = State.SAVING
        prepared = cast("Any", scene.vm.prepared)
        prepared.built = SimpleNamespace(devices=())
        prepared.draft.context = None
        with pytest.raises(NotReady, match="'t' is being saved"):
            await hot_plug.HotPlug(scene.vm).operations()[op](Fields(fields, "the request"))

    perform(work)


def test_no_snapshot_is_taken_while_the_vm_is_saved() -> None:
    """QEMU has given up the disks, and would say so in its own words."""

    async def work(scene: Scene) -> None:
        scene.vm.state = State.SAVING
        with pytest.raises(NotReady, match="'t' is being saved"):
            await Snapshots(scene.vm).take(Fields({"tag": "a"}, "the request"))

    perform(work)


def test_a_vm_is_not_saved_while_a_device_is_plugged_in(tmp_path: Path) -> None:
    """It may have it or not when QEMU begins to write."""

    async def work(scene: Scene) -> None:
        async with scene.vm.plugging:
            with pytest.raises(NotReady, match="a device is being plugged in"):
                await scene.save(tmp_path / "saved")

    perform(work)


def test_a_vm_with_a_link_that_was_taken_down_is_saved_with_it(tmp_path: Path) -> None:
    """QEMU saves the links of most models, and the file has those that the description has not."""

    async def work(scene: Scene) -> None:
        vm = scene.vm
        await restore_links(vm, {"net1": "down"})
        assert changed_links(vm) == {"net1": "down"}
        assert [card.link for card in vm.machine.cards] == ["up", "down"]
        await scene.save(tmp_path / "saved")
        scene.monitor.status = "completed"
        await scene.until(lambda: "quit" in scene.monitor.commands)
        scene.saving.finish()

    perform(work)
    with open_saved(str(tmp_path / "saved"), "t") as found:
        assert found.header.links == {"net1": "down"}
        assert not found.header.asleep


def test_a_guest_that_sleeps_is_woken_to_see_its_power_button() -> None:
    """Its processors do not run."""

    async def work(scene: Scene) -> None:
        scene.monitor.state = "suspended"
        scene.vm.stopper.power_down(90)
        await scene.until(lambda: "system_wakeup" in scene.monitor.commands)
        assert "cont" not in scene.monitor.commands

    perform(work)


def test_a_guest_that_cannot_go_on_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that was full may have room by then."""
    monkeypatch.setattr(stopping, "PRESS_SECONDS", 0.01)

    async def work(scene: Scene) -> None:
        scene.monitor.refuses.add("cont")
        scene.vm.stopper.power_down(90)
        await scene.until(lambda: scene.monitor.commands.count("system_powerdown") > 2)

    assert "the guest cannot see its power button: refused 'cont'" in perform(work).notes.said


@pytest.mark.parametrize("op", ["pause", "resume", "reset"])
def test_a_vm_that_is_still_starting_is_not_continued(op: str) -> None:
    """Its guest would run before its processors, links and threads are as described."""

    async def work(scene: Scene) -> None:
        scene.vm.state = State.STARTING
        with pytest.raises(NotReady, match="'t' is still starting"):
            await operations(scene.vm)[op](Fields({}, "the request"))
        assert scene.monitor.commands == []

    perform(work)


def test_a_card_that_went_while_its_link_was_set_is_no_matter() -> None:
    """QEMU has done it, and there is nothing to note any more."""

    async def work(scene: Scene) -> None:
        vm = scene.vm
        setting = asyncio.create_task(set_link(vm, "net0", up=False))
        await scene.until(lambda: "set_link" in scene.monitor.commands)
        vm.machine = msgspec.structs.replace(vm.machine, cards=without_entry(vm.machine.cards, 0))
        await setting
        assert [card.link for card in vm.machine.cards] == ["up"]

    perform(work)


def test_the_end_of_a_vm_does_not_wait_for_a_save_that_begins(tmp_path: Path) -> None:
    """QEMU answers no more, and the file is removed."""

    async def work(scene: Scene) -> None:
        asked = asyncio.Event()

        async def hang(command: str, _arguments: object = None) -> None:
            scene.monitor.commands.append(command)
            asked.set()
            await asyncio.Event().wait()

        cast("Any", scene.monitor).execute = hang
        save = asyncio.create_task(scene.save(tmp_path / "saved"))
        await asked.wait()
        scene.saving.finish()
        save.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await save
        assert scene.monitor.commands == ["stop"]

    perform(work)
    assert not list(tmp_path.iterdir())


# -- The file


def written(path: Path, *, replace: bool = False) -> SaveFile:
    """Return a file that QEMU has written."""
    file = SaveFile(path, replace=replace)
    file.start(HEADER)
    file.written = True
    return file


def test_a_file_that_somebody_made_meanwhile_is_kept(tmp_path: Path) -> None:
    """Without --force; the saved VM is then in the other file, and can be restored."""
    path = tmp_path / "saved"
    file = written(path)
    path.write_text("precious")
    with pytest.raises(BpferryError, match="somebody else has made that file meanwhile"):
        file.finish({})
    assert path.read_text() == "precious"
    with open_saved(f"{path}.part", "t"):
        pass


def test_without_hard_links_a_file_of_somebody_else_is_kept_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on FAT."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    written(tmp_path / "one").finish({})
    assert [one.name for one in tmp_path.iterdir()] == ["one"]
    file = written(tmp_path / "two")
    (tmp_path / "two").write_text("precious")
    with pytest.raises(BpferryError, match="somebody else has made that file meanwhile"):
        file.finish({})
    assert (tmp_path / "two").read_text() == "precious"


def test_with_force_the_file_is_replaced(tmp_path: Path) -> None:
    """Whoever made it."""
    path = tmp_path / "saved"
    file = written(path, replace=True)
    path.write_text("old")
    file.finish({"/d": Image(1, 2)})
    assert [one.name for one in tmp_path.iterdir()] == ["saved"]
    assert path.read_bytes().startswith(saved.MAGIC)


def test_a_link_that_leads_nowhere_is_there_already(tmp_path: Path) -> None:
    """It would be found out after the VM has ended."""
    (tmp_path / "saved").symlink_to("nowhere")
    with pytest.raises(NotReady, match="it is there already"):
        SaveFile(tmp_path / "saved", replace=False)


def test_a_short_write_of_the_header_is_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel may write less than it is given."""
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:1000], at))
    path = tmp_path / "saved"
    with path.open("wb") as file:
        saved.write_header(file.fileno(), msgspec.structs.replace(HEADER, complete=True))
    monkeypatch.undo()
    assert path.stat().st_size == saved.HEADER_BYTES
    with open_saved(str(path), "t") as found:
        assert found.header.name == "t"


def test_a_file_that_is_not_complete_is_not_restored(tmp_path: Path) -> None:
    """Nothing in it says how the disks were."""
    file = written(tmp_path / "saved")
    with (
        pytest.raises(BadInput, match="was not saved to the end"),
        open_saved(f"{tmp_path}/saved.part", "t"),
    ):
        pass
    file.remove()


def test_what_is_not_a_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    """A FIFO would wait for ever for somebody who writes."""
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, Path("/dev/null")):
        with (
            pytest.raises(BadInput, match="it is not a regular file"),
            open_saved(str(path), "t"),
        ):
            pass


def test_who_asked_hears_of_a_file_that_could_not_be_completed(tmp_path: Path) -> None:
    """Not only the log: the VM's end waits until they have asked."""

    async def work(scene: Scene) -> None:
        await scene.save(tmp_path / "saved")
        scene.monitor.status = "completed"
        await scene.until(lambda: "quit" in scene.monitor.commands)
        (tmp_path / "saved").write_text("of somebody else")
        with pytest.raises(BpferryError) as caught:
            scene.saving.finish()
        telling = asyncio.create_task(scene.saving.tell(caught.value))
        await asyncio.sleep(0)
        assert "somebody else has made that file" in str((await scene.told())["end"])
        await telling

    perform(work)
