# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processors of the guest that are plugged in before it runs."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from bpferry.errors import QemuError
from bpferry.machine.processors import plug_in
from tests import requires
from tests.client.running import BASE, DISK, start
from tests.client.test_pinning import allowed

if TYPE_CHECKING:
    from bpferry.qemu.monitor import Monitor

PLUGGED = """\
vcpus = 4
vcpus-at-start = 3
vcpu-list = [
    {id = 0, hotpluggable = false},
    {id = 1, enabled = false, hotpluggable = true},
    {id = 2, hotpluggable = true, order = 2},
    {id = 3, hotpluggable = true, order = 1},
]
[cpu]
sockets = 1
cores = 2
threads = 2
[[cpu-tune.vcpus]]
vcpu = 3
processors = "1"
"""


@pytest.mark.qemu
def test_processors_are_there_when_the_guest_runs(tmp_path: Path) -> None:
    """QEMU has a thread for each, under its own number, where the description wants it."""
    requires.processors(2)
    with start(tmp_path, BASE + PLUGGED + DISK) as run:
        qemu = run.qemu()
        assert run.says("hello from the boot sector")
        found = {name: places for name, places in allowed(qemu).items() if "TCG" in name}

    assert {"CPU 0/TCG", "CPU 2/TCG", "CPU 3/TCG"} == set(found)
    assert {frozenset({1})} == found["CPU 3/TCG"]


class Qemu:
    """A monitor of a QEMU that says *places* and keeps what it is told."""

    def __init__(self, places: object) -> None:
        self.places = places
        self.told: list[object] = []

    async def execute(self, command: str, arguments: object = None) -> object:
        """Answer *command*."""
        if command == "query-hotpluggable-cpus":
            return self.places
        self.told.append(arguments)
        return {}


def place(socket: int, core: int) -> dict[str, object]:
    """Return a place for a processor, as QEMU lists it."""
    return {"type": "qemu64-x86_64-cpu", "props": {"core-id": core, "socket-id": socket}}


def test_places_are_numbered_from_the_socket_down() -> None:
    """QEMU lists them the other way around."""
    qemu = Qemu([place(1, 1), place(1, 0), place(0, 1), place(0, 0)])
    asyncio.run(plug_in(cast("Monitor", qemu), (2,)))

    device = {"driver": "qemu64-x86_64-cpu", "id": "vcpu2", "socket-id": 1, "core-id": 0}
    assert [device] == qemu.told


@pytest.mark.parametrize("places", ["nothing", [place(0, 0)]])
def test_places_that_qemu_does_not_have(places: object) -> None:
    """A processor without a place is an error, whatever QEMU says."""
    with pytest.raises(QemuError):
        asyncio.run(plug_in(cast("Monitor", Qemu(places)), (3,)))


def test_nothing_is_asked_where_nothing_is_plugged_in() -> None:
    """A VM without such processors needs no answer."""
    qemu = Qemu("nothing")
    asyncio.run(plug_in(cast("Monitor", qemu), ()))

    assert [] == qemu.told
