# SPDX-License-Identifier: LGPL-2.1-or-later
"""A tap with address-lock is asked for with the address of another machine.

The bridge then sends that machine's frames to the tap, and as the entry is sticky, no frame of the
machine wins them back. ``anything`` is the control: its policy lets users ask for any address.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

import pytest

from bpferry_helper.tap.links import Entry
from bpferry_helper.tap.maker import Maker
from bpferry_wire.errors import Code
from bpferry_wire.fds import OwnedFds
from bpferry_wire.messages import Can, CanReply, ErrorReply
from tests.helper.tap.own_host import CLOSED, MAC, Host, on_own_host, order
from tests.hostile.test_layer_two import ALICES, BOBS, octets, reaches
from tests.support.census import wait_until
from tests.support.people import ALICE, BOB, Person, ask_once
from tests.support.tap_process import OPEN_POLICY, TapProcess, granted, running_tap_helper, tap_on
from tests.support.tuns import VNET_HEADER, frame, raw_frames, set_address

pytestmark = pytest.mark.privileged

GATEWAY = "00:00:5e:00:01:07"
"""A hardware address, here one of VRRP (RFC 5798)."""

LOCAL_GATEWAY = "52:54:00:00:00:fe"
"""A gateway that is a VM elsewhere."""

FRIENDS = "52:54:00:00:01:03"
RANGED = "52:54:00:00:01:ff"

POLICY = f"""{OPEN_POLICY}
[bridges.locked]
address-lock = true
[bridges.anything]
address-lock = true
addresses = ["00:00:00:00:00:00/0"]
[bridges.named]
address-lock = true
addresses = ["{ALICES}", "52:54:00:00:01:00/40"]
""".replace(f"[users.{BOB.uid}]\n", f"[users.{BOB.uid}]\naddress-lock = true\n")
"""Bob's taps are locked on each bridge, Alice's on all but one."""

BRIDGES = ("plain", "locked", "anything", "named")


@pytest.fixture
def helper() -> Iterator[TapProcess]:
    """Yield a helper whose bridges each have a port that leads elsewhere, as a network card."""
    with running_tap_helper(POLICY, bridges=BRIDGES) as helper:
        for bridge in BRIDGES:
            helper.ip(f"link add name {bridge}-up type veth peer name {bridge}-far")
            helper.ip(f"link set dev {bridge}-up master {bridge} up")
            helper.ip(f"link set dev {bridge}-far up")
        yield helper


def asked(
    helper: TapProcess, bridge: str, address: str, person: Person = ALICE
) -> tuple[Code | None, str, OwnedFds]:
    """Ask for a tap for *address*; return code and words of the refusal, and the queue."""
    answered = ask_once(helper.path, tap_on(bridge, 1, mac=octets(address)), person)
    reply = answered.reply
    if isinstance(reply, ErrorReply):
        return reply.code, f"{reply.message}; {reply.hint}", answered.fds
    return None, "", answered.fds


def may(helper: TapProcess, bridge: str, address: str) -> tuple[bool, str]:
    """Ask whether Alice may have a tap for *address*; return the answer and its reason."""
    reply = ask_once(helper.path, Can(tap_on(bridge, 1, mac=octets(address)))).reply
    assert isinstance(reply, CanReply)
    return reply.allowed, reply.because


@contextmanager
def elsewhere(helper: TapProcess, bridge: str) -> Iterator[socket.socket]:
    """Yield a socket at the far end of the cable of *bridge*."""
    far = helper.inside_network(lambda: raw_frames(f"{bridge}-far"))
    with far:
        # IPv6 waits until the port forwards, and so does this test.
        assert wait_until(lambda: "forwarding" in helper.ip(f"-details link show {bridge}-up"))
        yield far


def speaks(helper: TapProcess, bridge: str, far: socket.socket, address: str) -> None:
    """Send a frame from *address* at the far end, and wait until *bridge* knows where that is."""
    far.send(frame(address)[len(VNET_HEADER) :])
    assert wait_until(lambda: address in helper.run("bridge", "fdb", "show", "br", bridge))


def draws(helper: TapProcess, bridge: str, thief: OwnedFds, address: str) -> bool:
    """Say whether frames of a third VM for *address* come to *thief*."""
    _, friend = granted(helper, tap_on(bridge, 1, mac=octets(FRIENDS)), BOB)
    with friend:
        # What the bridge does not know goes everywhere, but not out of a locked port.
        return reaches(friend, thief, frame(FRIENDS, address))


# -- The address of a machine that the bridge does not know yet


def test_whoever_may_ask_for_any_address_gets_the_gateway_s_frames(helper: TapProcess) -> None:
    """The control: the gateway was silent; when it speaks again, nothing changes."""
    code, _, thief = asked(helper, "anything", GATEWAY)
    with thief, elsewhere(helper, "anything") as far:
        before = draws(helper, "anything", thief, GATEWAY)
        far.send(frame(GATEWAY)[len(VNET_HEADER) :])
        after = draws(helper, "anything", thief, GATEWAY)

    assert (None, True, True) == (code, before, after)


def test_by_default_nobody_may_ask_for_a_hardware_address(helper: TapProcess) -> None:
    """And it is said what is allowed; other VMs' addresses have the bit of those made up here."""
    code, words, fds = asked(helper, "locked", GATEWAY)
    fds.close()
    allowed, because = may(helper, "locked", GATEWAY)
    granted(helper, tap_on("locked", 1, mac=octets(ALICES)))[1].close()

    assert (Code.REFUSED, False) == (code, allowed)
    assert "locally administered" in words
    assert f"not '{GATEWAY}'" in words
    assert because in words


