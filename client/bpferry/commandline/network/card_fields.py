# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which fields of a card say something, by its type, its back end, and its model."""

from typing import Final

from bpferry.domain.model.cards import Card

ALWAYS: Final = frozenset({
    "type", "model", "mac", "alias", "address", "link", "boot_order", "rom", "rom_bar", "rom_file",
    "acpi_index",
})  # fmt: skip

VIRTIO: Final = frozenset({
    "driver", "queues", "rss", "rss_hash_report", "txmode", "ioeventfd", "event_idx",
    "rx_queue_size", "tx_queue_size", "csum", "gso", "host_tso4", "host_tso6", "host_ecn",
    "host_ufo", "mrg_rxbuf", "guest_csum", "guest_tso4", "guest_tso6", "guest_ecn", "guest_ufo",
    "teaming", "iommu", "ats", "packed", "page_per_vq",
})  # fmt: skip
"""What says something about virtio cards only."""

BRIDGE: Final = frozenset({"mtu", "send_buffer", "isolated", "tap_device"})
PASST: Final = frozenset({"backend", "interface", "log_file", "ips", "port_forwards", "mtu"})

BY_TYPE: Final = {
    "bridge": BRIDGE | {"bridge"},
    # Where libvirt runs the VM, it notes the bridge of the network here, and reads it never.
    "network": BRIDGE | {"network", "port_group", "bridge"},
    "ethernet": frozenset({"tap", "managed", "send_buffer"}),
    "user": frozenset({"ips"}),
    "vhostuser": frozenset(
        {"socket_type", "socket", "socket_mode", "reconnect", "reconnect_seconds", "mtu"}
    ),
    "udp": frozenset({"host", "port", "local_host", "local_port"}),
    "mcast": frozenset({"host", "port"}),
    "server": frozenset({"host", "port"}),
    "client": frozenset({"host", "port"}),
}


def meaningful_fields(card: Card, *, virtio: bool) -> frozenset[str]:
    """Return the fields that say something about *card*."""
    found = ALWAYS | BY_TYPE[card.type]
    if card.type in ("user", "vhostuser") and card.backend == "passt":
        found = ALWAYS | PASST
    if virtio:
        found |= VIRTIO | ({"vhost_device"} if card.has_tap else frozenset())
        # The guest is told. A bridge's tap has no less, and an existing tap has its own.
        found |= {"mtu"} if card.type == "ethernet" else frozenset()
    if not virtio:
        found |= _usual_fields(card)
    if card.type != "ethernet" and card.managed:
        # The document asks for nothing by it: nobody but the helper makes the tap.
        found |= {"managed"}
    return found


def _usual_fields(card: Card) -> frozenset[str]:
    """Return the fields that say of a card without virtio what it is like anyway."""
    usual = {"driver": "qemu", "queues": 1}
    return frozenset(name for name, value in usual.items() if getattr(card, name) == value)
