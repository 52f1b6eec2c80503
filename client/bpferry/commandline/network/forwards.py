# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ports of the host that QEMU's own user network (libslirp) leads into the guest.

It takes single ports of IPv4. What only passt can do is refused with passt as the way out.
"""

import ipaddress
from collections.abc import Iterator
from typing import Final

from bpferry.commandline.context import unsupported
from bpferry.domain.model.cards import Card, PortForward, PortRange

MOST_PORTS: Final = 256
"""Each port is a socket that QEMU polls for as long as the VM runs."""

PASST: Final = "use passt: <backend type='passt'/>, in the native form backend = \"passt\""


def host_forwards(card: Card, key: str) -> list[dict[str, str]]:
    """Return the property ``hostfwd`` of a card of type user.

    Raises:
        Unsupported: it takes passt to do what *card* asks for.
    """
    found = [
        forward
        for index, wanted in enumerate(card.port_forwards)
        for forward in _forward(wanted, f"{key}.port-forwards[{index}]")
    ]
    if len(found) > MOST_PORTS:
        raise unsupported(
            f"{key}.port-forwards", f"QEMU forwards at most {MOST_PORTS} single ports here", PASST
        )
    return [{"str": forward} for forward in found]


def _forward(wanted: PortForward, key: str) -> Iterator[str]:
    if wanted.interface is not None:
        raise unsupported(f"{key}.interface", "QEMU listens on no interface by its name", PASST)
    if all(one.exclude for one in wanted.ranges):
        raise unsupported(key, "QEMU forwards single ports, and not all of them", PASST)
    excluded = {port for one in wanted.ranges if one.exclude for port in _ports(one)}
    host = _host(wanted.address, f"{key}.address")
    for index, one in enumerate(wanted.ranges):
        if one.exclude:
            continue
        _check(one, f"{key}.ranges[{index}]")
        for port in _ports(one):
            inside = port - one.start + (one.to or one.start)
            if port not in excluded:
                yield f"{wanted.protocol}:{host}:{port}-:{inside}"


def _host(address: str | None, key: str) -> str:
    if address is None:
        return ""
    try:
        return str(ipaddress.IPv4Address(address))
    except ValueError:
        raise unsupported(key, "QEMU listens on addresses of IPv4 only here", PASST) from None


def _check(one: PortRange, key: str) -> None:
    last = one.end or one.start
    if last < one.start:
        raise unsupported(f"{key}.end", f"it is before the first port, {one.start}")
    if one.to is not None and one.to + last - one.start > 65535:  # noqa: PLR2004 - the last port
        raise unsupported(f"{key}.to", "the last port in the guest would be above 65535")


def _ports(one: PortRange) -> range:
    return range(one.start, (one.end or one.start) + 1)