def test_who_asks_without_an_address_is_told_which_are_allowed(helper: TapProcess) -> None:
    """As ``bpferry can-i`` does."""
    replies = [ask_once(helper.path, Can(tap_on(name))).reply for name in ("named", "plain")]

    for reply in replies:
        assert isinstance(reply, CanReply)
        assert reply.allowed
        expected = f"; for cards with {ALICES}, 52:54:00:00:01:00/40"
        assert reply.because.endswith(expected) == (reply is replies[0])


def test_without_address_lock_any_address_may_be_asked_for(helper: TapProcess) -> None:
    """It means nothing there: the VM may send from any."""
    granted(helper, tap_on("plain", 1, mac=octets(GATEWAY)))[1].close()


@pytest.mark.parametrize(
    ("address", "code"),
    [
        (ALICES, None),
        (RANGED, None),
        (BOBS, Code.REFUSED),
        (LOCAL_GATEWAY, Code.REFUSED),
        (GATEWAY, Code.REFUSED),
    ],
)
def test_where_policy_names_the_addresses_no_other_is_granted(
    helper: TapProcess, address: str, code: Code | None
) -> None:
    """So that a gateway or VM elsewhere with an address like a VM's is safe as well."""
    got, words, fds = asked(helper, "named", address)
    fds.close()

    assert (code, code is not None) == (got, "bridges.named.addresses" in words)
    assert (code is None) == may(helper, "named", address)[0]


# -- The address of a machine that the bridge knows


def test_an_address_behind_another_port_is_refused(helper: TapProcess) -> None:
    """It is somebody's who was there before, and it is said where."""
    with elsewhere(helper, "locked") as far:
        speaks(helper, "locked", far, LOCAL_GATEWAY)
        code, words, fds = asked(helper, "locked", LOCAL_GATEWAY)
        allowed, because = may(helper, "locked", LOCAL_GATEWAY)
    fds.close()

    assert (Code.REFUSED, False) == (code, allowed)
    assert "'locked-up'" in words
    assert "'locked-up'" in because


@pytest.mark.parametrize("whose", ["locked", "locked-up"], ids=["the bridge", "a port"])
def test_the_addresses_of_the_bridge_and_its_ports_are_refused(
    helper: TapProcess, whose: str
) -> None:
    """What the host sends and gets there."""
    helper.ip(f"link set dev {whose} address {LOCAL_GATEWAY}")
    code, words, fds = asked(helper, "locked", LOCAL_GATEWAY)
    allowed, _ = may(helper, "locked", LOCAL_GATEWAY)
    fds.close()

    assert (Code.REFUSED, False) == (code, allowed)
    assert f"'{whose}'" in words


# -- An address that somebody makes the bridge learn elsewhere, so that its owner is refused


def test_frames_of_an_unlocked_tap_do_not_keep_an_address_from_its_owner(
    helper: TapProcess,
) -> None:
    """Alice's tap sends from the address of Bob's VM before that starts, and goes on."""
    _, blocker = granted(helper, tap_on("plain", 1, mac=octets(ALICES)))
    _, friend = granted(helper, tap_on("plain", 1, mac=octets(FRIENDS)))
    with blocker, friend:
        reaches(blocker, friend, frame(BOBS))
        code, words, victim = asked(helper, "plain", BOBS, BOB)
        with victim:
            assert code is None, words
            reaches(blocker, friend, frame(BOBS))
            sends = reaches(victim, friend, frame(BOBS))
            gets = reaches(friend, victim, frame(FRIENDS, BOBS))

    assert (True, True) == (sends, gets)


@pytest.mark.parametrize(
    ("blocker", "asker", "code"), [(ALICE, BOB, None), (BOB, BOB, Code.REFUSED)]
)
def test_an_unlocked_tap_for_an_address_does_not_keep_it_from_its_owner(
    helper: TapProcess, blocker: Person, asker: Person, code: Code | None
) -> None:
    """Alice asks first, with the address of Bob's VM; the control is a tap of Bob's own."""
    with granted(helper, tap_on("plain", 1, mac=octets(BOBS)), blocker)[1]:
        allowed = ask_once(helper.path, Can(tap_on("plain", 1, mac=octets(BOBS))), asker).reply
        got, words, fds = asked(helper, "plain", BOBS, asker)
        fds.close()

    assert isinstance(allowed, CanReply)
    assert (code, code is None) == (got, allowed.allowed), words


