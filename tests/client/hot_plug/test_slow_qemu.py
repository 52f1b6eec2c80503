# SPDX-License-Identifier: LGPL-2.1-or-later
"""Devices that are plugged in while QEMU, its guest or a helper takes long, or says no."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bpferry.domain.model.machine import Machine
from bpferry.errors import NotReady, QemuError
from bpferry.machine.control import life
from bpferry.machine.control.hot_plug import holdings as holdings_module
from bpferry.machine.control.hot_plug import operations
from bpferry.machine.control.hot_plug import steps as steps_module
from bpferry.machine.control.hot_plug.holdings import Holding, Holdings
from bpferry.machine.control.hot_plug.steps import Command, all_or_none
from bpferry.machine.control.hot_plug.threads import in_thread
from bpferry.machine.control.life import RunningVm
from bpferry.machine.control.saving import Saving
from bpferry.machine.control.states import State
from bpferry.qemu.monitor import CommandRefused, Event
from bpferry_wire.codec import Fields

NETDEV = Command("netdev_add", {"id": "n0"})
NO_NETDEV = Command("netdev_del", {"id": "n0"})
DEVICE = Command("device_add", {"id": "net0"})
AFTER = Command("set_link", {"name": "net0"})


class Qemu:
    """A monitor: does one command after the other, some of them late, and has devices."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.refuses: dict[str, str] = {}
        self.awake = asyncio.Event()
        self.awake.set()
        self.sleeps_at = ""
        self.devices: set[str] = set()
        self.lets_go = False
        self.deleted: asyncio.Queue[Event] = asyncio.Queue()
        self._turn = asyncio.Lock()

    async def execute(self, command: str, arguments: Any = None) -> object:  # noqa: ANN401 - JSON
        """Do the command, in its turn."""
        async with self._turn:
            if command == self.sleeps_at:
                self.awake.clear()
            await self.awake.wait()
            if command in self.refuses:
                raise CommandRefused(self.refuses[command])
            if command == "device_del" and arguments["id"] not in self.devices:
                raise CommandRefused(f"Device '{arguments['id']}' not found")
            self.done.append(command)
            if command == "device_add":
                self.devices.add(arguments["id"])
            if command == "device_del" and self.lets_go:
                self.let_go(arguments["id"])
        return {}

    def let_go(self, device_id: str) -> None:
        """Let the guest let go of a device."""
        self.devices.discard(device_id)
        self.deleted.put_nowait(Event("DEVICE_DELETED", {"device": device_id}))

    async def events(self) -> Any:  # noqa: ANN401 - an iterator
        """Yield what is deleted."""
        while True:
            yield await self.deleted.get()


class Scene:
    """A VM, its QEMU, and what was told and forgotten."""

    def __init__(self) -> None:
        self.qemu = Qemu()
        self.said: list[str] = []
        self.forgotten: list[str] = []
        machine = Machine(name="t", memory=2**26)
        prepared = SimpleNamespace(document=SimpleNamespace(machine=machine))
        record = SimpleNamespace(note=self.said.append)
        stopper = SimpleNamespace(monitor=self.qemu, begun=False)
        self.vm = RunningVm(
            cast("Any", prepared), cast("Any", record), 1, cast("Any", stopper), State.RUNNING
        )
        self.holdings = Holdings(self.vm)

    async def forget(self) -> None:
        """Take note."""
        self.forgotten.append("net0")

    async def plug(self) -> None:
        """Plug in a card."""
        async with all_or_none(self.vm, self.holdings) as steps:
            await steps.do(NETDEV, NO_NETDEV)
            await steps.plug(DEVICE, self.forget)
            await steps.do(AFTER)


def perform(work: Callable[[Scene], Coroutine[None, None, None]]) -> Scene:
    """Do *work* with a VM whose events are followed, and return it."""
    scenes = []

    async def main() -> None:
        scenes.append(scene := Scene())
        following = asyncio.create_task(scene.holdings.follow(cast("Any", scene.qemu)))
        async with asyncio.timeout(120):
            await work(scene)
        following.cancel()

    asyncio.run(main())
    return scenes[0]


async def until(done: Callable[[], bool]) -> None:
    """Wait for something that has to come."""
    while not done():  # noqa: ASYNC110 - it may be anything
        await asyncio.sleep(0.01)


def test_what_is_behind_a_device_is_undone_when_the_guest_has_let_go_of_it() -> None:
    """Not before: the guest would have a card without anything behind it."""

    async def work(scene: Scene) -> None:
        scene.qemu.refuses["set_link"] = "no such card"
        scene.qemu.lets_go = True
        with pytest.raises(CommandRefused, match="no such card") as caught:
            await scene.plug()
        assert caught.value.hint == ""

    scene = perform(work)
    assert scene.qemu.done == ["netdev_add", "device_add", "device_del", "netdev_del"]
    assert scene.forgotten == ["net0"]
    assert scene.vm.leftovers == set()


