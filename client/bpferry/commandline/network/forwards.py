# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ports of the host that lead into the guest, by passt or by QEMU's own user network (libslirp).

QEMU takes single ports of IPv4. What only passt can do is refused with a hint to use passt.
"""

from collections.abc import Iterator
from typing import Final

from bpferry.commandline.parts import Endpoint
from bpferry.domain.forms import either
from bpferry.domain.model.cards import Card, PortForward, PortRange
from bpferry.domain.names import Named

MOST_PORTS: Final = 256
"""Each port is a socket that QEMU polls for as long as the VM runs."""

PASST: Final = "use passt: " + either('backend = "passt"', "<backend type='passt'/>")


def host_forwards(device: Named[Card]) -> list[dict[str, str]]:
    """Return the property ``hostfwd`` of a card of type user.

    Raises:
        Unsupported: it takes passt to do what the card asks for.
    """
    found = [
        forward
        for wanted in device.parts("port-forwards", device.value.port_forwards)
        for forward in _forward(wanted)
    ]
    if len(found) > MOST_PORTS:
        raise device.refusal(
            "port-forwards", f"QEMU forwards at most {MOST_PORTS} single ports here", PASST
        )
    return [{"str": forward} for forward in found]


def forwarded_ports(device: Named[Card]) -> Iterator[Endpoint]:
    """Yield the ports of this host that lead into the guest."""
    for part in device.parts("port-forwards", device.value.port_forwards):
        forward = part.value
        host = forward.address or ""
        if forward.interface:
            host = f"{host}%{forward.interface}"
        for found in forward.ranges or (PortRange(start=1, end=65535),):
            if not found.exclude:
                title = f"{device.id}, {_in_the_guest(found)} of the guest"
                ports = _span(found.start, found.end)
                yield Endpoint(title, forward.protocol, part.key, host, ports)


def _in_the_guest(found: PortRange) -> str:
    if found.end is None:
        return f"port {found.to or found.start}"
    first = found.to or found.start
    return f"ports {_span(first, first + found.end - found.start)}"


def _span(first: int, last: int | None) -> str:
    return f"{first}" if last is None else f"{first}-{last}"


def _forward(part: Named[PortForward]) -> Iterator[str]:
    wanted = part.value
    if wanted.interface is not None:
        raise part.refusal("interface", "QEMU cannot listen on an interface by its name", PASST)
    if all(one.exclude for one in wanted.ranges):
        raise part.refusal("", "QEMU forwards single ports, not all of them at once", PASST)
    excluded = {port for one in wanted.ranges if one.exclude for port in _ports(one)}
    host = _host(part)
    for ports in part.parts("ranges", wanted.ranges):
        one = ports.value
        if one.exclude:
            continue
        _check(ports)
        for port in _ports(one):
            inside = port - one.start + (one.to or one.start)
            if port not in excluded:
                yield f"{wanted.protocol}:{host}:{port}-:{inside}"


def _host(part: Named[PortForward]) -> str:
    address = part.value.address
    if address is None:
        return ""
    import ipaddress  # noqa: PLC0415 - takes 1 % of a start's time

    try:
        return str(ipaddress.IPv4Address(address))
    except ValueError:
        sentence = "QEMU listens on IPv4 addresses only here"
        raise part.refusal("address", sentence, PASST) from None


def _check(part: Named[PortRange]) -> None:
    one = part.value
    last = one.end or one.start
    if last < one.start:
        raise part.mistake(
            "end",
            f"it is lower than the first port, {one.start}",
            "write a higher port than the first one",
        )
    if one.to is not None and one.to + last - one.start > 65535:  # noqa: PLR2004 - the last port
        raise part.mistake(
            "to",
            "the last port in the guest would be above 65535",
            "write a lower first port, or forward fewer ports",
        )


def _ports(one: PortRange) -> range:
    return range(one.start, (one.end or one.start) + 1)
