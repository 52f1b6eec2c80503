# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bridge's own address, and the addresses that a port may send as (T6, T9)."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from bpferry_wire.errors import Code
from bpferry_wire.fds import OwnedFds
from bpferry_wire.messages import ErrorReply
from tests.support.census import wait_until
from tests.support.people import ALICE, BOB, ask_once
from tests.support.tap_process import (
    OPEN_POLICY,
    TapProcess,
    granted,
    running_tap_helper,
    tap_on,
)
from tests.support.tuns import FLAGS, frame, frames_in, open_queue, set_address

pytestmark = pytest.mark.privileged

LOWEST = "02:00:00:00:00:01"
ONE = "52:54:00:00:00:01"
TWO = "52:54:00:00:00:02"
THREE = "52:54:00:00:00:03"

POLICY = f"""{OPEN_POLICY}
[bridges.strict]
address = "refuse"
[bridges.apart]
isolated = true
[bridges.known]
address-lock = true
"""


@pytest.fixture(scope="module")
def helper() -> Iterator[TapProcess]:
    """Yield a helper with a bridge for each setting."""
    with running_tap_helper(POLICY, bridges=("br0", "br1", "strict", "apart", "known")) as helper:
        for number, name in enumerate(("br0", "known")):
            helper.ip(f"address add 192.0.{number}.1/24 dev {name}")
        yield helper


# -- T6


def test_a_holder_cannot_change_the_bridge_s_address(helper: TapProcess) -> None:
    """The host uses it with an IP address, so the helper made the one that it has its own."""
    before = helper.find("br0").address
    name, fds = granted(helper, tap_on())
    with fds:
        set_address(fds[0].borrow(), LOWEST)
        after = (helper.find(name).address, helper.find("br0").address)

    assert (LOWEST, before) == after


def test_a_tap_s_own_address_is_not_a_bridge_s_choice(helper: TapProcess) -> None:
    """It begins with fe, so that nothing changes while the tap is put there."""
    name, fds = granted(helper, tap_on())
    with fds:
        address = helper.find(name).address

    assert address.startswith("fe:")


def test_a_holder_can_change_the_address_of_a_bridge_without_its_own(helper: TapProcess) -> None:
    """The control: a port's lowest address is the bridge's, if nobody chose another."""
    queue = helper.inside_network(lambda: open_queue("naive", FLAGS))
    try:
        helper.ip("link set naive master br1 up")
        set_address(queue, LOWEST)

        assert helper.find("br1").address == LOWEST
    finally:
        os.close(queue)


def test_policy_can_refuse_a_bridge_without_its_own_address(helper: TapProcess) -> None:
    """And the bridge is not touched; with an address of its own it is good."""
    refused = ask_once(helper.path, tap_on("strict")).reply
    helper.ip(f"link set strict address {ONE}")
    name, fds = granted(helper, tap_on("strict"))
    with fds:
        set_address(fds[0].borrow(), LOWEST)
        after = helper.find("strict").address

    assert isinstance(refused, ErrorReply)
    assert (refused.code, "ip link set strict address" in refused.hint) == (Code.REFUSED, True)
    assert (name[:3], ONE) == ("bft", after)


# -- T9


def carried(sender: OwnedFds, receiver: OwnedFds, data: bytes) -> bool:
    """Say whether *data* that *sender* writes comes to *receiver*."""
    queues = receiver.borrow()
    for queue in queues:
        list(frames_in(queue))
    os.write(sender[0].borrow(), data)
    seen = (got for queue in queues for got in frames_in(queue))

    return wait_until(lambda: any(got[12:14] == b"\x88\xb5" for got in seen), 0.5)