def test_who_has_no_lock_is_refused_an_address_that_another_tap_has(helper: TapProcess) -> None:
    """The control: two taps for one address are a mistake, whoever has the other."""
    with granted(helper, tap_on("plain", 1, mac=octets(BOBS)), BOB)[1]:
        code, words, _ = asked(helper, "plain", BOBS)

    assert code is Code.REFUSED
    assert f"uid {BOB.uid}'s tap" in words


def test_an_address_that_policy_names_alone_is_won_back_from_anywhere(helper: TapProcess) -> None:
    """Somebody on the network sends from it; or the VM ran on another host until just now."""
    with elsewhere(helper, "named") as far:
        speaks(helper, "named", far, ALICES)
        code, words, owner = asked(helper, "named", ALICES)
        with owner:
            assert code is None, words
            speaks(helper, "named", far, ALICES)

            assert draws(helper, "named", owner, ALICES)


def test_an_address_of_a_range_is_not(helper: TapProcess) -> None:
    """The control: the range may hold VMs of other hosts, and one of them was there before."""
    with elsewhere(helper, "named") as far:
        speaks(helper, "named", far, RANGED)

        assert asked(helper, "named", RANGED)[0] is Code.REFUSED


def test_a_locked_tap_s_address_is_never_won(helper: TapProcess) -> None:
    """Neither by asking for it nor with an entry of an administrator's."""
    helper.run("bridge", "fdb", "add", ALICES, "dev", "named-up", "master", "static")
    refused = asked(helper, "named", ALICES)
    _, holder = granted(helper, tap_on("named", 1, mac=octets(RANGED)))
    with holder:
        second = asked(helper, "named", RANGED, BOB)

    assert (Code.REFUSED, Code.REFUSED) == (refused[0], second[0])
    assert "'named-up'" in refused[1]


def test_frames_do_not_keep_an_address_from_its_owner_after_a_theft(helper: TapProcess) -> None:
    """One tap takes the address of Bob's card, another sends from it all the time."""
    _, victim = granted(helper, tap_on("plain", 1, mac=octets(BOBS)), BOB)
    _, friend = granted(helper, tap_on("plain", 1, mac=octets(FRIENDS)))
    _, blocker = granted(helper, tap_on("plain", 1, mac=octets(ALICES)))
    thief_name, thief = granted(helper, tap_on("plain", 1, mac=octets(RANGED)))
    with victim, friend, blocker, thief:
        with sending(blocker, frame(BOBS)):
            set_address(thief[0].borrow(), BOBS)
            assert wait_until(lambda: thief_name not in [tap.name for tap in helper.taps()])
        sends = reaches(victim, friend, frame(BOBS))
        gets = reaches(friend, victim, frame(FRIENDS, BOBS))

    assert (True, True) == (sends, gets)


def test_who_takes_an_address_all_the_time_does_not_keep_it(helper: TapProcess) -> None:
    """Until the tap is deleted, whose holder takes the address again after each repair."""
    _, victim = granted(helper, tap_on("plain", 1, mac=octets(BOBS)), BOB)
    _, friend = granted(helper, tap_on("plain", 1, mac=octets(FRIENDS)))
    _, thief = granted(helper, tap_on("plain", 1, mac=octets(ALICES)))
    with victim, friend, thief:
        taken = 0
        with suppress(OSError):
            while True:
                set_address(thief[0].borrow(), BOBS)
                taken += 1
        sends = wait_until(lambda: reaches(victim, friend, frame(BOBS)))
        gets = reaches(friend, victim, frame(FRIENDS, BOBS))

    assert taken
    assert (True, True) == (sends, gets)


# -- How it is done


def test_the_address_is_guarded_before_it_is_claimed() -> None:
    """If somebody takes it in between, the entry is made again."""

    def act(host: Host) -> list[Entry | None]:
        bridge = host.links.expect("br0")
        found = []

        def guard(_index: int, card: str) -> None:
            found.append(host.links.find_entry(bridge.ifindex, card, 0))

        maker = Maker(host.netlink, host.own, guard)
        wanted = order(port=CLOSED)
        made = maker.make(wanted, maker.find(wanted.wanted))
        found.append(host.links.find_entry(bridge.ifindex, MAC.hex(":"), 0))
        made.fds.close()
        return found

    before, after = on_own_host(act)

    assert before is None
    assert after is not None
    assert not after.is_learned


@contextmanager
def sending(sender: OwnedFds, data: bytes) -> Iterator[None]:
    """Write *data* to *sender* again and again while the block runs."""
    ended = Event()

    def send() -> None:
        while not ended.is_set():
            os.write(sender[0].borrow(), data)

    thread = Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
