# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two real guests without a bridge: each has a macvtap that root made and gave to the user."""

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from guest.build import CACHE, build_guest
from guest.flows import gather_flows, make_flows
from guest.netns import Namespace, holder
from steering_demo.rounds import PACKETS, Sender, send
from steering_demo.stations import FIRST, HOST, SECOND, Station, routes
from steering_demo.vm import WITHOUT_A_CARD, Vm, client, running_vm, said
from steering_demo.workplace import Workplace, workplace
from tests.support.census import fd_targets
from tests.support.macvtaps import PEER, make_macvtap, make_parent
from tests.support.marks import WITH_A_GUEST

pytestmark = [*WITH_A_GUEST, pytest.mark.usefixtures("nothing_left")]

FLOWS: Final = 200

CARD: Final = """
[[cards]]
tap = "m-{station.name}"
mac = "{station.mac}"
queues = {station.queues}
rss = true
"""


class Field(NamedTuple):
    """A host whose card has two macvtaps, and who has them. Borrows all of it."""

    place: Workplace
    space: Namespace
    devices: dict[Station, Path]
    machines: dict[Station, Vm]


@contextmanager
def _field(place: Workplace) -> Iterator[Field]:
    """Set up the host, whose peer has the host's addresses, and start both guests as the user."""
    with holder() as pid, ExitStack() as stack:
        space = Namespace(pid)
        space.run(["mount", "-t", "sysfs", "sysfs", "/sys"])
        make_parent(space.run)
        for address in (HOST.ipv4, HOST.ipv6):
            nodad = ["nodad"] if ":" in address else []
            space.run(["ip", "address", "add", address, "dev", PEER, *nodad])
        devices, machines = {}, {}
        for station in (FIRST, SECOND):
            name = f"m-{station.name}"
            devices[station] = make_macvtap(space.run, name, station.mac, place.user_uid)
            guest, text = build_guest(CACHE, print), WITHOUT_A_CARD + CARD
            machine = stack.enter_context(running_vm(place, space, guest, station, text))
            machines[station] = machine
        for station, machine in machines.items():
            machine.console.wait_until_ready()
            machine.console.ask("address", ipv4=station.ipv4, ipv6=station.ipv6)
            machine.console.ask("channels", count=station.queues)
            machine.console.ask("equal", queues=station.queues)
        yield Field(place, space, devices, machines)


def _ask(field: Field, *words: str) -> dict[str, Any]:
    """Return what the user's bpferry answers, also if it is an error."""
    argv = client(field.place, field.space, [*words, "--json"])
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _links(space: Namespace) -> set[str]:
    return {link["ifname"] for link in json.loads(space.run(["ip", "-json", "link"]))}


def _arrived(field: Field, source: Station, sender: Sender) -> Counter[int]:
    """Send flows to the first guest; return how many arrived whole, by the queue of each."""
    console = field.machines[FIRST].console
    console.ask("flows")
    flows = make_flows(FLOWS, routes(source, FIRST), seed=5)
    send(sender, flows)
    seen = gather_flows(console, FLOWS * PACKETS)
    return Counter(next(iter(queues)) for queues in seen.values() if len(queues) == 1)


def test_two_guests_and_a_peer_reach_each_other_on_all_queues() -> None:
    """From the peer and from the other guest every flow arrives, each on one queue, over both IPs.

    QEMU alone has the queues. While it runs, no other VM gets them; when it has ended, one does.
    The interfaces are root's, and are the same afterwards.
    """
    with workplace() as place, _field(place) as field:
        devices, machines = field.devices, field.machines
        for station, machine in machines.items():
            device = str(devices[station])
            assert fd_targets(machine.qemu_pid())[device] == station.queues
            assert device not in fd_targets(machine.process.pid)

        (card,) = _ask(field, "status", FIRST.name)["cards"]
        assert ("qemu", FIRST.queues) == (card["steering"], card["queues"])
        assert "the kernel lets no eBPF program steer" in said(place, FIRST)

        for source, sender in ((HOST, field.space), (SECOND, machines[SECOND].console)):
            by_queue = _arrived(field, source, sender)
            assert FLOWS == by_queue.total()
            assert set(range(FIRST.queues)) == set(by_queue)

        links, mine = _links(field.space), str(devices[FIRST])
        attach = ["attach-nic", SECOND.name, "--tap", f"m-{FIRST.name}", "--mac", FIRST.mac]
        assert "another process has it" in _ask(field, *attach)["error"]["message"]
        machines[FIRST].console.ask("poweroff")
        machines[FIRST].wait()
        assert "error" not in _ask(field, *attach, "--queues", "2")
        assert 2 == fd_targets(machines[SECOND].qemu_pid())[mine]
        assert 0 == fd_targets(machines[SECOND].process.pid)[mine]
        machines[SECOND].console.ask("poweroff")
        machines[SECOND].wait()
        assert links == _links(field.space)
