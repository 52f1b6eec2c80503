# SPDX-License-Identifier: LGPL-2.1-or-later
"""What holds for a guest with four queues that the kernel steers, whoever started it."""

from dataclasses import dataclass
from typing import Final

import pytest

from guest.console import Console
from guest.flows import make_flows
from launchers.host import LauncherHost
from steering_demo.play import even_table
from steering_demo.rounds import PACKETS, play_round
from steering_demo.stations import FIRST, HOST, routes
from steering_demo.witness import counted_runs, live_maps
from tests.support.marks import WITH_A_GUEST

FLOWS: Final = 400

STARTS_A_GUEST: Final = (
    *WITH_A_GUEST,
    pytest.mark.usefixtures("nothing_left"),
    pytest.mark.timeout(900),
)
"""The marks of a test in which another launcher starts one."""

READY_S: Final = 400.0
"""A boot takes ten; beside other guests, with a launcher's own programs, it took more than 150."""


@dataclass(frozen=True, slots=True)
class Launched:
    """A VM that another launcher started."""

    console: Console
    pid: int

    def qemu_pid(self) -> int:
        """Return the process id of its QEMU."""
        return self.pid


def check_every_flow(host: LauncherHost, machine: Launched) -> None:
    """Send flows to the guest; each has to come in where we predict, by the kernel's program."""
    machine.console.wait_until_ready(READY_S)
    machine.console.ask("address", ipv4=FIRST.ipv4, ipv6=FIRST.ipv6)
    machine.console.ask("channels", count=FIRST.queues)
    with live_maps(machine.pid) as maps, counted_runs():
        steering = even_table(machine, maps)
        flows = make_flows(FLOWS, routes(HOST, FIRST), 7)
        played = play_round("", host.space, machine, steering, flows)

    assert [] == list(played.mismatches)
    assert FLOWS == sum(played.counted.values())
    assert len(played.counted) == FIRST.queues
    assert played.program_runs >= FLOWS * PACKETS