def test_a_device_that_the_guest_keeps_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what is behind it, which goes with it, and the VM cannot be saved until then."""
    monkeypatch.setattr(steps_module, "UNDO_SECONDS", 0.1)
    monkeypatch.setattr(holdings_module, "UNDO_SECONDS", 0.1)

    async def work(scene: Scene) -> None:
        scene.qemu.refuses["set_link"] = "no such card"
        with pytest.raises(CommandRefused, match="no such card") as caught:
            await scene.plug()
        kept = "'net0' stays in the VM until its guest lets go of it, and is taken out then"
        assert caught.value.hint == kept
        assert "netdev_del" not in scene.qemu.done
        fields = Fields({"path": "/saved", "replace": False}, "the request")
        with pytest.raises(NotReady, match="'net0' could not be plugged in"):
            await Saving(scene.vm).save(fields)
        await asyncio.sleep(0.3)
        scene.qemu.let_go("net0")
        await until(lambda: not scene.vm.leftovers and bool(scene.said))

    scene = perform(work)
    assert scene.qemu.done[-1] == "netdev_del"
    assert scene.said == ["'net0' is out of the VM: the guest has let go of it"]


@pytest.mark.parametrize("late", ["netdev_add", "device_add"])
def test_what_qemu_does_late_is_undone(late: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command has been told that it failed."""
    monkeypatch.setattr(steps_module, "CHANGE_SECONDS", 0.1)
    monkeypatch.setattr(steps_module, "UNDO_SECONDS", 0.1)

    async def work(scene: Scene) -> None:
        scene.qemu.sleeps_at = late
        scene.qemu.lets_go = True
        with pytest.raises(QemuError, match=f"did not answer '{late}' within 0.1 s") as caught:
            await scene.plug()
        assert caught.value.hint.startswith("what QEMU does of it later is undone then; ")
        scene.qemu.awake.set()
        await until(lambda: "netdev_del" in scene.qemu.done)

    scene = perform(work)
    assert scene.qemu.devices == set()
    assert scene.vm.leftovers == set()


def test_what_qemu_refuses_late_is_undone_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no device then, for which the guest would have to be waited."""
    monkeypatch.setattr(steps_module, "CHANGE_SECONDS", 0.1)
    monkeypatch.setattr(steps_module, "UNDO_SECONDS", 0.1)

    async def work(scene: Scene) -> None:
        scene.qemu.sleeps_at = "device_add"
        scene.qemu.refuses["device_add"] = "no such ROM"
        with pytest.raises(QemuError, match="did not answer"):
            await scene.plug()
        scene.qemu.awake.set()
        await until(lambda: "netdev_del" in scene.qemu.done)
        await until(lambda: not scene.vm.leftovers)

    assert perform(work).forgotten == ["net0"]


def test_a_device_that_its_guest_has_switched_off_is_given_back() -> None:
    """Before anybody followed that; it would be listed for ever, and could not be taken out."""

    async def work(scene: Scene) -> None:
        scene.holdings.add(Holding("net0", (NO_NETDEV,), scene.forget))
        await scene.holdings.take_out("net0", 60)

    scene = perform(work)
    assert scene.qemu.done == ["netdev_del"]
    assert scene.forgotten == ["net0"]


def test_an_answer_that_comes_late_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """An fd that is sent before QEMU has taken the one before would be taken for that one."""
    monkeypatch.setattr(life, "QEMU_SECONDS", 0.05)

    async def work(scene: Scene) -> None:
        scene.qemu.sleeps_at = "getfd"
        turns: list[str] = []

        async def give_fd(name: str, _fd: int) -> None:
            await scene.qemu.execute("getfd")
            turns.append(name)

        cast("Any", scene.qemu).give_fd = give_fd
        with pytest.raises(QemuError, match="did not answer 'getfd'"):
            await scene.vm.give_fd("one", 1)
        scene.qemu.sleeps_at = ""
        scene.qemu.awake.set()
        await scene.vm.give_fd("two", 1, 60)
        assert turns == ["one", "two"]

    perform(work)


def test_a_device_does_not_wait_for_ever_for_the_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """QEMU may hang in that."""
    monkeypatch.setattr(operations, "TURN_SECONDS", 0.05)
    monkeypatch.setattr(operations, "Places", lambda *_: None)

    async def work(scene: Scene) -> None:
        prepared = cast("Any", scene.vm.prepared)
        prepared.draft, prepared.built = SimpleNamespace(context=None), SimpleNamespace(devices=())
        card = {"card": '{"type": "user"}', "source": "s", "xml": False, "require-ebpf": False}
        attach = operations.HotPlug(scene.vm).operations()["attach-nic"]
        async with scene.vm.plugging:
            with pytest.raises(NotReady, match="another device is being plugged into 't'"):
                await attach(Fields(card, "the request"))
        assert not scene.vm.plugging.locked()

    perform(work)


def test_the_end_of_a_vm_does_not_wait_for_a_helper() -> None:
    """What it gives then is given back."""
    answers, given_back = threading.Event(), threading.Event()

    def ask() -> str:
        assert answers.wait(120)
        return "tap"

    async def attach() -> None:
        asking = asyncio.create_task(in_thread(ask, lambda _: given_back.set()))
        await asyncio.sleep(0.05)
        asking.cancel()

    asyncio.run(attach())
    assert not given_back.is_set()
    answers.set()
    assert given_back.wait(120)


@pytest.mark.parametrize("error", [NotReady("no"), KeyboardInterrupt()])
def test_what_fails_in_a_thread_fails_where_it_is_waited_for(error: BaseException) -> None:
    """As in a function of our own."""

    def fail() -> None:
        raise error

    async def attach() -> None:
        with pytest.raises(type(error)):
            await in_thread(fail, lambda _: None)

    asyncio.run(attach())
