# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is behind network cards: ``-netdev``, and what else that needs."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from msgspec import Struct

from bpferry.commandline.context import Context
from bpferry.commandline.memory.shared_memory import SHARED, has_shared_memory
from bpferry.commandline.network.forwards import forwarded_ports, host_forwards
from bpferry.commandline.network.passt import (
    RECONNECT_SECONDS,
    check_addresses,
    passt_link,
    passt_parts,
    passt_socket,
)
from bpferry.commandline.network.tap_card import tap_names, tap_properties, vhost_names
from bpferry.commandline.parts import Endpoint, Found, Option, OwnSocket, Remark, join, json_of
from bpferry.domain.model.cards import SLIRP_PREFIXES, TUN_DEVICE, Card, IpAddress
from bpferry.domain.names import Named

Properties = dict[str, object]


def netdev_id(card_id: str) -> str:
    """Return the id of what is behind the card *card_id*."""
    return f"host{card_id}"


class _Owner(Struct, frozen=True):
    """The card that a netdev is made for."""

    device: Named[Card]
    context: Context

    @property
    def card(self) -> Card:
        """What the document says of it."""
        return self.device.value

    @property
    def id(self) -> str:
        """What it is called."""
        return self.device.id

    def needed(self, field: str) -> object:
        """Return the value of *field*.

        Raises:
            Unsupported: it is not set.
        """
        value = getattr(self.card, field)
        if value is None or value == "":
            name = field.replace("_", "-")
            raise self.device.mistake(
                "", f"a card of type '{self.card.type}' needs '{name}'", f"add '{name}'"
            )
        return value


def netdev_parts(device: Named[Card], context: Context) -> Iterator[Found]:
    """Yield the netdev of *card* and what it needs."""
    card = device.value
    owner = _Owner(device, context)
    if _has_passt(owner):
        yield from passt_parts(device, context)
    yield from forwarded_ports(device)
    if card.type == "vhostuser":
        yield from _vhost_user_chardev(owner)
    properties = MAKERS[card.type](owner)
    netdev = str(properties["type"])
    if netdev not in context.capabilities.netdevs:
        yield device.refusal(
            "type",
            f"'{context.capabilities.qemu}' (QEMU {context.capabilities.version_text}) has no "
            f"network back end '{netdev}'",
            "choose another type, or use a QEMU that has it",
        )
    if card.tap_device != TUN_DEVICE:
        yield Remark(
            f"its tap comes from the helper, which makes it with '{TUN_DEVICE}' and not with "
            f"'{card.tap_device}'",
            "the guest sees no difference; remove the device to get rid of this message",
            f"{device.key}.tap-device",
        )
    yield Option("-netdev", json_of({**properties, "id": netdev_id(device.id)}))
    if card.type == "server":
        yield Endpoint(device.id, "tcp", device.key, card.host or "", str(card.port))
    elif card.type == "udp":
        host, port = card.local_host or "", str(card.local_port)
        yield Endpoint(device.id, "udp", device.key, host, port)


def _has_passt(owner: _Owner) -> bool:
    """Say whether passt is behind the card: if it is named or, as in libvirt, QEMU lacks SLIRP."""
    card, known = owner.card, owner.context.capabilities.netdevs
    if card.type == "user" and "user" not in known and "stream" in known:
        return True
    return card.backend == "passt" and card.type in ("user", "vhostuser")


def _tap(owner: _Owner) -> Properties:
    card, context = owner.card, owner.context
    plan = context.plans[owner.id]
    if card.type == "ethernet":
        _check_ethernet(owner)
    else:
        owner.needed(card.type)
    taps = (context.fd(name) for name in tap_names(owner.id, plan.queues))
    vhosts = (context.fd(name) for name in vhost_names(owner.id, plan.queues))
    return {**tap_properties(plan, taps, vhosts), "sndbuf": card.send_buffer}


def _check_ethernet(owner: _Owner) -> None:
    if owner.card.managed is not False:
        raise owner.device.refusal(
            "managed" if owner.card.managed else "type",
            "creating a tap needs CAP_NET_ADMIN, which neither you nor QEMU has",
            "name an existing tap of yours, with managed='no'",
        )
    owner.needed("tap")


