# SPDX-License-Identifier: LGPL-2.1-or-later
"""How to reach the guest of a VM that runs: its addresses, and where its ssh answers.

What is asked, in this order: the agent in the guest, and the host's neighbour table. The table only
has addresses that this host has talked to not long ago, and only if it has an address of its own on
the guest's network. The addresses behind user networking are the guest's own: the host reaches that
guest by a forwarded port.
"""

import contextlib
import ipaddress
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from bpferry.commandline.characters.channels import AGENT
from bpferry.errors import BpferryError
from bpferry.machine.guest_agent import SECONDS, read_addresses
from bpferry.network.neighbours import read_neighbours

Values = Mapping[str, object]

SSH_PORT: Final = 22

NO_CHANNEL: Final = "guest agent: the VM has no channel for it"
"""What is told of a VM whose agent nobody can ask."""

CONNECT_SECONDS: Final = 2.0
"""For a guest to take a connection. One on this host or its networks takes milliseconds."""

FORWARDED: Final = re.compile(
    r"(?P<card>\S+), ports? (?P<first>\d+)(?:-(?P<last>\d+))? of the guest"
)
"""The name of the endpoint of a forwarded port (``commandline.network.forwards``)."""

EVERYWHERE: Final = ("", "*", "0.0.0.0", "::")  # noqa: S104 - where somebody listens, not we

CLOSED: Final = ("user", "vhostuser")
"""Types of cards whose networks this host is not on."""


@dataclass(frozen=True, slots=True)
class Address:
    """One address of a guest."""

    card: str
    address: str
    """With the host's interface after a percent sign where it is needed."""
    source: Literal["guest agent", "neighbour table"]
    reachable: bool
    """Whether this host may reach it, as far as the type of the card says."""


@dataclass(slots=True)
class Found:
    """What was found, and what was not."""

    addresses: list[Address] = field(default_factory=list)
    """The best first."""
    tried: list[str] = field(default_factory=list)
    """What was asked in vain, and why, in words."""


def find_addresses(status: Values, card: str | None = None, seconds: float = SECONDS) -> Found:
    """Return the addresses of the VM with this *status*, or those of one card of it.

    The agent in the guest has so many *seconds* to answer.

    Raises:
        BpferryError: it has no such card.
    """
    cards = {str(one["mac"]): one for one in _chosen(status, card)}
    found = Found()
    _ask_agent(status, cards, found, seconds)
    if len({one.card for one in found.addresses}) < len(cards):
        _ask_kernel(cards, found)
    found.addresses.sort(key=_rank)
    return found


def _chosen(status: Values, card: str | None) -> list[Values]:
    cards = _records(status, "cards")
    if card is None:
        return cards
    chosen = [one for one in cards if card in (one["id"], one["mac"])]
    if not chosen:
        names = ", ".join(str(one["id"]) for one in cards) or "none"
        raise BpferryError(f"'{status['name']}' has no card '{card}'", f"its cards: {names}")
    return chosen


def _ask_agent(status: Values, cards: Mapping[str, Values], found: Found, seconds: float) -> None:
    paths = [str(one["path"]) for one in _records(status, "endpoints") if one["name"] == AGENT]
    if not paths:
        found.tried.append(NO_CHANNEL)
        return
    try:
        told = read_addresses(paths[0], seconds)
    except BpferryError as error:
        found.tried.append(f"guest agent: {error.message}")
        return
    for one in told:
        # A link-local address is of use on this host's interface only, which the guest cannot know.
        if one.mac in cards and not one.address.is_link_local:
            found.addresses.append(_address(cards[one.mac], str(one.address), "guest agent"))
    if not found.addresses:
        found.tried.append("guest agent: the guest has no address at its cards yet")


def _ask_kernel(cards: Mapping[str, Values], found: Found) -> None:
    known = {(one.card, one.address) for one in found.addresses}
    try:
        neighbours = [one for one in read_neighbours() if one.mac in cards]
    except BpferryError as error:
        found.tried.append(error.message)
        return
    for one in neighbours:
        local = f"%{one.interface}" if one.address.is_link_local else ""
        address = _address(cards[one.mac], f"{one.address}{local}", "neighbour table")
        if (address.card, address.address) not in known:
            found.addresses.append(address)
    if not neighbours:
        macs = ", ".join(cards) or "no card"
        found.tried.append(f"neighbour table: this host has not talked to {macs} lately")


def _address(
    card: Values, address: str, source: Literal["guest agent", "neighbour table"]
) -> Address:
    return Address(str(card["id"]), address, source, card["type"] not in CLOSED)


def _rank(address: Address) -> tuple[bool, bool, bool]:
    plain = ipaddress.ip_address(address.address.partition("%")[0])
    return not address.reachable, plain.is_link_local, plain.version != 4  # noqa: PLR2004 - IPv4


def _records(values: Values, key: str) -> list[Values]:
    found = values.get(key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


class Way(NamedTuple):
    """One way to the ssh of a guest."""

    host: str
    port: int
    what: str
    """In words: ``net0, a port of this host``."""
    cid: int | None = None
    """Of vsock, in which case there is no host."""


def ways_to_ssh(status: Values, found: Found) -> Iterator[Way]:
    """Yield each way to the guest's ssh that there may be, the surest first."""
    endpoints = _records(status, "endpoints")
    for one in endpoints:
        port = _forwarded(one)
        if port is not None:
            host = str(one.get("host", ""))
            here = "127.0.0.1" if host in EVERYWHERE else host
            yield Way(here, port, f"port {port} of this host")
    for address in found.addresses:
        if address.reachable:
            yield Way(address.address, SSH_PORT, f"{address.address} ({address.source})")
    for one in endpoints:
        cid = one.get("port")
        if one["kind"] == "vsock" and isinstance(cid, int):
            yield Way("", SSH_PORT, f"vsock, CID {cid}", cid)


def _forwarded(endpoint: Values) -> int | None:
    """Return the port of this host that leads to the guest's ssh by *endpoint*, if one does."""
    named = FORWARDED.fullmatch(str(endpoint["name"]))
    if named is None or endpoint["kind"] != "tcp":
        return None
    first, last = int(named["first"]), int(named["last"] or named["first"])
    start = int(str(endpoint.get("port", "")).partition("-")[0] or 0)
    return start + SSH_PORT - first if first <= SSH_PORT <= last else None


def problem_of(way: Way) -> str:
    """Return why nobody answers there; empty if somebody does."""
    try:
        if way.cid is None:
            socket.create_connection((way.host, way.port), CONNECT_SECONDS).close()
        else:
            _connect_by_vsock(way.cid, way.port)
    except OSError as error:
        return error.strerror or "no answer"
    return ""


def _connect_by_vsock(cid: int, port: int) -> None:
    with contextlib.closing(socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)) as sock:
        sock.settimeout(CONNECT_SECONDS)
        sock.connect((cid, port))


def in_vain(name: str, tried: Sequence[str]) -> BpferryError:
    """Return the error that there is no way to the ssh of the VM *name*."""
    hint = (
        "ssh has to run in the guest; see its console, its addresses (bpferry ip), or add a "
        "forwarded port, a guest agent or a vsock to its description"
    )
    return BpferryError(f"no way to the ssh of '{name}': {'; '.join(tried)}", hint)
