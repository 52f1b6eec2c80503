# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whose an address is by a bridge's table, with VLANs, which not every kernel's bridges filter."""

import errno
from typing import Final

import pytest

from bpferry_helper.errors import RequestError
from bpferry_helper.tap import claims
from bpferry_helper.tap.claims import Claim
from bpferry_helper.tap.link_codec import Link
from bpferry_helper.tap.links import Entry, Links
from bpferry_helper.tap.marks import Holder, write_alias
from bpferry_helper.tap.netlink import LinkError

CARD: Final = "52:54:00:01:02:03"
BRIDGE, UPLINK, OURS, TAP = 1, 2, 3, 4


def link(index: int, name: str, kind: str = "", alias: str = "", address: str = "") -> Link:
    """Return a link that is a port of the bridge."""
    return Link(index, name, kind, master=BRIDGE, mtu=1500, address=address, alias=alias)


ALIAS: Final = write_alias(Holder(1001, 1, 1))
LINKS: Final = (
    link(BRIDGE, "br0", "bridge", address=CARD),
    link(UPLINK, "eth0"),
    link(OURS, "bft000000000001", "tun", ALIAS),
    link(TAP, "bft000000000002", "tun", ALIAS),
)


class Table(Links):
    """A bridge's table as a dictionary: entries by VLAN, all for the one address."""

    def __init__(self, entries: dict[int, Entry]) -> None:
        self.entries = entries
        self.made: list[bool] = []
        """For each entry that was made, whether it replaced others."""

    def by_index(self, index: int) -> Link | None:
        """Return one of the links above."""
        return next((link for link in LINKS if link.ifindex == index), None)

    def find_entry(self, bridge: int, address: str, vlan: int) -> Entry | None:
        """Return the entry in *vlan*."""
        assert (bridge, address) == (BRIDGE, CARD)
        return self.entries.get(vlan)

    def add_static_address(self, index: int, address: str, *, replace: bool = False) -> None:
        """Note it; as in the kernel, an entry in any VLAN of the port is in the way."""
        assert (index, address) == (TAP, CARD)
        if self.entries and not replace:
            raise LinkError("cannot tell the bridge", errno.EEXIST)
        self.made.append(replace)


LEARNED: Final = {port: Entry(port, is_learned=True) for port in (UPLINK, OURS)}
FIXED: Final = {port: Entry(port, is_learned=False) for port in (BRIDGE, UPLINK, TAP)}


@pytest.mark.parametrize(
    ("entries", "is_named", "refusal"),
    [
        ({}, False, ""),
        ({20: LEARNED[OURS]}, False, ""),
        ({20: LEARNED[UPLINK]}, False, "gets frames from that address at its port 'eth0'"),
        ({20: LEARNED[UPLINK]}, True, ""),
        ({10: FIXED[UPLINK]}, False, ""),
        ({20: FIXED[UPLINK]}, True, "has a fixed entry for that address behind 'eth0'"),
        ({0: FIXED[BRIDGE]}, True, "that is the address of 'br0'"),
        ({0: FIXED[TAP], 20: LEARNED[OURS]}, False, ""),
        ({0: FIXED[TAP], 20: LEARNED[UPLINK]}, False, "at its port 'eth0'"),
    ],
)
def test_address_is_looked_for_in_the_vlan_of_the_port_and_in_none(
    entries: dict[int, Entry], refusal: str, *, is_named: bool
) -> None:
    """The port is in VLAN 20; its own entry, half made, is in nobody's way."""
    table, said = Table(entries), ""
    try:
        claims.make(table, TAP, LINKS[0], Claim(CARD, (20,), is_named))
    except RequestError as error:
        said = str(error)

    assert (bool(refusal), refusal in said) == (bool(said), True)
    assert [bool(entries)] * (not refusal) == table.made


@pytest.mark.parametrize(
    ("entries", "made"),
    [
        ({}, [False]),
        ({20: LEARNED[UPLINK]}, [True]),
        ({0: LEARNED[UPLINK]}, [True]),
        ({0: FIXED[TAP], 20: LEARNED[OURS]}, [True]),
        ({0: FIXED[BRIDGE]}, []),
    ],
)
def test_entry_is_made_again_over_what_was_learned(
    entries: dict[int, Entry], made: list[bool]
) -> None:
    """Wherever; what is fixed is left alone."""
    table = Table(entries)
    claims.make_again(table, TAP, CARD)

    assert made == table.made
