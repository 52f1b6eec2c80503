# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a VM may send to its bridge and get from it, frame by frame.

Each setting has two bridges, or two users of one, that differ in it alone: where it is off, the
attack works.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bpferry_wire.errors import Code
from bpferry_wire.fds import OwnedFds
from bpferry_wire.messages import ErrorReply
from tests.support.census import wait_until
from tests.support.people import ALICE, BOB, Person, ask_once
from tests.support.tap_process import OPEN_POLICY, TapProcess, granted, running_tap_helper, tap_on
from tests.support.tuns import FLAGS, VNET_HEADER, frame, frames_in, open_queue

pytestmark = pytest.mark.privileged

ALICES = "52:54:00:00:00:01"
BOBS = "52:54:00:00:00:02"
NOBODYS = "52:54:00:00:00:99"
GROUP = "01:00:5e:01:02:03"
BRIDGE_GROUP = "01:80:c2:00:00:00"
"""IEEE 802.1D: where BPDUs go."""

EXPERIMENT = b"\x88\xb5"
"""The protocol of the frames of tests (IEEE 802)."""

OFF, ON = False, True

SETTINGS = ("locked", "guarded", "rootless", "quiet", "known", "short")

POLICY = f"""{OPEN_POLICY}
[bridges.locked]
address-lock = true
[bridges.guarded]
bpdu-guard = true
[bridges.rootless]
root-block = true
[bridges.quiet]
multicast-flood = false
[bridges.known]
unicast-flood = false
[bridges.short]
tx-queue-length = 16
""".replace(f"[users.{BOB.uid}]\n", f"[users.{BOB.uid}]\naddress-lock = true\n")
"""Bob is held to his card's address on each bridge, Alice on one."""


@pytest.fixture(scope="module")
def helper() -> Iterator[TapProcess]:
    """Yield a helper with a bridge for each setting, and one that has none of them."""
    with running_tap_helper(POLICY, bridges=("plain", "tree", *SETTINGS)) as helper:
        yield helper


@contextmanager
def spanning_tree(helper: TapProcess, bridge: str) -> Iterator[None]:
    """Let *bridge* take part in a spanning tree inside the block.

    Ports that forward already go on doing so. One that comes later would wait for four seconds.
    """
    helper.ip(f"link set {bridge} type bridge stp_state 1")
    try:
        yield
    finally:
        helper.ip(f"link set {bridge} type bridge stp_state 0")


def octets(address: str) -> bytes:
    """Return *address* as it is in a frame and in a request."""
    return bytes.fromhex(address.replace(":", ""))


def tap(helper: TapProcess, bridge: str, address: str, person: Person = ALICE) -> OwnedFds:
    """Return the one queue of a tap on *bridge* for the card with *address*."""
    name, fds = granted(helper, tap_on(bridge, 1, mac=octets(address)), person)
    assert wait_until(lambda: forwards(helper, name)), name
    return fds


def forwards(helper: TapProcess, name: str) -> bool:
    """Say whether the bridge forwards what comes from the port *name*."""
    return "state forwarding" in helper.ip(f"-details link show {name}")


def reaches(sender: OwnedFds, receiver: OwnedFds, data: bytes) -> bool:
    """Say whether *data*, which *sender* writes, comes to *receiver*."""
    list(frames_in(receiver[0].borrow()))
    os.write(sender[0].borrow(), data)
    return wait_until(
        lambda: any(got[12:14] == EXPERIMENT for got in frames_in(receiver[0].borrow())), 0.3
    )


# -- Sending as somebody else


@pytest.mark.parametrize(
    ("bridge", "person", "passes"),
    [("plain", ALICE, True), ("locked", ALICE, False), ("plain", BOB, False)],
    ids=["the control", "by the bridge's table", "by the user's table"],
)
def test_a_locked_port_sends_as_its_own_card_only(
    helper: TapProcess, bridge: str, person: Person, *, passes: bool
) -> None:
    """Its own address always passes; another's and a made-up one where nothing is locked."""
    with tap(helper, bridge, ALICES, person) as sender, tap(helper, bridge, BOBS) as other:
        results = [reaches(sender, other, frame(source)) for source in (ALICES, BOBS, NOBODYS)]

    assert [True, passes, passes] == results


@pytest.mark.parametrize(("bridge", "stolen"), [("plain", True), ("locked", False)])
def test_a_locked_port_cannot_draw_another_s_frames(
    helper: TapProcess, bridge: str, *, stolen: bool
) -> None:
    """One frame with a neighbour's address, and the bridge that learns sends that one's frames."""
    peer = "52:54:00:00:00:03"
    with (
        tap(helper, bridge, ALICES) as thief,
        tap(helper, bridge, BOBS) as victim,
        tap(helper, bridge, peer) as friend,
    ):
        reaches(victim, friend, frame(BOBS))
        reaches(thief, friend, frame(BOBS))
        got = reaches(friend, thief, frame(peer, BOBS))
        back = reaches(friend, victim, frame(peer, BOBS))

    assert (stolen, not stolen) == (got, back)


@pytest.mark.parametrize(("bridge", "known"), [("plain", 500), ("locked", 1)])
def test_a_locked_port_fills_no_table(helper: TapProcess, bridge: str, known: int) -> None:
    """Of 500 addresses the bridge keeps those that pass."""
    with tap(helper, bridge, ALICES) as sender:
        for number in range(1, 501):
            os.write(sender[0].borrow(), frame(f"52:54:00:01:{number >> 8:02x}:{number & 255:02x}"))
        os.write(sender[0].borrow(), frame(ALICES))
        table = helper.run("bridge", "fdb", "show", "br", bridge).splitlines()

    learned = [line for line in table if line.startswith("52:54:00:")]
    assert len(learned) - known in (0, 1)


