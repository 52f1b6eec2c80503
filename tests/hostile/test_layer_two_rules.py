# SPDX-License-Identifier: LGPL-2.1-or-later
"""The rules for nftables in docs/layer-two.md, loaded as they are on that page.

Each frame is sent on the host without the rules, where it arrives, and then with them.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from bpferry_wire.fds import OwnedFds
from bpferry_wire.messages import ErrorReply
from tests import requires
from tests.hostile import frames as f
from tests.hostile.test_layer_two import tap
from tests.support.census import wait_until
from tests.support.people import ALICE, ask_once
from tests.support.tap_process import OPEN_POLICY, TapProcess, running_tap_helper, tap_on
from tests.support.tuns import FLAGS, VNET_HEADER, frames_in, open_queue

pytestmark = pytest.mark.privileged

PAGE: Final = (Path(__file__).parents[2] / "docs/layer-two.md").read_text(encoding="utf-8")

WEB: Final = "52:54:00:00:00:01"
MAIL: Final = "52:54:00:00:00:02"
NOBODYS: Final = "52:54:00:00:00:99"
"""The page's cards, and one that it does not have."""

WEB4, MAIL4, ROUTER4, NONE4 = "192.0.2.10", "192.0.2.11", "192.0.2.1", "0.0.0.0"  # noqa: S104
WEB6, MAIL6, ROUTER6, NONE6 = "2001:db8::10", "2001:db8::11", "2001:db8::1", "::"
LOCAL, MAILS_LOCAL = "fe80::5054:ff:fe00:1", "fe80::5054:ff:fe00:2"

POLICY: Final = f"{OPEN_POLICY}\n[bridges.locked]\naddress-lock = true\n"

SAME_OCTETS: Final = 42
"""An ARP message, or the headers of a datagram. What fills a short frame may be cut off."""

ADVERTISED: Final = f.icmpv6(LOCAL, f.ROUTER_ADVERTISEMENT)
CLAIMED: Final = f.icmpv6(WEB6, f.ADVERTISEMENT, MAIL6)

ALLOWED: Final = {
    "an ARP question": f.arp(WEB, (WEB, WEB4), ROUTER4),
    "an ARP answer": f.arp(WEB, (WEB, WEB4), WEB4, is_reply=True),
    "an ARP probe for its own address": f.arp(WEB, (WEB, NONE4), WEB4),
    "IPv4": f.ipv4(WEB, WEB4),
    "a question to a DHCP server": f.ipv4(WEB, NONE4, f.UDP, f.udp(68, 67)),
    "a renewal with a DHCP server": f.ipv4(WEB, WEB4, f.UDP, f.udp(68, 67)),
    "IPv6": f.ipv6(WEB, WEB6, f.UDP, f.udp(1, 1)),
    "IPv6 from its link-local address": f.ipv6(WEB, LOCAL, f.UDP, f.udp(1, 1)),
    "a question to a DHCPv6 server": f.ipv6(WEB, LOCAL, f.UDP, f.udp(546, 547)),
    "a check for duplicates": f.ipv6(WEB, NONE6, f.ICMPV6, f.icmpv6(NONE6, f.SOLICITATION, WEB6)),
    "a question for a neighbour": f.ipv6(
        WEB, WEB6, f.ICMPV6, f.icmpv6(WEB6, f.SOLICITATION, MAIL6)
    ),
    "an answer about itself": f.ipv6(WEB, WEB6, f.ICMPV6, f.icmpv6(WEB6, f.ADVERTISEMENT, WEB6)),
    "an answer about its link-local address": f.ipv6(
        WEB, LOCAL, f.ICMPV6, f.icmpv6(LOCAL, f.ADVERTISEMENT, LOCAL)
    ),
    "a question for a router": f.ipv6(WEB, LOCAL, f.ICMPV6, f.icmpv6(LOCAL, f.ROUTER_SOLICITATION)),
    "the same without an address": f.ipv6(
        WEB, NONE6, f.ICMPV6, f.icmpv6(NONE6, f.ROUTER_SOLICITATION)
    ),
    "joining a group without an address": f.ipv6(
        WEB, NONE6, f.HOP_BY_HOP, f.extension(f.ICMPV6, f.icmpv6(NONE6, f.LISTENER_REPORT))
    ),
    "a fragment of UDP": f.ipv6(WEB, WEB6, f.FRAGMENT, f.fragment(f.UDP, f.udp(1, 1))),
    "a fragment of TCP": f.ipv6(WEB, WEB6, f.FRAGMENT, f.fragment(f.TCP, bytes(24))),
}

