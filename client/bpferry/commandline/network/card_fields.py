# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which fields of a card mean something, by its type, its back end, and its model."""

from typing import Final

from bpferry.domain.forms import name_of
from bpferry.domain.model.cards import Card
from bpferry.domain.shape import fields_of

ALWAYS: Final = frozenset({
    "type", "model", "mac", "alias", "address", "link", "boot_order", "rom", "rom_bar", "rom_file",
})  # fmt: skip

DRIVER: Final = frozenset({
    "driver", "queues", "rss", "rss_hash_report", "txmode", "ioeventfd", "event_idx",
    "rx_queue_size", "tx_queue_size", "csum", "gso", "host_tso4", "host_tso6", "host_ecn",
    "host_ufo", "mrg_rxbuf", "guest_csum", "guest_tso4", "guest_tso6", "guest_ecn", "guest_ufo",
    "vhost_device",
})  # fmt: skip
"""What libvirt reads only for virtio cards, and ignores for others (virDomainNetDefParseXML)."""

VIRTIO: Final = DRIVER | {"teaming", "iommu", "ats", "packed", "page_per_vq"}
"""What has a meaning only for virtio cards."""

BRIDGE: Final = frozenset(
    {"mtu", "send_buffer", "isolated", "vlan", "tagged_vlans", "bandwidth", "tap_device"}
)
PASST: Final = frozenset({"backend", "interface", "log_file", "ips", "port_forwards", "mtu"})

BY_TYPE: Final = {
    "bridge": BRIDGE | {"bridge"},
    # libvirt writes the bridge of the network here while it runs the VM, and never reads it.
    "network": BRIDGE | {"network", "port_group", "bridge"},
    "ethernet": frozenset({"tap", "managed", "send_buffer"}),
    "user": frozenset({"ips", "port_forwards"}),
    "vhostuser": frozenset(
        {"socket_type", "socket", "socket_mode", "reconnect", "reconnect_seconds", "mtu"}
    ),
    "udp": frozenset({"host", "port", "local_host", "local_port"}),
    "mcast": frozenset({"host", "port"}),
    "server": frozenset({"host", "port"}),
    "client": frozenset({"host", "port"}),
}


def meaningful_fields(card: Card, *, virtio: bool) -> frozenset[str]:
    """Return the fields that have a meaning for *card*."""
    found = ALWAYS | BY_TYPE[card.type]
    if card.type in ("user", "vhostuser") and card.backend == "passt":
        found = ALWAYS | PASST
    found |= DRIVER - {"vhost_device"}
    if card.has_tap or not virtio:
        found |= {"vhost_device"}
    if virtio:
        found |= VIRTIO - {"vhost_device"}
        # The guest is told. A bridge's tap has at least this, and an existing tap has its own.
        found |= {"mtu"} if card.type == "ethernet" else frozenset()
    if card.type != "ethernet" and card.managed:
        # This asks for nothing more: the helper makes the tap in any case.
        found |= {"managed"}
    return found


def fields_without_effect(card: Card) -> list[str]:
    """Return the names of settings that change nothing for *card*, which is not a virtio card.

    vhost is left to the plan; one queue and no RSS is what the card has anyway.
    """
    usual = {"queues": 1, "rss": False}
    return [
        name_of(field)
        for field in fields_of(Card)
        if field.name in DRIVER - {"driver"}
        and getattr(card, field.name) not in (field.default, usual.get(field.name))
    ]
