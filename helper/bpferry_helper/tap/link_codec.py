# SPDX-License-Identifier: LGPL-2.1-or-later
"""One link as the kernel describes it, and the form of the messages about links.

Messages are only built and read here; ``links`` has the list of those that are sent. All are from
linux/if_link.h and linux/rtnetlink.h, built by pyroute2's codecs. What is read was sent by the
kernel: ``netlink`` and ``watch`` drop what another process sends.
"""

import socket
import sys
from typing import Any, Final, NamedTuple

from bpferry_helper.attributes import (
    IFADDRMSG,
    IFINFOMSG,
    IFLA_INFO_DATA,
    IFLA_LINKINFO,
    attributes,
)
from bpferry_helper.tap.netlink import HEADER, load_codec

RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_SETLINK: Final = 19
RTM_GETADDR: Final = 22
RTM_NEWNEIGH: Final = 28
RTM_GETNEIGH: Final = 30
"""linux/rtnetlink.h."""

AF_BRIDGE: Final = 7
"""linux/socket.h: messages about bridge ports."""

IFF_UP: Final = 0x1
"""linux/if.h."""

IFLA_ADDRESS: Final = 1
IFLA_IFNAME: Final = 3
IFLA_MTU: Final = 4
IFLA_MASTER: Final = 10
IFLA_IFALIAS: Final = 20
IFLA_INFO_KIND: Final = 1
IFLA_TUN_OWNER: Final = 1
IFLA_TUN_PERSIST: Final = 6
IFLA_TUN_NUM_QUEUES: Final = 8
IFLA_TUN_NUM_DISABLED_QUEUES: Final = 9
"""linux/if_link.h."""

IFLA_BRPORT_MCAST_EHT_HOSTS_LIMIT: Final = 37
"""linux/if_link.h."""

IFINFMSG: Final = load_codec("ifinfmsg", "ifinfmsg")
PORT: Final = load_codec("ifinfmsg", "protinfo_bridge")
if len(PORT.nla_map) == IFLA_BRPORT_MCAST_EHT_HOSTS_LIMIT:
    # pyroute2 0.7.2 (Debian 12) ends here, and leaves out without a word what it does not know.
    PORT.nla_map += (
        ("IFLA_BRPORT_MCAST_EHT_HOSTS_LIMIT", "uint32"),
        ("IFLA_BRPORT_MCAST_EHT_HOSTS_CNT", "uint32"),
        ("IFLA_BRPORT_LOCKED", "uint8"),
    )
NDMSG: Final = load_codec("ndmsg", "ndmsg")

Attributes = list[tuple[Any, ...]]


class Link(NamedTuple):
    """One network interface, as the kernel describes it."""

    ifindex: int
    name: str
    kind: str
    """"bridge", "tun", or empty for hardware."""
    master: int
    """Index of the bridge that it is a port of; 0 if none."""
    mtu: int
    address: str
    alias: str
    is_up: bool = False
    owner: int | None = None
    """For a tap: the uid that may open it; None for anybody."""
    stays: bool = False
    """For a tap: it outlives its last fd."""
    queues: int | None = 0
    """For a tap: how many queues are open, including disabled ones. None for a tap with one queue,
    where the kernel does not say it: see ``Links.open_queues``."""


def vlan_message(index: int, vlans: dict[int, int]) -> Any:  # noqa: ANN401 - as below
    """Return a message about the bridge port *index*: VLANs, each with its BRIDGE_VLAN_INFO_*."""
    infos = [{"vid": vlan, "flags": flags} for vlan, flags in vlans.items()]
    spec = {"attrs": [("IFLA_BRIDGE_VLAN_INFO", info) for info in infos]}
    return link_message([("IFLA_AF_SPEC", spec)], index=index, family=AF_BRIDGE)


def link_message(attributes: Attributes, **fields: int) -> Any:  # noqa: ANN401 - pyroute2 has no types
    """Return a message with *attributes*; *fields* are those of its header, struct ifinfomsg."""
    message = IFINFMSG()
    message["family"] = socket.AF_UNSPEC
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = attributes
    return message


def index_of(raw: bytes) -> int:
    """Return the index of the link that the message *raw* is about."""
    return int(IFINFOMSG.unpack_from(raw, HEADER.size)[1])


def read_address(raw: bytes) -> tuple[int, int]:
    """Return the link and the scope of the IP address that the message *raw* describes.

    Without pyroute2, as ``read_link``: each tap that is up has a link-local address.
    """
    scope, index = IFADDRMSG.unpack_from(raw, HEADER.size)
    return index, scope


def read_link(raw: bytes) -> Link:
    """Return the link that the message *raw* describes.

    Without pyroute2, which takes 20 times as long: a tap's holder can make the kernel send many.
    """
    found = dict(attributes(raw[HEADER.size + IFINFOMSG.size :]))
    info = dict(attributes(found.get(IFLA_LINKINFO, b"")))
    _, index, flags, _ = IFINFOMSG.unpack_from(raw, HEADER.size)
    link = Link(
        ifindex=index,
        name=_text(found.get(IFLA_IFNAME)),
        kind=_text(info.get(IFLA_INFO_KIND)),
        master=_number(found.get(IFLA_MASTER)) or 0,
        mtu=_number(found.get(IFLA_MTU)) or 0,
        address=found.get(IFLA_ADDRESS, b"").hex(":"),
        alias=_text(found.get(IFLA_IFALIAS)),
        is_up=bool(flags & IFF_UP),
    )
    data = info.get(IFLA_INFO_DATA) if link.kind == "tun" else None
    return _with_tap(link, dict(attributes(data))) if data else link


def _text(value: bytes | None) -> str:
    return value.rstrip(b"\0").decode(errors="replace") if value else ""


def _number(value: bytes | None) -> int | None:
    return None if value is None else int.from_bytes(value, sys.byteorder)


def _with_tap(link: Link, data: dict[int, bytes]) -> Link:
    """Return *link* with what the kernel says about taps (drivers/net/tun.c, tun_fill_info)."""
    queues = _number(data.get(IFLA_TUN_NUM_QUEUES))
    disabled = _number(data.get(IFLA_TUN_NUM_DISABLED_QUEUES)) or 0
    return link._replace(
        owner=_number(data.get(IFLA_TUN_OWNER)),
        stays=bool(_number(data.get(IFLA_TUN_PERSIST))),
        queues=None if queues is None else queues + disabled,
    )