FORGED: Final = {
    "ARP from a neighbour's address": f.arp(WEB, (WEB, MAIL4), ROUTER4),
    "an ARP answer for the router": f.arp(WEB, (WEB, ROUTER4), WEB4, is_reply=True),
    "ARP that names a neighbour's card": f.arp(WEB, (MAIL, WEB4), ROUTER4),
    "an ARP probe for another's address": f.arp(WEB, (WEB, NONE4), MAIL4),
    "ARP from an unknown card": f.arp(NOBODYS, (NOBODYS, WEB4), ROUTER4),
    "IPv4 from a neighbour's address": f.ipv4(WEB, MAIL4),
    "IPv4 without an address": f.ipv4(WEB, NONE4),
    "IPv4 from an unknown card": f.ipv4(NOBODYS, WEB4),
    "a DHCP server's answer": f.ipv4(WEB, WEB4, f.UDP, f.udp(67, 68)),
    "the same from another port": f.ipv4(WEB, WEB4, f.UDP, f.udp(9999, 68)),
    "IPv6 from a neighbour's address": f.ipv6(WEB, MAIL6, f.UDP, f.udp(1, 1)),
    "IPv6 from a neighbour's link-local address": f.ipv6(WEB, MAILS_LOCAL, f.UDP, f.udp(1, 1)),
    "IPv6 without an address": f.ipv6(WEB, NONE6, f.UDP, f.udp(1, 1)),
    "a DHCPv6 server's answer": f.ipv6(WEB, LOCAL, f.UDP, f.udp(547, 546)),
    "a check for duplicates of another's": f.ipv6(
        WEB, NONE6, f.ICMPV6, f.icmpv6(NONE6, f.SOLICITATION, MAIL6)
    ),
    "an answer about a neighbour": f.ipv6(WEB, WEB6, f.ICMPV6, CLAIMED),
    "an answer about the router": f.ipv6(
        WEB, WEB6, f.ICMPV6, f.icmpv6(WEB6, f.ADVERTISEMENT, ROUTER6)
    ),
    "an answer behind options": f.ipv6(WEB, WEB6, f.OPTIONS, f.extension(f.ICMPV6, CLAIMED)),
    "an answer in a fragment": f.ipv6(WEB, WEB6, f.FRAGMENT, f.fragment(f.ICMPV6, CLAIMED)),
    "a router advertisement": f.ipv6(WEB, LOCAL, f.ICMPV6, ADVERTISED),
    "one behind hop-by-hop options": f.ipv6(
        WEB, LOCAL, f.HOP_BY_HOP, f.extension(f.ICMPV6, ADVERTISED)
    ),
    "one behind options": f.ipv6(WEB, LOCAL, f.OPTIONS, f.extension(f.ICMPV6, ADVERTISED)),
    "one in a fragment": f.ipv6(WEB, LOCAL, f.FRAGMENT, f.fragment(f.ICMPV6, ADVERTISED)),
    "one in a fragment, behind options": f.ipv6(
        WEB, LOCAL, f.FRAGMENT, f.fragment(f.OPTIONS, f.extension(f.ICMPV6, ADVERTISED))
    ),
    "one in a fragment that follows options": f.ipv6(
        WEB, LOCAL, f.OPTIONS, f.extension(f.FRAGMENT, f.fragment(f.ICMPV6, ADVERTISED))
    ),
    "a first fragment that ends before it": f.ipv6(
        WEB, LOCAL, f.FRAGMENT, f.fragment(f.OPTIONS, f.extension(f.ICMPV6, b""))
    ),
    "one with a tag": f.tagged(f.ipv6(WEB, LOCAL, f.ICMPV6, ADVERTISED)),
    "ARP with a tag": f.tagged(f.arp(WEB, (WEB, MAIL4), ROUTER4)),
    "ARP with a provider's tag": f.tagged(f.arp(WEB, (WEB, MAIL4), ROUTER4), f.PROVIDER_VLAN),
    "ARP with two tags": f.tagged(f.tagged(f.arp(WEB, (WEB, MAIL4), ROUTER4)), f.PROVIDER_VLAN),
    "its own IPv4 with a tag": f.tagged(f.ipv4(WEB, WEB4)),
    "another protocol": f.ethernet(WEB, 0x88B5, b""),
}


@pytest.fixture(scope="module")
def helper() -> Iterator[TapProcess]:
    """Yield a helper with a bridge whose taps are locked, and one whose taps are not."""
    requires.program("nft")
    with running_tap_helper(POLICY, bridges=("plain", "locked")) as helper:
        yield helper


@pytest.fixture
def rules(helper: TapProcess) -> Iterator[None]:
    """Load the page's rules meanwhile, twice, as after a change of them."""
    for _ in range(2):
        nft(helper, "-f", "-", text=block("nft"))
    yield
    nft(helper, "delete table bridge bpferry")


