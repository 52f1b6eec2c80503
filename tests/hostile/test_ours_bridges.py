# SPDX-License-Identifier: LGPL-2.1-or-later
"""The address of a bridge is its own, or its network card's, and never what a holder chose."""

import os

import pytest

from tests.helper.tap.own_host import Host, on_own_host, order
from tests.support.census import wait_until
from tests.support.tap_process import (
    OPEN_POLICY,
    TapProcess,
    granted,
    running_tap_helper,
    tap_on,
)
from tests.support.tuns import FLAGS, open_queue, set_address

pytestmark = pytest.mark.privileged

LOWEST = "02:00:00:00:00:01"
CARD = "52:54:00:00:00:09"


def plug_in(helper: TapProcess) -> None:
    """Put the host's network card on br0, as an administrator or a boot script does."""
    helper.ip(f"link add name card address {CARD} type veth peer name cable")
    helper.ip("link set dev card master br0 up")


def address(helper: TapProcess) -> str:
    """Return the address of br0."""
    return helper.find("br0").address


def test_an_empty_bridge_still_takes_its_card_s_address() -> None:
    """A VM that starts before the card is there must not keep the host from its DHCP lease."""
    with running_tap_helper() as helper:
        _, fds = granted(helper, tap_on())
        with fds:
            plug_in(helper)
            after = address(helper)

    assert after == CARD


def test_a_pinned_address_would_stay() -> None:
    """The control: what the helper did to such a bridge before."""
    with running_tap_helper() as helper:
        random = address(helper)
        helper.ip(f"link set dev br0 address {random}")
        plug_in(helper)

        assert address(helper) == random


@pytest.mark.parametrize("prefix", ["192.0.2.1/24", "2001:db8::1/64"])
def test_a_bridge_that_the_host_uses_keeps_its_address(prefix: str) -> None:
    """It has no port, but an IP address: guests reach the host under its present MAC address."""
    with running_tap_helper() as helper:
        helper.ip(f"address add {prefix} dev br0")
        before = address(helper)
        _, fds = granted(helper, tap_on())
        with fds:
            set_address(fds[0].borrow(), LOWEST)

            assert address(helper) == before


def test_a_bridge_with_a_card_keeps_the_card_s_address() -> None:
    """Whatever a holder chooses."""
    with running_tap_helper() as helper:
        plug_in(helper)
        _, fds = granted(helper, tap_on())
        with fds:
            set_address(fds[0].borrow(), LOWEST)

            assert address(helper) == CARD


def test_without_the_helper_a_holder_takes_the_address_of_a_bridge_with_a_card() -> None:
    """The control: a port's lowest address is the bridge's, if nobody chose another."""
    with running_tap_helper() as helper:
        plug_in(helper)
        queue = helper.inside_network(lambda: open_queue("naive", FLAGS))
        helper.ip("link set naive master br0 up")
        set_address(queue, LOWEST)
        after = address(helper)
        os.close(queue)

    assert after == LOWEST


def test_what_a_holder_chose_while_the_bridge_was_empty_does_not_last() -> None:
    """When the card is there, the next tap sets the address that the bridge would have had."""
    with running_tap_helper() as helper:
        _, fds = granted(helper, tap_on())
        set_address(fds[0].borrow(), LOWEST)
        plug_in(helper)
        taken = address(helper)
        _, more = granted(helper, tap_on())
        after = address(helper)
        fds.close()
        more.close()

    assert (LOWEST, CARD) == (taken, after)


def test_the_sweeper_secures_what_was_empty() -> None:
    """Without another tap: within a minute, and when the helper ends, as here."""
    policy = f"{OPEN_POLICY}[service]\nidle-exit-seconds = 1\n"
    with running_tap_helper(policy) as helper:
        _, fds = granted(helper, tap_on())
        set_address(fds[0].borrow(), LOWEST)
        plug_in(helper)
        taken = address(helper)
        secured = wait_until(lambda: address(helper) == CARD)
        fds.close()

    assert (LOWEST, True) == (taken, secured)


def test_an_address_that_a_holder_chose_is_not_pinned() -> None:
    """The bridge gets its IP address when only taps are on it, of which one has the lowest MAC."""
    with running_tap_helper() as helper:
        _, fds = granted(helper, tap_on())
        set_address(fds[0].borrow(), LOWEST)
        helper.ip("address add 192.0.2.1/24 dev br0")
        chosen = address(helper)
        _, more = granted(helper, tap_on())
        pinned = address(helper)
        set_address(fds[0].borrow(), "02:00:00:00:00:00")
        after = address(helper)
        taps = [tap.address for tap in helper.taps()]
        fds.close()
        more.close()

    assert (LOWEST, pinned) == (chosen, after)
    assert pinned not in (LOWEST, *taps)


def test_a_bridge_that_its_last_tap_left_gets_an_address() -> None:
    """The kernel leaves it one of zeros, which nobody can set."""
    with running_tap_helper() as helper:
        granted(helper, tap_on())[1].close()
        assert wait_until(lambda: not helper.granted_taps())
        helper.ip("address add 192.0.2.1/24 dev br0")
        zeros = address(helper)
        granted(helper, tap_on())[1].close()

        assert zeros == "00:00:00:00:00:00"
        assert address(helper) != zeros


def test_an_address_of_a_tap_that_has_just_gone_is_not_pinned() -> None:
    """It was read while the tap was there; the ports, when it was not."""

    def act(host: Host) -> tuple[str, str]:
        stale = host.links.expect("br0")._replace(address=LOWEST)
        host.maker.make(order(), stale).fds.close()
        return stale.address, host.links.expect("br0").address

    stale, pinned = on_own_host(act)

    assert pinned != stale
