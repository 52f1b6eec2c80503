# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a QEMU is asked before a VM moves: never what would end it."""

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from bpferry.machine.migration.comparison import check_devices, uncompared
from bpferry.machine.migration.devices import gather

if TYPE_CHECKING:
    from bpferry.qemu.monitor import Monitor

FEATURES = {"host-features": {"dev-features": ["VIRTIO_NET_F_RSS: receive-side scaling"]}}


class Answers:
    """A QEMU of one version, which notes what it is asked."""

    def __init__(self, major: int, minor: int) -> None:
        self._version = {"qemu": {"major": major, "minor": minor, "micro": 0}, "package": ""}
        self.asked: list[str] = []

    async def execute(self, command: str, _arguments: dict[str, object] | None = None) -> object:
        """Answer *command*."""
        self.asked.append(command)
        known = {"query-version": self._version, "x-query-virtio-status": FEATURES}
        return known.get(command, [])


@pytest.mark.parametrize(
    ("version", "told"),
    [((7, 2), True), ((10, 0), True), ((10, 1), False), ((11, 1), False)],
)
def test_only_a_qemu_that_survives_it_is_asked_for_features(
    version: tuple[int, int], *, told: bool
) -> None:
    """QEMU 11.1.3 ends by an assertion: the VM that should move would be gone."""
    qemu = Answers(*version)
    devices = asyncio.run(gather(cast("Monitor", qemu), ["net0"]))
    assert ("x-query-virtio-status" in qemu.asked) is told
    assert devices.cards == ({"net0": ("VIRTIO_NET_F_RSS",)} if told else {})
    assert devices.tells_features is told


def test_what_was_not_compared_is_told() -> None:
    """Whichever of the two QEMUs it is about."""
    old, new = (
        asyncio.run(gather(cast("Monitor", Answers(*version)), ["net0"]))
        for version in ((10, 0), (11, 1))
    )
    for here, there in ((old, new), (new, old)):
        check_devices(here, there, "beta")
        (warning,) = uncompared(here, there)
        assert "were not compared" in warning
    assert not list(uncompared(old, old))