@pytest.mark.parametrize(("bridge", "reached"), [("br0", True), ("apart", False)])
def test_isolated_ports_do_not_reach_each_other(
    helper: TapProcess,
    bridge: str,
    reached: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """By policy; without it, as the control shows, they do."""
    _, fds = granted(helper, tap_on(bridge, 1))
    _, more = granted(helper, tap_on(bridge, 1), BOB)
    with fds, more:
        assert reached == carried(fds, more, frame(ONE))


def test_a_user_may_wish_for_isolation(helper: TapProcess) -> None:
    """Where policy does not ask for it; one of the two alone is not enough."""
    taps = [granted(helper, tap_on("br0", 1, isolated=wish))[1] for wish in (True, True, False)]
    with taps[0], taps[1], taps[2]:
        assert [False, True] == [carried(taps[0], other, frame(ONE)) for other in taps[1:]]


def learned(helper: TapProcess) -> set[str]:
    """Return the addresses that the bridges have behind taps, but for the taps' own."""
    command = helper.command("bridge", "fdb", "show")
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    # "self" is what the card itself listens to, and fe: are the taps' own addresses.
    ours = (words for words in lines if "bft" in words[2] and "self" not in words)
    return {words[0] for words in ours if not words[0].startswith("fe:")}


@pytest.mark.parametrize(("bridge", "expected"), [("br0", {ONE, TWO}), ("known", {ONE})])
def test_a_spoofed_address_is_not_learned(
    helper: TapProcess, bridge: str, expected: set[str]
) -> None:
    """Where policy switches learning off the card's own is all; the control learns both."""
    _, fds = granted(helper, tap_on(bridge, 1, mac=bytes.fromhex(ONE.replace(":", ""))))
    with fds:
        for source in (ONE, TWO):
            os.write(fds[0].borrow(), frame(source))

        assert wait_until(lambda: learned(helper) == expected, 1)


def test_without_learning_frames_come_to_the_card(helper: TapProcess) -> None:
    """The static entry leads there, and another port does not see them."""
    taps = [
        granted(helper, tap_on("known", 1, mac=bytes.fromhex(mac.replace(":", ""))))[1]
        for mac in (ONE, TWO, THREE)
    ]
    with taps[0], taps[1], taps[2]:
        results = [carried(taps[0], taps[place], frame(ONE, TWO)) for place in (1, 2)]

    assert [True, False] == results


def test_somebody_else_s_address_cannot_be_claimed(helper: TapProcess) -> None:
    """The second who wants it is refused, and nothing is left of that tap."""
    wanted = tap_on("known", 1, mac=bytes.fromhex(ONE.replace(":", "")))
    name, fds = granted(helper, wanted)
    with fds:
        refused = ask_once(helper.path, wanted, BOB).reply
        taps = [tap.name for tap in helper.granted_taps()]

    assert isinstance(refused, ErrorReply)
    assert (refused.code, f"for '{ONE}'" in str(refused.message)) == (Code.REFUSED, True)
    assert [name] == taps


def test_address_behind_a_port_of_another_s_cannot_be_claimed(helper: TapProcess) -> None:
    """A port that is not the helper's has it for good: the bridge itself says so."""
    helper.ip("tuntap add dev foreign mode tap")
    helper.ip("link set foreign master known up")
    try:
        add = helper.command("bridge", "fdb", "add", THREE, "dev", "foreign", "master", "static")
        subprocess.run(add, check=True)
        wanted = tap_on("known", 1, mac=bytes.fromhex(THREE.replace(":", "")))
        refused = ask_once(helper.path, wanted).reply
        taps = helper.granted_taps()
    finally:
        helper.ip("link del foreign")

    assert isinstance(refused, ErrorReply)
    assert (refused.code, "entry for that address behind 'foreign'" in refused.message) == (
        Code.REFUSED,
        True,
    )
    assert [] == taps


def test_an_address_is_free_again_with_its_tap(helper: TapProcess) -> None:
    """The next one has it."""
    wanted = tap_on("known", 1, mac=bytes.fromhex(TWO.replace(":", "")))
    for person in (ALICE, BOB):
        granted(helper, wanted, person)[1].close()


def test_without_an_address_there_is_no_port_that_does_not_learn(helper: TapProcess) -> None:
    """The bridge would send it nothing but what it sends to all."""
    refused = ask_once(helper.path, tap_on("known", 1)).reply

    assert isinstance(refused, ErrorReply)
    assert (refused.code, refused.hint) == (
        Code.REFUSED,
        "send the card's MAC address with the request",
    )


MULTICAST = "01:00:5e:00:00:01"
NONE = "00:00:00:00:00:00"


@pytest.mark.parametrize("address", [MULTICAST, NONE])
def test_an_address_that_no_card_can_have_is_refused(helper: TapProcess, address: str) -> None:
    """The bridge would take it."""
    wanted = tap_on("known", 1, mac=bytes.fromhex(address.replace(":", "")))
    answered = ask_once(helper.path, wanted)
    answered.fds.close()

    assert isinstance(answered.reply, ErrorReply)
    assert "no card can have" in answered.reply.message


def test_the_bridge_s_own_address_cannot_be_claimed(helper: TapProcess) -> None:
    """Frames for the host would go to the guest."""
    own = helper.find("known").address
    wanted = tap_on("known", 1, mac=bytes.fromhex(own.replace(":", "")))
    answered = ask_once(helper.path, wanted)
    answered.fds.close()

    assert isinstance(answered.reply, ErrorReply)
