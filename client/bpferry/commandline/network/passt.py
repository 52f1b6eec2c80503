# SPDX-License-Identifier: LGPL-2.1-or-later
"""passt: a process of the user's own that connects a card to the host's network, without a tap."""

import ipaddress
from collections.abc import Iterator
from typing import Final

from bpferry.commandline.context import unsupported
from bpferry.commandline.parts import Companion
from bpferry.domain.model.cards import Card, PortForward, PortRange

RECONNECT_SECONDS: Final = 5
"""How long QEMU waits before it connects to passt again, as under libvirt."""

IPV6_PREFIX: Final = 64
IPV6: Final = 6


def passt_companion(card: Card, key: str, socket: str) -> Companion:
    """Return the process behind *card*, which listens at *socket* and ends with QEMU.

    Raises:
        Unsupported: with the key of what passt cannot do.
    """
    return Companion(
        "passt", ("passt", *_arguments(card, key, socket)), socket, key, package="passt"
    )


def _arguments(card: Card, key: str, socket: str) -> Iterator[str]:
    yield "--foreground"
    if card.type == "vhostuser":
        yield "--vhost-user"
    yield "--one-off"
    yield from ("--socket", socket)
    if card.mtu is not None:
        yield from ("--mtu", str(card.mtu))
    if card.interface is not None:
        yield from ("--interface", card.interface)
    if card.log_file is not None:
        yield from ("--log-file", card.log_file)
    yield from _addresses(card, key)
    for index, forward in enumerate(card.port_forwards):
        yield f"--{forward.protocol}-ports"
        yield _ports(forward, f"{key}.port-forwards[{index}]")


def _addresses(card: Card, key: str) -> Iterator[str]:
    check_addresses(card, key)
    for ip in card.ips:
        yield from ("--address", ip.address)
        if ip.prefix and ":" not in ip.address:
            yield from ("--netmask", str(ip.prefix))


def check_addresses(card: Card, key: str) -> None:
    """Raise Unsupported unless *card* has at most one sound address of each family."""
    families: set[int] = set()
    for index, ip in enumerate(card.ips):
        here = f"{key}.ips[{index}]"
        version = _version_of(ip.address, f"{here}.address")
        if ip.family is not None and ip.family != f"ipv{version}":
            raise unsupported(f"{here}.family", f"'{ip.address}' is of another family")
        if version in families:
            raise unsupported(here, f"a card has one address of IPv{version}")
        if version == IPV6 and ip.prefix not in (None, 0, IPV6_PREFIX):
            raise unsupported(f"{here}.prefix", f"the prefix of IPv6 is {IPV6_PREFIX}")
        if version != IPV6 and (ip.prefix or 0) > 32:  # noqa: PLR2004 - bits of IPv4
            raise unsupported(f"{here}.prefix", "an address of IPv4 has 32 bits")
        families.add(version)


def _version_of(address: str, key: str) -> int:
    try:
        return ipaddress.ip_address(address).version
    except ValueError as error:
        raise unsupported(key, f"'{address}' is no address") from error


def _ports(forward: PortForward, key: str) -> str:
    """Return *forward* in passt's notation: address%interface/ranges."""
    if forward.address is not None:
        _version_of(forward.address, f"{key}.address")
    where = (forward.address or "") + (f"%{forward.interface}" if forward.interface else "")
    ranges = [_range(found, f"{key}.ranges[{index}]") for index, found in enumerate(forward.ranges)]
    return (f"{where}/" if where else "") + (",".join(ranges) or "all")


def _range(found: PortRange, key: str) -> str:
    last = found.end or found.start
    if last < found.start:
        raise unsupported(f"{key}.end", f"it is before the first port, {found.start}")
    text = f"{'~' if found.exclude else ''}{found.start}"
    text += f"-{found.end}" if found.end is not None else ""
    if found.to is None:
        return text
    last_inside = found.to + last - found.start
    if last_inside > 65535:  # noqa: PLR2004 - the highest port
        raise unsupported(f"{key}.to", "the last port in the guest would be above 65535")
    return f"{text}:{found.to}" + (f"-{last_inside}" if found.end is not None else "")
