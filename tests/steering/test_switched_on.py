# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest whose table names queues that it has not switched on: nobody is told that it is steered.

Linux 6.1 sends the number of queues that it had at boot with each table, so that QEMU detaches the
others from the tap; with one left, the kernel does not run the program.
"""

import json
import subprocess
from typing import Any, Final

import pytest

from guest.build import CACHE, build_guest
from guest.flows import gather_flows, make_flows
from guest.netns import Namespace, bridged
from steering_demo.helpers import activated_helpers
from steering_demo.play import explaining
from steering_demo.rounds import PACKETS, send
from steering_demo.stations import HOST, MTU, SECOND, routes
from steering_demo.vm import DESCRIPTION, client, running_vm
from steering_demo.witness import counted_runs, live_maps, program_runs, wait_for
from steering_demo.workplace import BRIDGE, Workplace, workplace
from tests.support.census import wait_until
from tests.support.marks import WITH_A_GUEST

pytestmark = [*WITH_A_GUEST, pytest.mark.usefixtures("nothing_left")]

ONE_PROCESSOR: Final = DESCRIPTION.replace("vcpus = {station.queues}", "vcpus = 1")

FLOWS: Final = 100

PATIENCE_S: Final = 60.0

FLOW: Final = f"udp {HOST.addresses[0]}:{{}} > {SECOND.addresses[0]}:9"


def _ask(place: Workplace, space: Namespace, *words: str) -> dict[str, Any]:
    """Return what the user's bpferry answers."""
    asked = client(place, space, [*words, SECOND.name, "--json"])
    answered: dict[str, Any] = json.loads(
        subprocess.run(asked, check=True, capture_output=True).stdout
    )
    return answered


def test_one_queue_that_is_switched_on_is_not_steered() -> None:
    """The table names both; all packets come in on queue 0, and that is what bpferry says."""
    with (
        workplace() as place,
        bridged(BRIDGE, [HOST.ipv4, HOST.ipv6], MTU) as space,
        explaining(place),
        activated_helpers(place, space),
        running_vm(place, space, build_guest(CACHE, print), SECOND, ONE_PROCESSOR) as machine,
    ):
        console = machine.console
        console.wait_until_ready()
        pid = machine.qemu_pid()
        console.ask("address", ipv4=SECOND.ipv4, ipv6=SECOND.ipv6)
        console.ask("channels", count=SECOND.queues)
        console.ask("equal", queues=SECOND.queues)
        with live_maps(pid) as maps, counted_runs():
            steering = wait_for(maps, "both queues", lambda now: now.queues == SECOND.queues)
            before = program_runs(pid)
            console.ask("flows")
            send(space, make_flows(FLOWS, routes(HOST, SECOND), seed=5))
            seen = gather_flows(console, FLOWS * PACKETS)
            assert before == program_runs(pid)
        assert {0} == {queue for queues in seen.values() for queue in queues}
        assert steering.redirect

        (card,) = _ask(place, space, "steering")["cards"]
        assert (False, 1, [0, 1] * 64) == (
            card["in_force"],
            card["switched_on"],
            card["rss"]["table"],
        )
        assert "nothing is steered" in card["warnings"][0]["message"]
        for port in range(4000, 4010):
            (found,) = _ask(place, space, "steering", "--predict", FLOW.format(port))["cards"]
            assert 0 == found["queue"]
        (shown,) = _ask(place, space, "status")["cards"]
        assert "nothing is steered" in shown["seen"]
        assert wait_until(
            lambda: "nothing is steered" in str(_ask(place, space, "status")["warnings"]),
            PATIENCE_S,
        )
        console.ask("poweroff")
        machine.wait()