def test_without_a_card_s_address_there_is_no_locked_tap(helper: TapProcess) -> None:
    """Nothing could pass it, and the caller is told why."""
    refused = ask_once(helper.path, tap_on("locked", 1)).reply

    assert isinstance(refused, ErrorReply)
    assert (refused.code, refused.hint) == (
        Code.REFUSED,
        "send the card's MAC address with the request",
    )
    assert "address-lock" in refused.message


# -- The spanning tree


def bpdu(priority: int) -> bytes:
    """Return a configuration BPDU of a bridge that says that it is the root (IEEE 802.1D, 9.3.1).

    Of two roots the one with the smaller *priority* wins.
    """
    bridge = struct.pack(">H6s", priority, octets(NOBODYS))
    body = struct.pack(">HBBB8sI8sHHHHH", 0, 0, 0, 0, bridge, 0, bridge, 0x8001, 0, 5120, 512, 512)
    logical_link = b"\x42\x42\x03"
    length = struct.pack(">H", len(logical_link) + len(body))
    addresses = octets(BRIDGE_GROUP) + octets(ALICES)
    return VNET_HEADER + (addresses + length + logical_link + body).ljust(60, b"\0")


def root_is_elsewhere(helper: TapProcess, bridge: str) -> bool:
    """Say whether *bridge* believes that another one is the root of the tree."""
    return bool(helper.find(bridge).data["root_port"])


@pytest.mark.parametrize(
    ("bridge", "believed"), [("tree", True), ("guarded", False), ("rootless", False)]
)
def test_a_vm_does_not_become_the_root_of_the_spanning_tree(
    helper: TapProcess, bridge: str, *, believed: bool
) -> None:
    """Where policy guards the port or blocks the root there; else one frame is enough."""
    with tap(helper, bridge, ALICES) as sender, spanning_tree(helper, bridge):
        os.write(sender[0].borrow(), bpdu(0))

        assert believed == wait_until(lambda: root_is_elsewhere(helper, bridge), 0.5)


@pytest.mark.parametrize(("bridge", "works"), [("tree", True), ("guarded", False)])
def test_a_guarded_port_is_shut_down_by_a_bpdu(
    helper: TapProcess, bridge: str, *, works: bool
) -> None:
    """It carries nothing after it; the control goes on."""
    with (
        tap(helper, bridge, ALICES) as sender,
        tap(helper, bridge, BOBS) as other,
        spanning_tree(helper, bridge),
    ):
        before = reaches(sender, other, frame(ALICES))
        os.write(sender[0].borrow(), bpdu(0xFFFF))
        after = reaches(sender, other, frame(ALICES))

    assert (True, works) == (before, after)


# -- What comes to a port that did not ask for it


@pytest.mark.parametrize(("bridge", "heard"), [("plain", True), ("quiet", False)])
def test_a_port_without_flooding_hears_no_foreign_multicast(
    helper: TapProcess, bridge: str, *, heard: bool
) -> None:
    """The control hears them all; broadcasts come to both."""
    with tap(helper, bridge, ALICES) as sender, tap(helper, bridge, BOBS) as listener:
        multicast = reaches(sender, listener, frame(ALICES, GROUP))
        broadcast = reaches(sender, listener, frame(ALICES))

    assert (heard, True) == (multicast, broadcast)


@pytest.mark.parametrize(("bridge", "heard"), [("plain", True), ("known", False)])
def test_a_port_without_flooding_hears_nothing_for_unknown_addresses(
    helper: TapProcess, bridge: str, *, heard: bool
) -> None:
    """The control hears what is for a machine that was silent for a while."""
    with tap(helper, bridge, ALICES) as sender, tap(helper, bridge, BOBS) as listener:
        foreign = reaches(sender, listener, frame(ALICES, NOBODYS))
        reaches(listener, sender, frame(BOBS))
        own = reaches(sender, listener, frame(ALICES, BOBS))

    assert (heard, True) == (foreign, own)


# -- What a queue that nobody reads holds of the kernel's memory


@pytest.mark.parametrize(("bridge", "held"), [("plain", 512), ("short", 16)])
def test_an_unread_queue_holds_few_frames(helper: TapProcess, bridge: str, held: int) -> None:
    """As many as policy says, and by default about half of what the kernel would."""
    with tap(helper, bridge, ALICES) as sender, tap(helper, bridge, BOBS) as lazy:
        list(frames_in(lazy[0].borrow()))
        for _ in range(1200):
            os.write(sender[0].borrow(), frame(ALICES))
        kept = sum(1 for _ in frames_in(lazy[0].borrow()))

    # A frame or two may be the bridge's own, or were read already.
    assert held - 3 <= kept <= held


def test_an_unread_queue_of_another_s_tap_holds_a_thousand(helper: TapProcess) -> None:
    """The control: what the kernel gives a tap that somebody makes."""
    with tap(helper, "plain", ALICES) as sender:
        lazy = helper.inside_network(lambda: open_queue("lazy", FLAGS))
        try:
            helper.ip("link set lazy master plain up")
            list(frames_in(lazy))
            for _ in range(1200):
                os.write(sender[0].borrow(), frame(ALICES))
            kept = sum(1 for _ in frames_in(lazy))
        finally:
            os.close(lazy)

    assert kept > 512
