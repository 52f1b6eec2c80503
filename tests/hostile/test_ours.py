# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tap helper touches what is provably its own, and nothing that only looks like it."""

import subprocess

import pytest

from bpferry_helper.tap import census as census_module
from bpferry_helper.tap import marks
from bpferry_helper.tap.census import Census
from bpferry_helper.tap.link_codec import Link
from bpferry_helper.tap.links import Links
from bpferry_helper.tap.marks import Holder, OurTap, as_ours, write_alias
from bpferry_wire.messages import Delete, ErrorReply, ListReply, ListTaps
from tests.helper.tap.own_host import Host, on_own_host
from tests.support.people import ALICE, ask_once
from tests.support.tap_process import running_tap_helper

pytestmark = pytest.mark.privileged

ALIAS = write_alias(Holder(ALICE.uid, 1, 1))

OURS = "bft0123456789ab"
NOT_OURS = {
    "bft-office": ALIAS,
    "bft0123456789": ALIAS,
    "bft0123456789aX": ALIAS,
    "bft0123456789ac": "",
    "bft0123456789ad": "the tap of the office",
    "bft0123456789ae": f"{ALIAS} and more",
}
"""Taps of an administrator's, with their aliases: persistent, and nobody has them open."""


def make_tap(host: Host, name: str, alias: str) -> None:
    """Make a persistent tap that nobody has open on the *host*, as its administrator can."""
    subprocess.run(["ip", "tuntap", "add", "dev", name, "mode", "tap"], check=True)
    own = Links(host.own)
    with host.netlink.namespace() as there:
        index = own.expect(name).ifindex
        own.give(index, there.borrow(), [("IFLA_IFALIAS", alias)], up=False)


def swept(host: Host) -> set[str]:
    """Return which of the administrator's taps and ours are gone after a sweep."""
    for name, alias in {OURS: ALIAS, **NOT_OURS}.items():
        make_tap(host, name, alias)
    there = {tap.name for tap in host.links.taps(("bft",))}
    Census(host.links).sweep()
    return there - {tap.name for tap in host.links.taps(("bft",))}


def test_taps_of_an_administrator_survive_the_sweeper() -> None:
    """Their names begin as ours do, or are of our form, or their aliases are of ours."""
    assert {OURS} == on_own_host(swept)


def test_by_the_first_letters_alone_they_would_be_deleted() -> None:
    """The control: what the sweeper went by before."""

    def act(host: Host) -> set[str]:
        nobody = Holder(-1, 0, 0)
        vars(census_module)["ours_among"] = lambda links: [OurTap(link, nobody) for link in links]
        return swept(host)

    assert {OURS, *NOT_OURS} == on_own_host(act)


def test_taps_of_an_administrator_are_on_nobody_s_list() -> None:
    """Also those that say in their alias that they are Alice's; and she cannot delete them."""
    taps = {"bfp-office": ALIAS, "bfp0123456789ab": f"{ALIAS} and more"}
    with running_tap_helper() as helper:
        for name, alias in taps.items():
            helper.ip(f"tuntap add dev {name} mode tap")
            subprocess.run(helper.command("ip", "link", "set", name, "alias", alias), check=True)
        helper.restart()
        listed = ask_once(helper.path, ListTaps()).reply
        replies = [ask_once(helper.path, Delete(name)).reply for name in taps]

    assert ListReply(()) == listed
    assert [ErrorReply, ErrorReply] == [type(reply) for reply in replies]


@pytest.mark.parametrize("name", ["bft01234567", "bfp0123456789ab"])
def test_names_of_8_and_of_12_digits_are_ours(name: str) -> None:
    """Taps that stay may be older than the helper."""
    link = Link(1, name, "tun", master=0, mtu=1500, address="", alias=ALIAS)

    assert OurTap(link, Holder(ALICE.uid, 1, 1)) == as_ours(link)
    assert as_ours(link._replace(kind="dummy")) is None


def test_names_have_48_random_bits() -> None:
    """As many as fit: nobody who knows all the others can guess the next one."""
    names = {marks.new_name("bft") for _ in range(4096)}

    assert {15} == {len(name) for name in names}
    # Each of the twelve digits takes each of its sixteen values.
    assert [16] * 12 == [len({name[3 + place] for name in names}) for place in range(12)]
