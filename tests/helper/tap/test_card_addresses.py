# SPDX-License-Identifier: LGPL-2.1-or-later
"""One tap on a bridge for each card's address: against mistakes, since anybody can lie."""

import re
import socket
import time
from collections.abc import Iterator, Sequence
from threading import Thread

import pytest

from bpferry_helper.errors import RequestError
from bpferry_helper.tap import census
from bpferry_helper.tap.census import Census
from bpferry_helper.tap.link_codec import Link
from bpferry_helper.tap.marks import Holder, OurTap, as_ours, write_alias
from bpferry_helper.tap.netlink import LinkError
from bpferry_wire.errors import Code
from bpferry_wire.fds import OwnedFds
from bpferry_wire.messages import Can, CanReply, Create, Delete, ErrorReply, Quota, QuotaReply, Tap
from tests.helper.tap.own_host import MAC, Host, on_own_host, order
from tests.support.census import wait_until
from tests.support.people import ALICE, BOB, Person, ask, ask_once, connect
from tests.support.tap_process import (
    TapProcess,
    created,
    granted,
    running_tap_helper,
    tap_on,
)
from tests.support.tuns import set_address

pytestmark = pytest.mark.privileged

CARD = "52:54:00:01:02:03"
OTHER_CARD = "52:54:00:01:02:04"
ROUNDS = 25
AT_ONCE = 8


@pytest.fixture(scope="module")
def helper() -> Iterator[TapProcess]:
    """Yield a helper with two bridges."""
    with running_tap_helper(bridges=("br0", "br1")) as helper:
        yield helper


@pytest.fixture(autouse=True)
def _no_tap_is_left(helper: TapProcess) -> Iterator[None]:
    yield
    assert wait_until(lambda: not helper.granted_taps())


def for_card(address: str = CARD, bridge: str = "br0") -> Tap:
    """Return the request of a VM whose card has *address*."""
    return tap_on(bridge, 1, mac=bytes.fromhex(address.replace(":", "")))


def refusal(helper: TapProcess, request: Tap | Create, person: Person = ALICE) -> ErrorReply:
    """Ask as *person*, who is refused; return what is said."""
    answered = ask_once(helper.path, request, person)
    answered.fds.close()
    assert isinstance(answered.reply, ErrorReply)
    return answered.reply


def test_second_tap_for_a_card_s_address_is_refused(helper: TapProcess) -> None:
    """Whose the first one is, is told; and nothing is left of the second."""
    name, fds = granted(helper, for_card())
    with fds:
        refused = [refusal(helper, for_card(), person) for person in (ALICE, BOB)]
        taps = [tap.name for tap in helper.granted_taps()]

    assert [Code.REFUSED] * 2 == [reply.code for reply in refused]
    words = f"cannot make a tap on 'br0' for '{CARD}': {{}} tap '{name}' there is for a card with"
    assert refused[0].message.startswith(words.format("your own"))
    assert refused[1].message.startswith(words.format(f"uid {ALICE.uid}'s"))
    assert "another MAC address, or its VM another name" in refused[1].hint
    assert [name] == taps


def test_who_holds_which_address_is_in_the_alias(helper: TapProcess) -> None:
    """``ip link`` shows it to everybody, as the kernel keeps it."""
    _, fds = granted(helper, for_card())
    with fds:
        (tap,) = helper.granted_taps()

    assert re.fullmatch(
        rf"bpferry uid={ALICE.uid} pid=\d+ since=\d+ mac={CARD} queues=1", tap.alias
    )


def test_address_is_free_again_with_its_tap(helper: TapProcess) -> None:
    """No later than the tap itself has gone, as it does with its last fd."""
    for person in (ALICE, BOB, ALICE):
        granted(helper, for_card(), person)[1].close()


def test_other_bridges_and_other_cards_are_not_in_the_way(helper: TapProcess) -> None:
    """A bridge is a network of its own; and who names no address claims none."""
    requests = (
        for_card(),
        for_card(bridge="br1"),
        for_card(OTHER_CARD),
        tap_on(queues=1),
        tap_on(queues=1),
    )
    with OwnedFds() as keep:
        for request in requests:
            for fd in granted(helper, request)[1].take():
                keep.add(fd)
        assert len(helper.granted_taps()) == len(requests)


