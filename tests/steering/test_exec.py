# SPDX-License-Identifier: LGPL-2.1-or-later
"""A plain script with bpferry exec in it: every single flow comes in where we predict."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import pytest

from guest.build import CACHE, KERNEL_ARGUMENTS, Guest, build_guest
from guest.console import Console
from guest.flows import make_flows
from guest.netns import Namespace, bridged
from steering_demo.helpers import activated_helpers
from steering_demo.play import even_table, explaining
from steering_demo.rounds import PACKETS, play_round
from steering_demo.stations import FIRST, HOST, MTU, routes
from steering_demo.vm import MEMORY_MIB, Vm, client
from steering_demo.witness import counted_runs, live_maps
from steering_demo.workplace import BRIDGE, Workplace, workplace

FLOWS: Final = 400

PATIENCE_S: Final = 60.0

SCRIPT: Final = """\
#!/bin/sh
# What a user's script looks like, but for the first line of the command.
exec {python} -B -m bpferry exec -- \\
    qemu-system-x86_64 -M q35,accel=tcg -smp {station.queues} -m {memory} -nodefaults \\
    -display none -serial stdio -no-reboot \\
    -kernel {guest.kernel} -initrd {guest.initrd} -append '{boot}' \\
    {card}
"""

CARDS: Final = {
    "nic": "-nic bridge,br={bridge},model=virtio-net-pci,mac={station.mac}",
    "netdev": "-netdev bridge,id=n0,br={bridge} "
    "-device virtio-net-pci,netdev=n0,mac={station.mac},host_mtu={mtu}",
}


@dataclass(frozen=True, slots=True)
class Launched(Vm):
    """A VM whose process is QEMU itself."""

    def qemu_pid(self) -> int:
        """Return the process that was the script, then bpferry, and is QEMU."""
        return self.process.pid


@contextmanager
def launched(place: Workplace, space: Namespace, guest: Guest, card: str) -> Iterator[Launched]:
    """Run the script as the user, and end what it became."""
    filled = card.format(bridge=BRIDGE, station=FIRST, mtu=MTU)
    path = place.folder / "start.sh"
    path.write_text(
        SCRIPT.format(
            python=sys.executable,
            station=FIRST,
            memory=MEMORY_MIB,
            guest=guest,
            boot=KERNEL_ARGUMENTS,
            card=filled,
        ),
        encoding="utf-8",
    )
    path.chmod(0o755)
    environment = client(place, space, [])[: -len((sys.executable, "-B", "-m", "bpferry"))]
    with place.log(FIRST.name).open("wb") as log:
        process = subprocess.Popen(
            [*environment, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            cwd="/",
        )  # fmt: skip
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Launched(Console(process.stdout, process.stdin), process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE_S)
        finally:
            process.kill()
            process.communicate()


@pytest.mark.privileged
@pytest.mark.kernel
@pytest.mark.qemu
@pytest.mark.guest
@pytest.mark.slow
@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("card", CARDS)
def test_every_flow_of_a_plain_script_comes_in_on_its_predicted_queue(card: str) -> None:
    """Its card is on four queues and steered by the kernel, from both real helpers.

    And the process that the user started is QEMU.
    """
    with (
        workplace() as place,
        bridged(BRIDGE, [HOST.ipv4, HOST.ipv6], MTU) as space,
        explaining(place),
        activated_helpers(place, space),
        launched(place, space, build_guest(CACHE, print), CARDS[card]) as machine,
    ):
        machine.console.wait_until_ready()
        machine.console.ask("address", ipv4=FIRST.ipv4, ipv6=FIRST.ipv6)
        machine.console.ask("channels", count=FIRST.queues)
        with live_maps(machine.qemu_pid()) as maps, counted_runs():
            steering = even_table(machine, maps)
            flows = make_flows(FLOWS, routes(HOST, FIRST), 7)
            played = play_round(card, space, machine, steering, flows)
        said = place.log(FIRST.name).read_text(encoding="utf-8")

    assert [] == list(played.mismatches)
    assert FLOWS == sum(played.counted.values())
    assert len(played.counted) == FIRST.queues
    assert played.program_runs >= FLOWS * PACKETS
    assert "steering by eBPF" in said