def block(kind: str) -> str:
    """Return the page's only fenced block of this *kind*."""
    [found] = re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def nft(helper: TapProcess, *arguments: str, text: str = "") -> str:
    """Run nft on the helper's host; return what it prints."""
    done = subprocess.run(
        helper.command("nft", *arguments),
        input=text, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def arrives(sender: int, receiver: OwnedFds, data: bytes) -> bool:
    """Say whether *data*, which *sender* writes, comes to *receiver*."""
    sent = data[len(VNET_HEADER) :][:SAME_OCTETS]
    list(frames_in(receiver[0].borrow()))
    os.write(sender, data)
    return wait_until(
        lambda: any(got.startswith(sent) for got in frames_in(receiver[0].borrow())), 0.3
    )


@contextmanager
def guests(helper: TapProcess, bridge: str = "plain") -> Iterator[tuple[int, OwnedFds]]:
    """Yield the queue of the guest with the first card, and those of the other guest."""
    with tap(helper, bridge, WEB) as sender, tap(helper, bridge, MAIL) as receiver:
        yield sender[0].borrow(), receiver


# -- frames


@pytest.mark.parametrize("what", [*ALLOWED, *FORGED])
def test_without_the_rules_a_frame_arrives(helper: TapProcess, what: str) -> None:
    """The control: also what is forged."""
    with guests(helper) as (sender, receiver):
        assert arrives(sender, receiver, {**ALLOWED, **FORGED}[what])


@pytest.mark.usefixtures("rules")
@pytest.mark.parametrize("what", ALLOWED)
def test_what_a_guest_needs_passes_the_rules(helper: TapProcess, what: str) -> None:
    """With its own addresses."""
    with guests(helper) as (sender, receiver):
        assert arrives(sender, receiver, ALLOWED[what])


@pytest.mark.usefixtures("rules")
@pytest.mark.parametrize("what", FORGED)
def test_what_is_forged_is_dropped_by_the_rules(helper: TapProcess, what: str) -> None:
    """And a frame after it still passes."""
    with guests(helper) as (sender, receiver):
        forged = arrives(sender, receiver, FORGED[what])
        after = arrives(sender, receiver, ALLOWED["IPv4"])

    assert (False, True) == (forged, after)


@pytest.mark.usefixtures("rules")
def test_the_host_gets_nothing_forged_either(helper: TapProcess) -> None:
    """The rules come before the bridge decides where a frame goes."""
    with guests(helper) as (sender, _):
        for data in FORGED.values():
            os.write(sender, data)
        shown = nft(helper, "list", "chain", "bridge", "bpferry", "guest")
    [packets] = re.findall(r"counter packets (\d+)", shown)

    # The rules before the last one drop the others.
    assert 0 < int(packets) < len(FORGED)


# -- what the rules rest on, and what they leave alone


@pytest.mark.usefixtures("rules")
@pytest.mark.parametrize(("bridge", "passes"), [("plain", True), ("locked", False)])
def test_the_rules_need_the_address_lock(helper: TapProcess, bridge: str, *, passes: bool) -> None:
    """Without it, a guest sends as another card; with it, as its own only."""
    with guests(helper, bridge) as (sender, receiver):
        own = arrives(sender, receiver, ALLOWED["an ARP question"])
        stolen = arrives(sender, receiver, f.arp(MAIL, (MAIL, MAIL4), ROUTER4))

    assert (True, passes) == (own, stolen)


@pytest.mark.usefixtures("rules")
def test_other_ports_are_not_touched(helper: TapProcess) -> None:
    """A DHCP server and a router behind another port still reach the guests."""
    port = helper.inside_network(lambda: open_queue("uplink", FLAGS))
    try:
        helper.ip("link set uplink master plain up")
        with guests(helper) as (_, receiver):
            assert wait_until(lambda: "state forwarding" in helper.ip("-d link show uplink"))
            served = arrives(port, receiver, FORGED["a DHCP server's answer"])
            routed = arrives(port, receiver, FORGED["a router advertisement"])
    finally:
        os.close(port)

    assert (True, True) == (served, routed)


@pytest.mark.usefixtures("rules")
def test_taps_that_stay_have_the_rules_too(helper: TapProcess) -> None:
    """Their names begin with other letters."""
    port = helper.inside_network(lambda: open_queue("bfp0a1b2c3d", FLAGS))
    try:
        helper.ip("link set bfp0a1b2c3d master plain up")
        with guests(helper) as (_, receiver):
            assert wait_until(lambda: "state forwarding" in helper.ip("-d link show bfp0a1b2c3d"))
            own = arrives(port, receiver, ALLOWED["IPv4"])
            forged = arrives(port, receiver, FORGED["IPv4 from a neighbour's address"])
    finally:
        os.close(port)

    assert (True, False) == (own, forged)


def test_the_page_s_policy_gives_a_user_her_own_card() -> None:
    """And not her neighbour's, who does not run: the control is a policy without the line."""
    text = block("toml").replace("alice", str(ALICE.uid))
    refused = []
    for policy in (text, re.sub("^addresses = .*\n", "", text, flags=re.MULTILINE)):
        with running_tap_helper(policy) as strict:
            answers = [
                ask_once(strict.path, tap_on("br0", 1, mac=f.octets(card)), ALICE)
                for card in (WEB, MAIL)
            ]
        refused.append([isinstance(answer.reply, ErrorReply) for answer in answers])
        for answer in answers:
            answer.fds.close()

    assert [[False, True], [False, False]] == refused
