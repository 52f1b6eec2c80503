# SPDX-License-Identifier: LGPL-2.1-or-later
"""The few requests about links that are sent to the kernel, each a fixed message.

Nothing else can be requested here: no IP addresses, no routes, and no links are made or deleted
except taps. The form of the messages is in ``link_codec``.
"""

import errno
from collections.abc import Mapping
from typing import Final, NamedTuple

from bpferry_helper.tap.bandwidth import (
    RTM_NEWQDISC,
    RTM_NEWTFILTER,
    inbound_message,
    ingress_message,
    outbound_message,
)
from bpferry_helper.tap.link_codec import (
    AF_BRIDGE,
    IFF_UP,
    IFINFMSG,
    NDMSG,
    RTM_DELLINK,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETNEIGH,
    RTM_NEWLINK,
    RTM_NEWNEIGH,
    RTM_SETLINK,
    Attributes,
    Link,
    link_message,
    read_address,
    read_link,
    vlan_message,
)
from bpferry_helper.tap.netlink import NLM_F_CREATE, NLM_F_EXCL, LinkError, Netlink
from bpferry_wire.fds import BorrowedFd
from bpferry_wire.messages import Rate

BRIDGE_VLAN_INFO_PVID: Final = 0x2
BRIDGE_VLAN_INFO_UNTAGGED: Final = 0x4
"""linux/if_bridge.h."""

NUD_NOARP: Final = 0x40
NUD_PERMANENT: Final = 0x80
NTF_MASTER: Final = 0x04
NTF_EXT_LEARNED: Final = 0x10
NTF_STICKY: Final = 0x40
"""linux/neighbour.h: an entry in the bridge's table that does not age ("static"), and that no frame
moves to another port; "permanent" is an address of the bridge or of a port; "external" ones are
from a switch or a control program."""

NLA_F_NESTED: Final = 0x8000
"""linux/netlink.h."""

RTEXT_FILTER_SKIP_STATS: Final = 8
"""linux/rtnetlink.h: leave out the counters, half of each answer."""

RT_SCOPE_LINK: Final = 253
"""linux/rtnetlink.h: the scope of link-local addresses; that of wider ones is a lower number."""

PORT_SETTINGS: Final = (
    *("ISOLATED", "LOCKED", "LEARNING", "GUARD", "PROTECT", "MCAST_FLOOD", "UNICAST_FLOOD"),
)
"""Those that policy may ask for; linux/if_link.h has IFLA_BRPORT_ in front of each."""

GONE: Final = frozenset({errno.ENODEV, errno.ENOENT})


class Entry(NamedTuple):
    """What a bridge knows about an address."""

    port: int
    """Index of the port that it is behind, or of the bridge itself."""
    is_learned: bool
    """It is from a frame, and not from somebody who made it."""


