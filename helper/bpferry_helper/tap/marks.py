# SPDX-License-Identifier: LGPL-2.1-or-later
"""How the helper recognizes its own taps: by name and alias, which only root can set.

An administrator may have a tap ``bft-office``, or by accident one with a name like ours. The helper
counts, shows and deletes a tap only if both name and alias have the form that it gives them.
"""

import os
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from bpferry_helper.tap.link_codec import Link
from bpferry_wire.vm_names import VM_NAME

GRANTED_PREFIX: Final = "bft"
"""A tap that was handed over and goes away with its last fd."""

CREATED_PREFIX: Final = "bfp"
"""A tap that was made to stay."""

PREFIXES: Final = (GRANTED_PREFIX, CREATED_PREFIX)

NAME_BYTES: Final = 6
"""Random bytes in a name, two digits each: as many as fit into the kernel's 15 characters. Somebody
who guessed a name could try to attach to the tap before it has its owner; see docs/security.md."""

NAME: Final = re.compile(r"bf[tp](?:[0-9a-f]{12}|[0-9a-f]{8})")
"""8 digits are from earlier versions; a tap that stays may be that old."""

LOWEST_INDEX: Final = 2**30
"""For our taps: the upper half of the kernel's range (a positive int). The kernel counts up from 1,
and a number that we choose does not change its counter."""

UNLIKE_ANY: Final = 0xFE
"""First byte of a tap's own MAC address: the highest that is unicast and locally administered, as a
bridge may take the lowest address of its ports (net/bridge/br_stp_if.c). So does QEMU's helper."""

SPARE_ALIAS: Final = "bpferry spare"

ALIAS: Final = re.compile(
    r"bpferry uid=(\d+) pid=(\d+) since=(\d+)(?: mac=([0-9a-f:]{17}))?(?: queues=(\d+))?"
    r"(?: vlan=(\d+))?(?: in=(\d+))?(?: out=(\d+))?(?: groups=(\d+(?:,\d+)*))?"
    rf"(?: vm=({VM_NAME.pattern}))?( closed)?"
)

CLOSED: Final = " closed"

MAX_ALIAS_BYTES: Final = 254
"""With the NUL that netlink sends, it has to be below IFALIASZ, 256 (dev_set_alias of the kernel's
net/core/dev.c)."""

GROUPS_KEPT: Final = 8
"""In an alias: they are 95 of the at most 228 bytes that it has without the name of a VM."""


class Holder(NamedTuple):
    """Who asked for a tap."""

    uid: int
    pid: int
    since_s: int
    """CLOCK_BOOTTIME."""
    mac: str = ""
    """Of the card behind it, written as in ``ip link``; empty if the request named none."""
    queues: int = 0
    """How many the tap was made with; 0 if an earlier version made it, which did not note that."""
    inbound: int = 0
    """The limit to the VM in bytes per second; 0 for none."""
    outbound: int = 0
    """The same from the VM."""
    groups: tuple[int, ...] = ()
    """The user's groups that the policy named then. Only for a tap that stays."""
    is_closed: bool = False
    """Policy no longer allows the tap, and it was set down."""
    vlan: int = 0
    """That its port was put into; 0 for the bridge's own."""
    vm: str = ""
    """What the client called its VM, clean (``vm_names``); empty if it did not say, or if the alias
    has no room for it. For people."""

    @property
    def who(self) -> str:
        """The user, and the VM if it is known."""
        return f"uid {self.uid} (VM '{self.vm}')" if self.vm else f"uid {self.uid}"


class OurTap(NamedTuple):
    """A tap that the helper made for somebody."""

    link: Link
    holder: Holder

    @property
    def was_created(self) -> bool:
        """It was made to stay until its user deletes it."""
        return self.link.name.startswith(CREATED_PREFIX)


def new_index() -> int:
    """Return a number for a tap that hardly any link has or had.

    The kernel would number the taps of our own namespace from 2 on, and let each keep its number on
    the host if it is free there. So a tap would get the number of a link that was deleted, and with
    it whatever rules of a firewall or of tc still say about that number.
    """
    return LOWEST_INDEX + int.from_bytes(os.urandom(4), "little") % LOWEST_INDEX


def new_name(prefix: str) -> str:
    """Return a name that no tap has, and that nobody can guess."""
    return prefix + os.urandom(NAME_BYTES).hex()


def own_address(name: str) -> str | None:
    """Return the address that the tap *name* itself has; None for a name of an earlier version.

    It follows from the name, which only root can change, so that everybody can see when the holder
    of the tap gave it another one (watch).
    """
    octets = bytes.fromhex(name[len(GRANTED_PREFIX) :])
    if len(octets) != NAME_BYTES:
        return None
    return bytes([UNLIKE_ANY, *octets[1:]]).hex(":")


def new_address() -> str:
    """Return a random unicast address, locally administered, as the kernel gives a new bridge."""
    first, *octets = os.urandom(NAME_BYTES)
    return bytes([first & 0xFC | 0x02, *octets]).hex(":")


def write_alias(holder: Holder) -> str:
    """Return the alias of a tap of *holder*; ``ip link`` shows it.

    The name of the VM is left out if there is no room for all of it, now or when the tap is closed.
    """
    more = [
        f" mac={holder.mac}" if holder.mac else "",
        f" queues={holder.queues}" if holder.queues else "",
        f" vlan={holder.vlan}" if holder.vlan else "",
        f" in={holder.inbound}" if holder.inbound else "",
        f" out={holder.outbound}" if holder.outbound else "",
        f" groups={','.join(map(str, holder.groups))}" if holder.groups else "",
    ]
    alias = f"bpferry uid={holder.uid} pid={holder.pid} since={holder.since_s}{''.join(more)}"
    vm = f" vm={holder.vm}" if holder.vm else ""
    if len(alias) + len(vm) + len(CLOSED) <= MAX_ALIAS_BYTES:
        alias += vm
    return f"{alias}{CLOSED}" if holder.is_closed else alias


def as_ours(link: Link) -> OurTap | None:
    """Return *link* with who asked for it; None if it is not provably a tap that we gave away."""
    found = ALIAS.fullmatch(link.alias)
    if link.kind != "tun" or found is None or NAME.fullmatch(link.name) is None:
        return None
    holder = Holder(
        uid=int(found[1]),
        pid=int(found[2]),
        since_s=int(found[3]),
        mac=found[4] or "",
        queues=int(found[5] or 0),
        vlan=int(found[6] or 0),
        inbound=int(found[7] or 0),
        outbound=int(found[8] or 0),
        groups=tuple(map(int, found[9].split(","))) if found[9] else (),
        vm=found[10] or "",
        is_closed=bool(found[11]),
    )
    return OurTap(link, holder)


def ours_among(links: Iterable[Link]) -> list[OurTap]:
    """Return those of *links* that are provably taps that we gave away."""
    return [tap for link in links if (tap := as_ours(link))]
