# SPDX-License-Identifier: LGPL-2.1-or-later
"""A flow as a user writes it, and where it arrives.

tcp 10.0.0.1:40000 > 10.0.0.2:443
udp [fd00::1]:40000 > [fd00::2]:53
icmp 10.0.0.1 > 10.0.0.2
"""

import re
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from bpferry.errors import BadInput
from bpferry.steering.maps import Steering
from bpferry.steering.toeplitz import Flow, HashType, hash_input, toeplitz

WITH_PORTS: Final = ("tcp", "udp")

ARROW: Final = re.compile(
    r"(?P<protocol>[a-z][a-z0-9-]*)\s+(?P<source>\S+)\s*>\s*(?P<to>\S+)", re.ASCII
)
PLACE: Final = re.compile(
    r"(?:\[(?P<v6>[^\]]+)\]|(?P<bare>[^\[\]]+?))(?::(?P<port>[0-9]{1,5}))?", re.ASCII
)
MAX_PORT: Final = 65_535

EXAMPLES: Final = (
    "write 'tcp 10.0.0.1:40000 > 10.0.0.2:443', 'udp [fd00::1]:40000 > [fd00::2]:53' or "
    "'icmp 10.0.0.1 > 10.0.0.2': the sender first, the guest second"
)


@dataclass(frozen=True, slots=True)
class Prediction:
    """Where a flow arrives."""

    queue: int
    hash: int | None = None
    """None if nothing is hashed: then the queue is the default one."""
    entry: int | None = None
    """Which entry of the table it takes."""
    with_ports: bool = False
    """Whether the ports are hashed, and not only the addresses."""
    among: int | None = None
    """How many queues are switched on, if the table alone does not decide."""


def parse_flow(text: str) -> Flow:
    """Return the flow that *text* describes.

    Raises:
        BadInput: it describes none.
    """
    found = ARROW.fullmatch(text.strip())
    if found is None:
        raise _wrong(text, "it is not 'PROTOCOL ADDRESS > ADDRESS'")
    protocol = found["protocol"]
    source, source_port = _place(text, found["source"], protocol)
    destination, destination_port = _place(text, found["to"], protocol)
    if source.version != destination.version:
        raise _wrong(text, "one address is IPv4 and the other IPv6")
    return Flow(source, destination, protocol, source_port, destination_port)


def _place(text: str, word: str, protocol: str) -> tuple[IPv4Address | IPv6Address, int]:
    """Return the address and the port that *word* names; port 0 for a protocol without ports."""
    has_ports = protocol in WITH_PORTS
    try:
        # An IPv6 address without brackets has colons of its own.
        return _without_port(text, ip_address(word), has_ports=has_ports)
    except ValueError:
        pass
    found = PLACE.fullmatch(word)
    if found is None:
        raise _wrong(text, f"'{word}' is no address")
    try:
        address = IPv6Address(found["v6"]) if found["v6"] else IPv4Address(found["bare"])
    except ValueError as error:
        raise _wrong(text, f"'{word}' is no address: {error}") from error
    if found["port"] is None:
        return _without_port(text, address, has_ports=has_ports)
    return address, _port(text, found["port"], protocol)


def _without_port(
    text: str, address: IPv4Address | IPv6Address, *, has_ports: bool
) -> tuple[IPv4Address | IPv6Address, int]:
    if has_ports:
        raise _wrong(text, f"'{address}' has no port")
    return address, 0


def _port(text: str, digits: str, protocol: str) -> int:
    if protocol not in WITH_PORTS:
        raise _wrong(text, f"'{protocol}' has no ports; only tcp and udp do here")
    if not 0 < int(digits) <= MAX_PORT:
        raise _wrong(text, f"{digits} is not a port from 1 to {MAX_PORT}")
    return int(digits)


def _wrong(text: str, why: str) -> BadInput:
    return BadInput(f"cannot read the flow '{text}': {why}", EXAMPLES)


def predict(flow: Flow, steering: Steering, switched_on: int | None = None) -> Prediction:
    """Return where *flow* arrives, if so many queues are *switched_on*; None if nobody knows that.

    Of those, the kernel takes the queue of ``Steering.queue_for``, or the remainder of a division
    by their number (tun_ebpf_select_queue, drivers/net/tun.c).
    """
    if switched_on == 1:
        return Prediction(0, among=1)
    found = _by_table(flow, steering)
    if switched_on is None or found.queue < switched_on:
        return found
    return replace(found, queue=found.queue % switched_on, among=switched_on)


def _by_table(flow: Flow, steering: Steering) -> Prediction:
    queue = steering.queue_for(flow)
    data = hash_input(flow, steering.hash_types) if steering.redirect else None
    if data is None or not steering.table:
        return Prediction(queue)
    value = toeplitz(steering.key, data)
    ports = hash_input(flow, HashType.IPV4 | HashType.IPV6)
    return Prediction(queue, value, value % len(steering.table), with_ports=data != ports)