class Links:
    """The links of one network namespace. Safe to use from several threads."""

    def __init__(self, netlink: Netlink) -> None:
        """Borrow *netlink*."""
        self._netlink = netlink

    def find(self, name: str) -> Link | None:
        """Return the link with this *name*, not one that has it as an alternative name."""
        link = self._get(f"look for the interface '{name}'", [("IFLA_IFNAME", name)])
        return link if link is not None and link.name == name else None

    def expect(self, name: str) -> Link:
        """Return the link with this *name*, which was just made.

        Raises:
            LinkError: it does not exist.
        """
        link = self.find(name)
        if link is None:
            raise LinkError(f"cannot find the new tap '{name}'", errno.ENODEV)
        return link

    def by_index(self, index: int) -> Link | None:
        """Return the link with this *index*."""
        return self._get(f"look at the interface {index}", [], index=index)

    def taps(self, prefixes: tuple[str, ...]) -> list[Link]:
        """Return all taps whose names begin with one of *prefixes*."""
        kind = ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "tun")]})
        message = link_message([("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS), kind])
        found = map(read_link, self._netlink.dump("list the taps", message, RTM_GETLINK))
        # Kernels that do not know the filter answer with all links.
        return [link for link in found if link.kind == "tun" and link.name.startswith(prefixes)]

    def ports(self, bridge: int) -> list[Link]:
        """Return all ports of the link *bridge*."""
        wanted = [("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS), ("IFLA_MASTER", bridge)]
        message = link_message(wanted)
        found = map(read_link, self._netlink.dump("list the ports", message, RTM_GETLINK))
        return [link for link in found if link.master == bridge]

    def has_host_address(self, index: int) -> bool:
        """Return whether the host has an IP address on the link *index*, link-local ones aside."""
        # Of a request for all addresses, the kernel reads nothing but the family.
        found = self._netlink.dump("list the addresses", link_message([]), RTM_GETADDR)
        addresses = map(read_address, found)
        return any(of == index and scope < RT_SCOPE_LINK for of, scope in addresses)

    def give(self, index: int, namespace: BorrowedFd, attributes: Attributes, *, up: bool) -> None:
        """Move the link *index* to *namespace*, set *attributes* there, and set it up if *up*.

        One message: do_setlink (net/core/rtnetlink.c) moves the link first and then sets the rest.
        """
        flags = {"flags": IFF_UP, "change": IFF_UP} if up else {}
        moved = [("IFLA_NET_NS_FD", namespace), *attributes]
        message = link_message(moved, index=index, **flags)
        self._netlink.change("put the tap on its bridge", message, RTM_NEWLINK)

    def set_named(self, name: str, attributes: Attributes, *, up: bool) -> None:
        """Set *attributes* of the link that is called *name*; set it up if *up*.

        For a link that may be gone: its index may be another's by now, its name is not.
        """
        flags = {"flags": IFF_UP, "change": IFF_UP} if up else {}
        message = link_message([("IFLA_IFNAME", name), *attributes], **flags)
        self._netlink.change("put the tap on its bridge", message, RTM_NEWLINK)

    def set(self, index: int, attributes: Attributes, *, up: bool) -> None:
        """Set *attributes* of the link *index*, which is here already; set it up if *up*."""
        flags = {"flags": IFF_UP, "change": IFF_UP} if up else {}
        message = link_message(attributes, index=index, **flags)
        self._netlink.change("put the tap on its bridge", message, RTM_NEWLINK)

    def set_queue_length(self, index: int, length: int) -> None:
        """Let each queue of the tap *index*, which is down, hold *length* frames.

        On a tap that is up the kernel waits for a grace period, which costs more than all the rest
        (net/sched/sch_generic.c, dev_qdisc_change_tx_queue_len).
        """
        message = link_message([("IFLA_TXQLEN", length)], index=index)
        self._netlink.change("set the length of the tap's queues", message, RTM_NEWLINK)

    def set_down(self, index: int, attributes: Attributes) -> None:
        """Set *attributes* of the link *index*, and set it down, so that nothing goes through."""
        message = link_message(attributes, index=index, flags=0, change=IFF_UP)
        self._netlink.change("set the tap down", message, RTM_NEWLINK)

    def set_address(self, index: int, address: str) -> None:
        """Set the MAC *address* of the link *index*."""
        message = link_message([("IFLA_ADDRESS", address)], index=index)
        self._netlink.change("give a link an address of its own", message, RTM_NEWLINK)

    def set_port(self, index: int, settings: Mapping[str, bool]) -> None:
        """Set how the bridge treats its port *index*: the names in *settings* are IFLA_BRPORT_*.

        A kernel that does not know one of them ignores it silently.
        """
        port = {"attrs": [(f"IFLA_BRPORT_{name}", int(on)) for name, on in settings.items()]}
        attributes: Attributes = [("IFLA_PROTINFO", port, NLA_F_NESTED)]
        message = link_message(attributes, index=index, family=AF_BRIDGE)
        self._netlink.change("set the bridge port up", message, RTM_SETLINK)

    def set_vlans(self, index: int, vlan: int | None, tagged: tuple[int, ...], former: int) -> None:
        """Put the port *index* into *vlan*, untagged, and those *tagged*; take it out of *former*.

        Without *vlan*, the bridge drops frames that have no tag.
        """
        flags = dict.fromkeys(tagged, 0)
        if vlan is not None:
            flags[vlan] = BRIDGE_VLAN_INFO_PVID | BRIDGE_VLAN_INFO_UNTAGGED
        what = f"put the bridge port into VLAN {', '.join(map(str, flags))}"
        self._netlink.change(what, vlan_message(index, flags), RTM_SETLINK)
        if former and former not in flags:
            what = f"take the bridge port out of VLAN {former}"
            message = vlan_message(index, {former: 0})
            self._netlink.change(what, message, RTM_DELLINK)

    def limit_inbound(self, index: int, rate: Rate) -> None:
        """Limit what goes out of the tap *index* to its VM."""
        flags, message = NLM_F_CREATE | NLM_F_EXCL, inbound_message(index, rate)
        self._netlink.change("limit what the VM gets", message, RTM_NEWQDISC, flags)

    def limit_outbound(self, index: int, rate: Rate) -> None:
        """Limit what comes from the VM behind the tap *index*."""
        flags, what = NLM_F_CREATE | NLM_F_EXCL, "limit what the VM sends"
        self._netlink.change(what, ingress_message(index), RTM_NEWQDISC, flags)
        self._netlink.change(what, outbound_message(index, rate), RTM_NEWTFILTER, flags)

    def is_locked(self, index: int) -> bool:
        """Say whether the bridge lets nothing in from its port *index* but known addresses.

        Raises:
            LinkError: the kernel does not say.
        """
        return self.port_settings(index)["LOCKED"]

    def port_settings(self, index: int) -> dict[str, bool]:
        """Return how the bridge treats its port *index*, with the names that ``set_port`` takes.

        Raises:
            LinkError: the kernel does not say.
        """
        message = link_message([("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS)], index=index)
        answer = IFINFMSG(self._netlink.ask("look at the bridge port", message, RTM_GETLINK))
        answer.decode()
        info = answer.get_attr("IFLA_LINKINFO")
        port = info.get_attr("IFLA_INFO_SLAVE_DATA") if info else None
        return {name: bool(port and port.get_attr(f"IFLA_BRPORT_{name}")) for name in PORT_SETTINGS}

    def find_entry(self, bridge: int, address: str, vlan: int) -> Entry | None:
        """Return what *bridge* knows about *address* in *vlan*; 0 is for all, and without VLANs.

        One entry is asked for: a user who may send from any address can make the table long.
        """
        message = NDMSG()
        message["family"] = AF_BRIDGE
        message["attrs"] = [("NDA_MASTER", bridge), ("NDA_LLADDR", address)]
        message["attrs"] += [("NDA_VLAN", vlan)] if vlan else []
        try:
            raw = self._netlink.ask(f"look for '{address}' on the bridge", message, RTM_GETNEIGH)
        except LinkError as error:
            if error.errno in GONE:
                return None
            raise
        found = NDMSG(raw)
        found.decode()
        made = found["state"] & (NUD_NOARP | NUD_PERMANENT)
        made |= found["flags"] & (NTF_STICKY | NTF_EXT_LEARNED)
        return Entry(found["ifindex"], is_learned=not made)

    def add_static_address(self, index: int, address: str, *, replace: bool = False) -> None:
        """Tell the bridge that *address* is behind its port *index*.

        Raises:
            LinkError: with EEXIST, if the bridge knows it already, and it is not to *replace* that.
        """
        message = NDMSG()
        message["family"], message["ifindex"] = AF_BRIDGE, index
        message["state"], message["flags"] = NUD_NOARP, NTF_MASTER | NTF_STICKY
        message["attrs"] = [("NDA_LLADDR", address)]
        what = f"tell the bridge the card's address '{address}'"
        flags = NLM_F_CREATE if replace else NLM_F_CREATE | NLM_F_EXCL
        self._netlink.change(what, message, RTM_NEWNEIGH, flags)

    def open_queues(self, tap: Link) -> int:
        """Return how many queues of *tap* are open.

        For a tap with one queue the kernel shows only the carrier, which the holder can switch off
        (TUNSETCARRIER needs no capability). But the kernel refuses to switch the carrier on if no
        queue is open (drivers/net/tun.c, tun_net_change_carrier). So this method tries that.
        """
        if tap.queues is not None:
            return tap.queues
        message = link_message([("IFLA_CARRIER", 1)], index=tap.ifindex)
        try:
            self._netlink.change("ask whether the tap is open", message, RTM_NEWLINK)
        except LinkError as error:
            if error.errno in (errno.EPERM, *GONE):
                return 0
            raise
        return 1

    def delete(self, index: int) -> None:
        """Delete the tap *index*; it is not an error if it is gone already."""
        try:
            self._netlink.change("delete the tap", link_message([], index=index), RTM_DELLINK)
        except LinkError as error:
            if error.errno not in GONE:
                raise

    def _get(self, what: str, attributes: Attributes, index: int = 0) -> Link | None:
        mask = ("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS)
        try:
            message = link_message([mask, *attributes], index=index)
            return read_link(self._netlink.ask(what, message, RTM_GETLINK))
        except LinkError as error:
            if error.errno in GONE:
                return None
            raise