def test_helper_that_was_started_again_knows_the_addresses(helper: TapProcess) -> None:
    """The kernel has them, so that no restart gives a second tap, and none is counted wrongly."""
    name, fds = granted(helper, for_card())
    with fds:
        helper.restart()
        refused = refusal(helper, for_card(), BOB)
        quota = ask_once(helper.path, Quota()).reply

    assert (Code.REFUSED, True) == (refused.code, f"'{name}'" in refused.message)
    assert isinstance(quota, QuotaReply)
    assert (1, 1) == (quota.held, quota.held_by_all)


def test_tap_that_stays_keeps_its_address(helper: TapProcess) -> None:
    """Until its user deletes it, and it is said how; nobody else has to know how."""
    name = created(helper, for_card())
    refused = [refusal(helper, request) for request in (for_card(), Create(for_card()))]
    of_others = refusal(helper, for_card(), BOB)
    ask_once(helper.path, Delete(name))
    granted(helper, for_card(), BOB)[1].close()

    assert [Code.REFUSED] * 3 == [reply.code for reply in (*refused, of_others)]
    assert all(f"bpferry tap delete {name}" in reply.hint for reply in refused)
    assert "delete" not in of_others.hint


def test_can_says_so_too(helper: TapProcess) -> None:
    """A user who asks beforehand learns whose tap it is."""
    before = ask_once(helper.path, Can(for_card()), BOB).reply
    name, fds = granted(helper, for_card())
    with fds:
        meanwhile = ask_once(helper.path, Can(for_card()), BOB).reply

    assert isinstance(before, CanReply)
    assert isinstance(meanwhile, CanReply)
    assert (True, False) == (before.allowed, meanwhile.allowed)
    assert ("", Code.REFUSED) == (before.code, meanwhile.code)
    assert f"uid {ALICE.uid}'s tap '{name}'" in meanwhile.because


def test_tap_counts_where_it_is(helper: TapProcess) -> None:
    """An administrator may move a tap to another bridge, and its address goes along."""
    name, fds = granted(helper, for_card())
    with fds:
        helper.ip(f"link set {name} master br1")
        granted(helper, for_card())[1].close()
        moved = refusal(helper, for_card(bridge="br1"))

    assert Code.REFUSED == moved.code


def test_what_a_holder_does_to_a_tap_changes_nothing(helper: TapProcess) -> None:
    """What counts is what was asked for: the tap's own address is its holder's to change."""
    _, fds = granted(helper, for_card())
    with fds:
        set_address(fds[0].borrow(), OTHER_CARD)

        granted(helper, for_card(OTHER_CARD))[1].close()
        assert Code.REFUSED == refusal(helper, for_card()).code


