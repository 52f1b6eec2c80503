# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a packet to a VM costs with vhost and without, with one queue and with four.

Two VMs get as many packets as they take, in turn, and none of them is lost. What this is run for is
a table that takes minutes; docs/figures.md has it. So its name is not one that pytest collects by
itself, and of all runs only that of tools/test --long has it.
"""

import base64
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from benchmarks.path_guest_figures import NS_PER_US, Lane, Look
from benchmarks.yardstick import build
from steering_demo.counts import STRAY
from tests.support.shown import past_capture
from tests.vm.documents import OWN, domain, on_bridge
from tests.vm.host import IN_THE_HOST, Host
from tests.vm.rounds import play
from tests.vm.user import kvm_works, wait_until

pytestmark = [*IN_THE_HOST, pytest.mark.qemu]

STEERED: Final = ("one", "ebpf")
"""Of each pair of VMs. All guests have as many processors, without which Linux 6.1 would not use
four queues."""

ROUNDS: Final = 7

PROGRAM: Final = "/srv/send"
PAIR_SECONDS: Final = 900
"""It takes 300 on a machine that does other things too, a third of them to boot."""

HEADS: Final = f"""
{"":<21} {"packets":>7} {"processor time a packet, us":^35} {"of no vhost, from round to round":>34}
queues  vhost  rounds      /s   sender     loop    vhost    guest           packets             host
"""


class Seen(NamedTuple):
    """What was seen of a VM."""

    looks: list[Look]
    """One of each round."""
    queues: dict[int, int]
    """Packets by queue, as the guest counts them."""

    def us(self, time: Callable[[Look], int]) -> float:
        """Return how many microseconds of *time* a packet takes, in the median."""
        return statistics.median(time(look) / look.packets for look in self.looks) / NS_PER_US


def read_seen(printed: dict[str, Any]) -> Seen:
    """Return what ``inside/received.py`` prints of a VM."""
    looks = [Look(*look) for look in printed["looks"]]
    return Seen(looks, {int(queue): count for queue, count in printed["queues"].items()})


def line(lane: Lane, seen: dict[Lane, Seen]) -> str:
    """Return the line of *lane*; of *seen* are it and the one without vhost."""
    own, without = seen[lane], seen[Lane(lane.steered)]
    times = (
        own.us(lambda look: look.sender),
        own.us(lambda look: look.loop),
        own.us(lambda look: look.vhost),
        own.us(lambda look: look.guest),
    )
    packets = statistics.median(look.rate for look in own.looks)
    return (
        f"{lane.queues:<7} {'yes' if lane.vhost else 'no':<5} {len(own.looks):>7} {packets:>7.0f}"
        f"{''.join(f' {us:>8.1f}' for us in times)} "
        f"{times_of(own, without, lambda look: look.rate):>17}"
        f"{times_of(own, without, lambda look: look.host):>17}"
    )


def times_of(own: Seen, other: Seen, value: Callable[[Look], float]) -> str:
    """Return how many times of *other*'s is *own*'s: median, least and most of all rounds."""
    pairs = zip(own.looks, other.looks, strict=True)
    times = [value(look) / value(others) for look, others in pairs]
    return f"{statistics.median(times):.2f} ({min(times):.2f}-{max(times):.2f})"


def document(lane: Lane) -> str:
    """Return the document of the VM of *lane*."""
    card = on_bridge("br0", f"name='{'vhost' if lane.vhost else 'qemu'}'", lane.queues)
    if not lane.rss:
        card = card.replace("rss='on'", "rss='off'")
    card = card.replace("<model", f"<mac address='{lane.card.hex(':')}'/>\n      <model")
    return domain(lane.key, OWN, card)


def bring_sender(host: Host, folder: Path) -> None:
    """Build the program that sends in *folder*, and bring it into *host*."""
    text = base64.b64encode(build("send", folder).read_bytes()).decode()
    host.check("sh", "-c", f"base64 -d >{PROGRAM} && chmod +x {PROGRAM}", text=text)


@pytest.fixture(scope="module")
def seen(
    host: Host, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> dict[Lane, Seen]:
    """Return what was seen of the VM of each lane; each pair's lines are printed at once."""
    say = past_capture(pytestconfig)
    bring_sender(host, tmp_path_factory.mktemp("send"))
    assert wait_until(lambda: kvm_works(host, "alice"))
    say(HEADS)
    found: dict[Lane, Seen] = {}
    for steered in STEERED:
        lanes = [Lane(steered), Lane(steered, vhost=True)]
        for lane in lanes:
            host.write(f"/srv/{lane.key}.xml", document(lane))
        words = ("received.py", "alice", PROGRAM, steered, str(ROUNDS))
        printed = play(host, words, PAIR_SECONDS)
        for lane in lanes:
            found[lane] = read_seen(printed[lane.key])
            say(line(lane, found))
    return found


def test_every_queue_gets_packets(seen: dict[Lane, Seen]) -> None:
    """The guest of a card with four queues uses all of them."""
    used = {
        lane: {queue for queue, count in own.queues.items() if count > STRAY}
        for lane, own in seen.items()
    }

    assert {lane: set(range(lane.queues)) for lane in seen} == used


def test_vhost_moves_the_packets(seen: dict[Lane, Seen]) -> None:
    """Its threads work in each look at a card that has it, and for no other."""
    works = {lane: {look.vhost > 0 for look in own.looks} for lane, own in seen.items()}

    assert {lane: {lane.vhost} for lane in seen} == works
