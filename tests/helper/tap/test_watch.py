# SPDX-License-Identifier: LGPL-2.1-or-later
"""The watch of addresses goes on whatever happens, and forgets taps that are gone."""

import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from bpferry_helper.tap import watch
from bpferry_helper.tap.link_codec import Link, link_message, read_link
from bpferry_helper.tap.links import Links
from bpferry_helper.tap.marks import Holder, own_address, write_alias
from bpferry_helper.tap.netlink import LinkError
from bpferry_helper.tap.penalties import Penalties
from bpferry_helper.tap.watch import AddressWatch
from tests.support.census import wait_until
from tests.support.children import in_child

NAME: Final = "bft000000000001"
OTHERS: Final = "52:54:00:00:00:02"
CARD: Final = "52:54:00:00:00:01"
INDEX: Final = 7


class Host(Links):
    """Links in a list; what is set and deleted is noted."""

    def __init__(self, *links: Link) -> None:
        self.links = list(links)
        self.restored: list[int] = []
        self.fails: dict[int, int] = {}
        """What the kernel answers to questions about a port, by its index."""

    def taps(self, prefixes: tuple[str, ...]) -> list[Link]:  # noqa: ARG002 - as in Links
        """Return those in the list."""
        return list(self.links)

    def is_locked(self, index: int) -> bool:
        """Say that each is, unless the kernel does not say it."""
        if index in self.fails:
            raise LinkError("cannot look at the bridge port", self.fails[index])
        return True

    def by_index(self, index: int) -> Link | None:  # noqa: ARG002 - as in Links
        """Say that there is none."""
        return None

    def add_static_address(self, index: int, address: str, *, replace: bool = False) -> None:
        """Do nothing."""

    def set_address(self, index: int, address: str) -> None:  # noqa: ARG002 - as in Links
        """Note it."""
        self.restored.append(index)

    def delete(self, index: int) -> None:
        """Take it from the list."""
        self.links = [link for link in self.links if link.ifindex != index]


class Messages(socket.socket):
    """A socket that is told what each next read raises, and which groups it is in."""

    faults: list[Exception]
    is_member = False

    def recvfrom(self, size: int, flags: int = 0) -> tuple[bytes, tuple[int, int]]:
        """Read one message as from the kernel, or raise the fault that it stands for."""
        data = super().recv(size, flags)
        if self.faults:
            raise self.faults.pop(0)
        return data, (0, 0)

    def setsockopt(self, *args: int) -> None:  # type: ignore[override]
        """Note whether the socket is a member of the group of links."""
        if args[0] == watch.SOL_NETLINK:
            self.is_member = args[1] == watch.NETLINK_ADD_MEMBERSHIP


def tap(address: str | None = None, index: int = INDEX) -> Link:
    """Return a tap of a user whose card has an address, at its own *address* unless given."""
    alias = write_alias(Holder(1001, 1, 1, mac=CARD))
    own = own_address(NAME) or ""
    return Link(index, NAME, "tun", master=1, mtu=1500, address=address or own, alias=alias)


@contextmanager
def watched(host: Host) -> Iterator[tuple[AddressWatch, Messages, Callable[..., None]]]:
    """Yield a watch of *host*, its socket, and a function that lets its next read fail.

    Its thread has no end but that of the process, so this is for a child.
    """
    ours, kernels = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock = Messages(fileno=ours.detach())
    sock.faults = []
    found = AddressWatch(sock, host, Penalties(), str)

    def fail(fault: Exception) -> None:
        sock.faults.append(fault)
        kernels.send(b"bft")

    with kernels:
        yield found, sock, fail


def test_links_are_read_as_pyroute2_reads_them() -> None:
    """By hand, it is much faster."""
    data = [("IFLA_TUN_OWNER", 1001), ("IFLA_TUN_PERSIST", 1)]
    data += [("IFLA_TUN_NUM_QUEUES", 3), ("IFLA_TUN_NUM_DISABLED_QUEUES", 2)]
    info = {"attrs": [("IFLA_INFO_KIND", "tun"), ("IFLA_INFO_DATA", {"attrs": data})]}
    link = tap()._replace(is_up=True, owner=1001, stays=True, queues=5)
    message = link_message(
        [
            ("IFLA_IFNAME", link.name),
            ("IFLA_MASTER", link.master),
            ("IFLA_MTU", link.mtu),
            ("IFLA_ADDRESS", link.address),
            ("IFLA_IFALIAS", link.alias),
            ("IFLA_LINKINFO", info),
        ],
        index=link.ifindex,
        flags=1,
    )
    message.encode()

    assert read_link(bytes(message.data)) == link


LOST: Final = OSError(errno.ENOBUFS, "lost")


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_tap_that_went_while_messages_were_lost_is_forgotten(*, is_gone: bool) -> None:
    """So that the helper can end; the control is a tap that is still there."""
    host = Host(tap())

    def run() -> bool:
        with watched(host) as (found, sock, fail):
            if is_gone:
                host.links = []
            fail(LOST)
            return wait_until(lambda: not found.is_needed and not sock.is_member, 0.5)

    assert is_gone == in_child(run)


@pytest.mark.parametrize(("error", "starts"), [(errno.ENODEV, True), (errno.EPERM, False)])
def test_a_tap_that_goes_while_the_helper_starts_is_not_watched(
    error: int, *, starts: bool
) -> None:
    """And ends no start, as any other error does; those beside it are watched."""
    host = Host(tap(), tap(index=8))
    host.fails = {INDEX: error}

    def run() -> bool:
        try:
            with watched(host) as (found, _, _):
                return found.is_needed
        except LinkError:
            return False

    assert starts == in_child(run)


@pytest.mark.parametrize("fault", [LOST, OSError(errno.EIO, "bad"), ValueError("not UTF-8")])
def test_whatever_fails_the_watch_goes_on(
    fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks at all taps, and does so again the next time."""
    monkeypatch.setattr(watch, "FAULT_PAUSE_S", 0.0)
    host = Host(tap())

    def run() -> list[int]:
        with watched(host) as (_, _, fail):
            for index in (8, 9):
                host.links.append(tap(OTHERS, index))
                fail(fault)
                wait_until(lambda: not host.links[1:])
        return host.restored

    assert in_child(run) == [8, 9]