def at_once(socks: Sequence[socket.socket], keep: OwnedFds) -> list[Code | None]:
    """Ask on each of *socks* at the same time; return the outcomes."""
    outcomes: list[Code | None] = []

    def work(sock: socket.socket) -> None:
        with sock:
            answered = ask(sock, for_card())
        for fd in answered.fds.take():
            keep.add(fd)
        outcomes.append(answered.reply.code if isinstance(answered.reply, ErrorReply) else None)

    threads = [Thread(target=work, args=(sock,)) for sock in socks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_of_requests_at_once_one_is_fulfilled(helper: TapProcess) -> None:
    """Eight of two users ask for one address at the same time: one tap, each time."""
    people = [ALICE, BOB] * (AT_ONCE // 2)
    for _ in range(ROUNDS):
        with OwnedFds() as keep:
            outcomes = at_once([connect(helper.path, person) for person in people], keep)

            assert (1, AT_ONCE - 1) == (outcomes.count(None), outcomes.count(Code.REFUSED))
            assert len(helper.granted_taps()) == 1


# -- one step at a time


ALICES = Holder(ALICE.uid, 1, 1, CARD)
BOBS = Holder(BOB.uid, 2, 2, CARD)


def error_of(census: Census, bridge: Link, holder: Holder = BOBS) -> Code | None:
    """Claim the address and let go of it; return the code of the error."""
    try:
        with census.claim(bridge, holder, is_locked=False):
            return None
    except RequestError as error:
        return error.code


def _bridge(host: Host) -> Link:
    return host.links.expect("br0")


def test_claim_that_comes_to_nothing_is_given_up() -> None:
    """When the tap cannot be made, the next one may have the address."""

    def run(host: Host) -> list[Code | None]:
        taken, bridge = Census(host.links), _bridge(host)
        with pytest.raises(RequestError), taken.claim(bridge, ALICES, is_locked=False):
            host.maker.find(order().wanted._replace(bridge="none"))
        return [error_of(taken, bridge)]

    assert [None] == on_own_host(run)


def test_claim_is_waited_for_but_not_for_ever() -> None:
    """A tap that is not done after some seconds has the address, and the next is to come again."""

    def run(host: Host) -> list[Code | None]:
        census.SETTLE_S = 0.1  # type: ignore[misc] # a child of ours, which ends with this
        taken, bridge = Census(host.links), _bridge(host)
        with taken.claim(bridge, ALICES, is_locked=False):
            codes = [error_of(taken, bridge)]
            codes += [error_of(taken, bridge, BOBS._replace(mac=mac)) for mac in (OTHER_CARD, "")]
        return [*codes, error_of(taken, bridge)]

    assert [Code.BUSY, None, None, None] == on_own_host(run)


def test_who_waits_goes_on_at_once() -> None:
    """The end of one claim wakes who waits for it."""

    def run(host: Host) -> tuple[list[Code | None], float]:
        taken, bridge = Census(host.links), _bridge(host)
        codes: list[Code | None] = []
        waiting = Thread(target=lambda: codes.append(error_of(taken, bridge)))
        with taken.claim(bridge, ALICES, is_locked=False):
            waiting.start()
            time.sleep(0.3)
            assert codes == []
        begin = time.monotonic()
        waiting.join()
        return codes, time.monotonic() - begin

    codes, waited = on_own_host(run)
    assert [None] == codes
    assert waited < census.SETTLE_S / 2


def test_number_of_a_tap_that_is_gone_may_be_another_s() -> None:
    """The kernel gives the numbers of interfaces again; what the tap itself says counts."""

    def run(host: Host) -> list[Code | None]:
        taken, bridge = Census(host.links), _bridge(host)
        made = host.make(order()._replace(alias=write_alias(ALICES._replace(mac=OTHER_CARD))))
        with made.fds, taken.reserve(ALICE.uid, 9, 9) as place:
            taken.record(made.ifindex, ALICES, place)
            return [error_of(taken, bridge)]

    assert [None] == on_own_host(run)


def test_kernel_that_does_not_say() -> None:
    """Where it cannot be told whether a tap is still there, nobody gets its address."""

    def run(host: Host) -> list[Code | None]:
        taken, bridge = Census(host.links), _bridge(host)
        made = host.make(order()._replace(alias=write_alias(ALICES)))
        with made.fds, taken.reserve(ALICE.uid, 9, 9) as place:
            taken.record(made.ifindex, ALICES, place)
            codes = [error_of(taken, bridge)]
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(host.links, "by_index", _fails)
                return [*codes, error_of(taken, bridge)]

    assert CARD == MAC.hex(":")
    assert [Code.REFUSED, Code.BUSY] == on_own_host(run)


def _fails(_index: int) -> None:
    raise LinkError("cannot look for it", 110)


@pytest.mark.parametrize("holder", [ALICES, ALICES._replace(mac="")])
def test_alias_is_read_as_it_was_written(holder: Holder) -> None:
    """With the card's address and without one, as a helper before this one wrote it."""
    tap = Link(1, "bft00000000", "tun", master=2, mtu=1500, address="", alias=write_alias(holder))

    assert OurTap(tap, holder) == as_ours(tap)
