# SPDX-License-Identifier: LGPL-2.1-or-later
"""passt: an unprivileged process that connects a card to the host's network, without a tap."""

from collections.abc import Iterable, Iterator
from typing import Final

from bpferry.commandline.context import Context
from bpferry.commandline.parts import Companion, Link
from bpferry.domain.model.cards import Card, IpAddress, PortForward, PortRange
from bpferry.domain.names import Named

RECONNECT_SECONDS: Final = 5
"""How long QEMU waits before it connects to passt again, as under libvirt."""

IPV6_PREFIX: Final = 64
IPV6: Final = 6


def passt_link(card_id: str) -> Link:
    """Return the connection between QEMU and the process behind a card of type user."""
    return Link(f"{card_id}.passt", f"{card_id}.qemu")


def passt_socket(card_id: str, context: Context) -> str:
    """Return where the process behind a card of type vhostuser listens."""
    return f"{context.folders.runtime}/{card_id}-passt.sock"


def passt_parts(device: Named[Card], context: Context) -> Iterator[Link | Companion]:
    """Yield the process behind the card *device*, which ends with QEMU, and its end of the link.

    With vhost-user it has to listen itself: QEMU accepts there only a connection that it has made
    by a path (QEMU_CHAR_FEATURE_FD_PASS in chardev/char-socket.c), and passt no listening socket.

    Raises:
        Unsupported: passt cannot do what the card asks for.
    """
    if device.value.type == "vhostuser":
        socket = passt_socket(device.id, context)
        yield _companion(device, ("--vhost-user", "--one-off", "--socket", socket), socket)
    else:
        link = passt_link(device.id)
        yield link
        yield _companion(device, ("--fd", context.fd(link.peer)), inherits=(link.peer,))


def _companion(
    device: Named[Card],
    connection: Iterable[str],
    socket: str = "",
    inherits: tuple[str, ...] = (),
) -> Companion:
    argv = ("passt", "--foreground", *connection, *_arguments(device))
    return Companion("passt", argv, socket, device.key, package="passt", inherits=inherits)


def _arguments(device: Named[Card]) -> Iterator[str]:
    card = device.value
    if card.mtu is not None:
        yield from ("--mtu", str(card.mtu))
    if card.interface is not None:
        yield from ("--interface", card.interface)
    if card.log_file is not None:
        yield from ("--log-file", card.log_file)
    yield from _addresses(device)
    for forward in device.parts("port-forwards", card.port_forwards):
        yield f"--{forward.value.protocol}-ports"
        yield _ports(forward)


def _addresses(device: Named[Card]) -> Iterator[str]:
    check_addresses(device)
    for ip in device.value.ips:
        yield from ("--address", ip.address)
        if ip.prefix and ":" not in ip.address:
            yield from ("--netmask", str(ip.prefix))


def check_addresses(device: Named[Card]) -> None:
    """Raise Unsupported unless the card has at most one valid address of each family."""
    families: set[int] = set()
    for address in device.parts("ips", device.value.ips):
        ip = address.value
        version = _version_of(address, ip.address)
        if ip.family is not None and ip.family != f"ipv{version}":
            raise address.mistake(
                "family",
                f"'{ip.address}' is not an address of this family",
                "write the family that the address has",
            )
        if version in families:
            raise address.refusal(
                "", f"a card has one address of IPv{version}", "leave one of them"
            )
        if version == IPV6 and ip.prefix not in (None, 0, IPV6_PREFIX):
            raise address.refusal(
                "prefix",
                f"the prefix of IPv6 is {IPV6_PREFIX}",
                f"write {IPV6_PREFIX}, or leave the prefix out",
            )
        if version != IPV6 and (ip.prefix or 0) > 32:  # noqa: PLR2004 - bits of IPv4
            raise address.mistake(
                "prefix", "an address of IPv4 has 32 bits", "write a prefix up to 32"
            )
        families.add(version)


def _version_of(part: Named[IpAddress | PortForward], address: str) -> int:
    """Return the IP version of the *address* of *part*."""
    import ipaddress  # noqa: PLC0415 - takes 1 % of a start's time

    try:
        return ipaddress.ip_address(address).version
    except ValueError as error:
        raise part.mistake(
            "address",
            f"'{address}' is not an address",
            "write an address in numbers, such as 10.0.2.15",
        ) from error


def _ports(part: Named[PortForward]) -> str:
    """Return a forward in passt's notation: address%interface/ranges."""
    forward = part.value
    if forward.address is not None:
        _version_of(part, forward.address)
    where = (forward.address or "") + (f"%{forward.interface}" if forward.interface else "")
    ranges = [_range(one) for one in part.parts("ranges", forward.ranges)]
    return (f"{where}/" if where else "") + (",".join(ranges) or "all")


def _range(part: Named[PortRange]) -> str:
    found = part.value
    last = found.end or found.start
    if last < found.start:
        raise part.mistake(
            "end",
            f"it is lower than the first port, {found.start}",
            "write a higher port than the first one",
        )
    text = f"{'~' if found.exclude else ''}{found.start}"
    text += f"-{found.end}" if found.end is not None else ""
    if found.to is None:
        return text
    last_inside = found.to + last - found.start
    if last_inside > 65535:  # noqa: PLR2004 - the highest port
        raise part.mistake(
            "to",
            "the last port in the guest would be above 65535",
            "write a lower first port, or forward fewer ports",
        )
    return f"{text}:{found.to}" + (f"-{last_inside}" if found.end is not None else "")
