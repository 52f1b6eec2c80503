# SPDX-License-Identifier: LGPL-2.1-or-later
"""The helper's modules in a child that has a host of its own, to break one step at a time."""

import ctypes
import socket
import subprocess
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from bpferry_helper.policy.rules import Port
from bpferry_helper.tap import nursery
from bpferry_helper.tap.bridges import Wanted
from bpferry_helper.tap.links import Links
from bpferry_helper.tap.maker import MadeTap, Maker, Order
from bpferry_helper.tap.marks import Holder, write_alias
from bpferry_helper.tap.netlink import Netlink, open_netlink
from tests.support.census import fd_targets
from tests.support.children import in_child
from tests.support.people import ALICE

T = TypeVar("T")

CLONE_NEWNS: Final = 0x0002_0000
CLONE_NEWNET: Final = 0x4000_0000
"""linux/sched.h."""

HOST: Final = """
mount --make-rprivate /
mount -t sysfs sysfs /sys
ip link add name br0 mtu 1500 type bridge
ip address add 192.0.2.1/24 dev br0
"""

PLAIN: Final = Port()
CLOSED: Final = Port(isolated=True, address_lock=True)
MAC: Final = bytes.fromhex("525400010203")


class Host(NamedTuple):
    """What a child has: sockets to both networks, the links of the host, and a maker."""

    netlink: Netlink
    own: Netlink
    links: Links
    maker: Maker

    def make(self, order: Order) -> MadeTap:
        """Make the tap of *order* on its bridge."""
        return self.maker.make(order, self.maker.find(order.wanted))

    def left(self) -> tuple[int, int, list[str]]:
        """Return the number of open fds, of links of our own network, and the taps of the host."""
        taps = [tap.name for tap in self.links.taps(("bft", "bfp"))]
        return sum(fd_targets("self").values()), len(socket.if_nameindex()), taps


def on_own_host(function: Callable[[Host], T], spares: int = 0) -> T:
    """Return what *function* returns in a child on a host with the bridge br0."""

    def run() -> T:
        nursery.SPARES = spares  # type: ignore[misc] # a child of ours, which ends with this
        _unshare(CLONE_NEWNET | CLONE_NEWNS)
        subprocess.run(["sh", "-ec", HOST], check=True)
        host = open_netlink()
        _unshare(CLONE_NEWNET)
        own = open_netlink()
        return function(Host(host, own, Links(host), Maker(host, own, unwatched)))

    return in_child(run)


def _unshare(flags: int) -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(flags):
        raise OSError(ctypes.get_errno(), "cannot make a namespace")


def unwatched(_index: int, _card: str) -> None:
    """Watch no tap's address."""


def order(*, stays: bool = False, queues: int = 2, port: Port = PLAIN) -> Order:
    """Return the order for a tap of Alice's on br0."""
    return Order(
        wanted=Wanted("br0", port, mtu=None, mac=MAC),
        queues=queues,
        owner=ALICE.uid,
        stays=stays,
        alias=write_alias(Holder(ALICE.uid, 1, 1)),
        isolated=False,
    )
