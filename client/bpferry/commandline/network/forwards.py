# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ports of the host that lead into the guest, by passt or by QEMU's own user network (libslirp).

QEMU takes single ports of IPv4. What only passt can do is refused with passt as the way out.
"""

import ipaddress
from collections.abc import Iterator
from typing import Final

from bpferry.commandline.context import unsupported
from bpferry.commandline.parts import Endpoint
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


def forwarded_ports(card: Card, key: str, card_id: str) -> Iterator[Endpoint]:
    """Yield the ports of this host that are the guest's."""
    for index, forward in enumerate(card.port_forwards):
        host = forward.address or ""
        if forward.interface:
            host = f"{host}%{forward.interface}"
        for found in forward.ranges or (PortRange(start=1, end=65535),):
            if not found.exclude:
                yield Endpoint(
                    f"{card_id}, {_in_the_guest(found)} of the guest",
                    forward.protocol,
                    f"{key}.port-forwards[{index}]",
                    host,
                    _span(found.start, found.end),
                )


def _in_the_guest(found: PortRange) -> str:
    if found.end is None:
        return f"port {found.to or found.start}"
    first = found.to or found.start
    return f"ports {_span(first, first + found.end - found.start)}"


def _span(first: int, last: int | None) -> str:
    return f"{first}" if last is None else f"{first}-{last}"


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
