# SPDX-License-Identifier: LGPL-2.1-or-later
"""The MAC addresses that users may ask for.

A rule names single addresses, and prefixes such as "52:54:00:00:00:00/24". Where there is none, but
address-lock, these are the locally administered ones: those of VMs, made up on some host. Gateways
and other machines have addresses of their makers, or of a protocol such as VRRP, without that bit.
"""

import re
from typing import Final

ADDRESS_BITS: Final = 48

LOCAL_BIT: Final = 0x02
GROUP_BIT: Final = 0x01
"""In the first byte (is_local_ether_addr and is_multicast_ether_addr, linux/etherdevice.h)."""

FORM: Final = re.compile("([0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5})(?:/([0-9]{1,2}))?")

Cards = tuple[range, ...]
"""Addresses as numbers; none stands for those that are locally administered."""


def cards(value: object) -> Cards:
    """Check a list of MAC addresses and prefixes; see ``checks``."""
    if not isinstance(value, list) or not value:
        raise ValueError('must be a list such as ["52:54:00:12:34:56", "52:54:00:00:00:00/24"]')
    return tuple(map(_range, value))


def _range(entry: object) -> range:
    found = FORM.fullmatch(entry) if isinstance(entry, str) else None
    bits = int(found[2] or ADDRESS_BITS) if found else ADDRESS_BITS + 1
    if found is None or bits > ADDRESS_BITS:
        raise ValueError(
            f"has {entry!r}, which is neither a MAC address nor a prefix such as "
            '"52:54:00:00:00:00/24"'
        )
    first, size = int(found[1].replace(":", ""), 16), 2 ** (ADDRESS_BITS - bits)
    if first % size:
        raise ValueError(f"has {entry!r}, in which more than the first {bits} bits are set")
    if bits >= 8 and _octets(first)[0] & GROUP_BIT:  # noqa: PLR2004 - a byte
        raise ValueError(f"has {entry!r}, which is a multicast address; no card can have it")
    return range(first, first + size)


def may_ask_for(allowed: Cards, mac: bytes) -> bool:
    """Return whether *mac* is among the *allowed*, or one that no card has (see tap/bridges)."""
    if mac[0] & GROUP_BIT or not any(mac):
        return True
    number = int.from_bytes(mac)
    return any(number in some for some in allowed) if allowed else bool(mac[0] & LOCAL_BIT)


def is_named(allowed: Cards, mac: bytes) -> bool:
    """Return whether *mac* is named on its own, not as part of a prefix."""
    return range(number := int.from_bytes(mac), number + 1) in allowed


def cards_in_words(allowed: Cards) -> str:
    """Return the *allowed* addresses as the policy writes them."""
    return ", ".join(map(_written, allowed)) or "locally administered addresses"


def _written(some: range) -> str:
    bits = ADDRESS_BITS + 1 - len(some).bit_length()
    return _octets(some[0]).hex(":") + (f"/{bits}" if bits < ADDRESS_BITS else "")


def _octets(number: int) -> bytes:
    return number.to_bytes(ADDRESS_BITS // 8)