def _user(owner: _Owner) -> Properties:
    if _has_passt(owner):
        return _stream(owner)
    check_addresses(owner.device)
    properties: Properties = {"type": "user"}
    for address in owner.device.parts("ips", owner.card.ips):
        properties |= _network(address)
    forwards = host_forwards(owner.device)
    return properties | ({"hostfwd": forwards} if forwards else {})


def _network(address: Named[IpAddress]) -> Properties:
    ip = address.value
    if ":" in ip.address:
        return {"ipv6-prefix": ip.address, "ipv6-prefixlen": ip.prefix or None}
    low, high = SLIRP_PREFIXES
    if ip.prefix and not low <= ip.prefix <= high:
        raise address.refusal(
            "prefix",
            f"the prefix of an IPv4 network is {low} to {high} here",
            f"write a prefix from {low} to {high}",
        )
    return {"net": f"{ip.address}/{ip.prefix}" if ip.prefix else ip.address}


def _stream(owner: _Owner) -> Properties:
    """Return the connection to passt."""
    fd = owner.context.fd(passt_link(owner.id).name)
    return {"type": "stream", "addr": {"type": "fd", "str": fd}, "server": False}


def _vhost_user(owner: _Owner) -> Properties:
    queues = owner.card.queues or 1
    return {
        "type": "vhost-user",
        "chardev": f"char{owner.id}",
        "queues": queues if queues > 1 else None,
    }


def _vhost_user_chardev(owner: _Owner) -> Iterator[Found]:
    """Yield the socket between QEMU and the process that serves the card."""
    card = owner.card
    if not has_shared_memory(owner.context.machine):
        yield owner.device.refusal(
            "type",
            "the vhost-user process needs access to the guest's memory",
            f"share it: {SHARED}",
        )
    if _has_passt(owner):
        path = passt_socket(owner.id, owner.context)
        yield _chardev(owner, {"path": path, **_again(owner, RECONNECT_SECONDS)})
    elif card.socket_mode == "server":
        if card.reconnect:
            yield owner.device.mistake(
                "reconnect",
                "a socket that listens does not reconnect",
                "leave it out, or write the mode 'client'",
            )
        path = str(owner.needed("socket"))
        # Not with an fd of ours, for which QEMU refuses vhost-user.
        yield OwnSocket(path)
        yield Endpoint(
            owner.id, "unix", owner.device.key, path=path, protocol="vhost-user", waits=True
        )
        yield _chardev(owner, {"path": path, "server": True})
    else:
        if card.reconnect and card.reconnect_seconds is None:
            yield owner.device.mistake(
                "reconnect",
                "the number of seconds is missing",
                "add the number of seconds, or switch it off",
            )
        seconds = card.reconnect_seconds if card.reconnect else None
        yield _chardev(owner, {"path": owner.needed("socket"), **_again(owner, seconds)})


def _chardev(owner: _Owner, properties: Mapping[str, object]) -> Option:
    return Option("-chardev", join("socket", id=f"char{owner.id}", **properties))


def _again(owner: _Owner, seconds: int | None) -> Properties:
    if seconds is None:
        return {}
    if "reconnect-ms" in owner.context.capabilities.chardevs.get("socket", ()):
        return {"reconnect-ms": seconds * 1000}
    return {"reconnect": seconds}


def _socket(role: str) -> Callable[[_Owner], Properties]:
    """Return the builder of a netdev that is a socket in the role *role* (qapi/net.json)."""

    def make(owner: _Owner) -> Properties:
        host = owner.card.host or "" if role == "listen" else owner.needed("host")
        return {"type": "socket", role: f"{host}:{owner.needed('port')}"}

    return make


def _udp(owner: _Owner) -> Properties:
    return {
        "type": "socket",
        "udp": f"{owner.needed('host')}:{owner.needed('port')}",
        "localaddr": f"{owner.needed('local_host')}:{owner.needed('local_port')}",
    }


MAKERS: Final[Mapping[str, Callable[[_Owner], Properties]]] = {
    "bridge": _tap,
    "network": _tap,
    "ethernet": _tap,
    "user": _user,
    "vhostuser": _vhost_user,
    "udp": _udp,
    "mcast": _socket("mcast"),
    "server": _socket("listen"),
    "client": _socket("connect"),
}
