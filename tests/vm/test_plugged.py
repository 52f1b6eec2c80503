# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cards with vhost and eBPF, one after the other: one from the start, then two that are plugged in.

With vhost, QEMU sees no packet: what `bpferry steering` counts is read in the guest's own memory.
"""

from typing import Any, Final

import pytest

from steering_demo.counts import agree
from tests.support.debian_folder import BUILD_SECONDS
from tests.vm.documents import OWN, domain, on_bridge
from tests.vm.host import IN_THE_HOST, Host
from tests.vm.rounds import play
from tests.vm.user import learn

pytestmark = [
    # A guest boots and answers at its own pace. The first of these marks counts.
    pytest.mark.timeout(5 * BUILD_SECONDS),
    *IN_THE_HOST,
    pytest.mark.qemu,
]

QUEUES: Final = 2
"""A guest with more processors takes longer to boot."""

NAME: Final = "plugged"
DOCUMENT: Final = "/srv/plugged.xml"

SECONDS: Final = 1800

CARDS: Final = ("from the start", "plugged in", "plugged in again")

Round = dict[str, Any]


@pytest.fixture(scope="module")
def seen(host: Host) -> dict[str, Any]:
    """Return what was seen of the VM and of its three cards."""
    card = on_bridge("br0", queues=QUEUES)
    host.write(DOCUMENT, domain(NAME, OWN, card, vcpus=QUEUES, has_acpi=True))
    learn(host, "alice")
    return play(host, ("plugged.py", "alice", DOCUMENT, NAME, str(QUEUES)), SECONDS)


@pytest.fixture(params=range(len(CARDS)), ids=CARDS)
def card(request: pytest.FixtureRequest, seen: dict[str, Any]) -> Round:
    """Return what was seen of one card."""
    played: Round = seen["rounds"][request.param]
    return played


def by_queue(counts: dict[str, int]) -> dict[int, int]:
    """Return *counts* as they were before JSON made texts of the queues."""
    return {int(queue): count for queue, count in counts.items()}


def test_card_has_vhost_and_ebpf(card: Round) -> None:
    """The kernel steers and moves the packets: nobody asked for vhost."""
    ((tap, queues),) = card["taps"].items()

    assert ("ebpf", True) == (card["card"]["steering"], card["card"]["vhost"])
    assert (True, QUEUES, QUEUES) == (tap.startswith("bft"), queues, card["vhost_fds"])
    assert card["vhost_turns"] > 0
    assert card["program_runs"] >= card["sent"]


def test_what_steering_counts_is_what_the_guest_counted(card: Round) -> None:
    """Queue by queue, by `ethtool -S` in the guest; each queue has some."""
    guest, counted = by_queue(card["guest"]), by_queue(card["counted"])

    assert sum(guest.values()) >= card["sent"]
    assert min(guest[queue] for queue in range(QUEUES)) > 0
    assert agree(guest, counted), (guest, counted)


def test_nothing_stays_of_a_card_that_is_out(card: Round, seen: dict[str, Any]) -> None:
    """Neither in the guest nor on the host; QEMU has each time the same fds and objects."""
    left = card["left"]

    assert card["held"] > 0
    assert (False, [], 0) == (left["card"], left["ports"], left["sets"])
    assert not {"/dev/net/tun", "/dev/vhost-net"} & left["fds"]["qemu"].keys()
    assert "" == left["objects"]["netdevs"]
    assert seen["rounds"][0]["left"] == left


def test_guest_went_down_by_itself(seen: dict[str, Any]) -> None:
    """After all cards, it still heeds its own commands."""
    assert 0 == seen["status"]
