# SPDX-License-Identifier: LGPL-2.1-or-later
"""Network cards, and what is behind them."""

from typing import Annotated, Final, Literal

import msgspec

from bpferry.domain.binding import At, Form, Placed, Table
from bpferry.domain.model.base import VirtioDevice

MAX_QUEUES = 256
"""Queues of one tap in the kernel: MAX_TAP_QUEUES, drivers/net/tun.c."""

MIN_MTU = 68
"""The smallest MTU of IPv4 (RFC 791), and of virtio-net (Virtio 1.2, 5.1.4)."""

TUN_DEVICE: Final = "/dev/net/tun"
VHOST_DEVICE: Final = "/dev/vhost-net"

SLIRP_PREFIXES = (4, 27)
"""The shortest and the longest prefix of a network that libvirt and SLIRP take."""

Queues = Annotated[int, msgspec.Meta(ge=1, le=MAX_QUEUES)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
MAX_VLAN: Final = 4094
Vlan = Annotated[
    int,
    msgspec.Meta(ge=1, le=MAX_VLAN, description=f"the number of a VLAN, from 1 to {MAX_VLAN}"),
]
"""IEEE 802.1Q: 0 and 4095 are no VLANs."""
Amount = Annotated[int, msgspec.Meta(ge=1, le=2**54)]
"""What libvirt takes (networkcommon.rng, 'speed')."""
Mac = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[0-9A-Fa-f][02468ACEace](:[0-9A-Fa-f]{2}){5}$",
        description="a unicast MAC address, such as 52:54:00:12:34:56",
    ),
]
"""The address of one station. Bit 0 of the first byte is not set: it would mean a group."""
Interface = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[A-Za-z0-9_.-]+$", description="the name of an interface, such as tap0"
    ),
]
"""The name of an interface of the host. The kernel takes 15 bytes (IFNAMSIZ)."""
Host = Annotated[
    str, msgspec.Meta(pattern=r"^[A-Za-z0-9.-]+$", description="the name or IPv4 address of a host")
]
"""The name or IPv4 address of a host, without a colon: what follows that would be a port."""
IpText = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Fa-f:.]+$", description="an IP address")]
QueueSize = Literal[256, 512, 1024]
"""Descriptors of one queue: a power of two from 256 to 1024 (virtio_net_device_realize)."""

Model = Literal[
    "default", "virtio", "virtio-transitional", "virtio-non-transitional",
    "e1000", "e1000-82544gc", "e1000-82545em", "e1000e", "igb", "rtl8139", "ne2k_pci", "pcnet",
    "vmxnet3", "tulip", "usb-net", "i82550", "i82551", "i82557a", "i82557b", "i82557c", "i82558a",
    "i82558b", "i82559a", "i82559b", "i82559c", "i82559er", "i82562", "i82801",
]  # fmt: skip
"""The cards of QEMU that sit on PCI or USB; ``default`` is the one that libvirt chooses."""


VIRTIO_MODELS: Final = (
    ("virtio-net", "virtio"), ("virtio-net-pci", "virtio"), ("virtio", "virtio"),
)  # fmt: skip
"""libvirt takes QEMU's own names as well: it passes on a name that it does not know."""


class IpAddress(Table, frozen=True, kw_only=True):
    """An address that the guest is given, and the network around it."""

    address: Placed[IpText, At("@address")]
    family: Placed[Literal["ipv4", "ipv6", None], At("@family")] = None
    prefix: Placed[Annotated[int, msgspec.Meta(ge=0, le=128)] | None, At("@prefix")] = None


class PortRange(Table, frozen=True, kw_only=True):
    """Ports of the host, and where they lead in the guest."""

    start: Placed[Port, At("@start")]
    end: Placed[Port | None, At("@end")] = None
    to: Placed[Port | None, At("@to")] = None
    """The first port in the guest, if it is another one than on the host."""
    exclude: Placed[bool | None, At("@exclude", Form.YES_NO)] = None
    """These ports are not forwarded, whatever other ranges say."""


class PortForward(Table, frozen=True, kw_only=True):
    """Ports of the host that lead into the guest; all of them, if no range is given."""

    protocol: Placed[Literal["tcp", "udp"], At("@proto")]
    address: Placed[IpText | None, At("@address")] = None
    """On the host."""
    interface: Placed[Interface | None, At("@dev")] = None
    ranges: Placed[tuple[PortRange, ...], At("range")] = ()


class Flow(Table, frozen=True, kw_only=True):
    """What may pass in one direction, in libvirt's units."""

    average: Placed[Amount | None, At("@average")] = None
    """Kilobytes (1,000) per second. libvirt takes "floor" in its place, which is refused."""
    peak: Placed[Amount | None, At("@peak")] = None
    """Kilobytes per second during a burst; None for any."""
    burst: Placed[Amount | None, At("@burst")] = None
    """Kibibytes (1,024) that may pass faster than the average."""


class CardBandwidth(Table, frozen=True, kw_only=True):
    """The limits of a card; each direction without one has none but the policy's."""

    inbound: Placed[Flow | None, At("inbound")] = None
    """To the guest."""
    outbound: Placed[Flow | None, At("outbound")] = None
    """From the guest."""


class Card(VirtioDevice, frozen=True, kw_only=True):
    """One network card. Which fields count depends on the type and on the model."""

    type: Placed[
        Literal[
            "bridge", "network", "ethernet", "user", "vhostuser", "udp", "mcast", "server", "client"
        ],
        At("@type", absent="user", always=True),
    ]  # fmt: skip
    model: Placed[Model, At("model/@type", words=VIRTIO_MODELS, absent="default")] = "virtio"
    mac: Placed[Mac | None, At("mac/@address")] = None

    bridge: Placed[str | None, At("source/@bridge")] = None
    network: Placed[str | None, At("source/@network")] = None
    """A name from the policy of the tap helper."""
    port_group: Placed[str | None, At("source/@portgroup")] = None
    """A kind of port of the network; the helper's policy knows it as NETWORK/GROUP."""
    tap: Placed[Interface | None, At("target/@dev")] = None
    """A tap that exists, of type ethernet."""
    managed: Placed[bool | None, At("target/@managed", Form.YES_NO)] = None
    """Whether libvirt would make the tap; here it has to exist."""
    tap_device: Placed[str, At("backend/@tap", Form.PLACE)] = TUN_DEVICE
    """Where taps of a bridge or a network come from; the helper has one such device."""
    vhost_device: Placed[str, At("backend/@vhost", Form.PLACE)] = VHOST_DEVICE
    isolated: Placed[bool, At("port/@isolated", Form.YES_NO)] = False
    """Whether the bridge lets it talk only to ports that are not isolated."""
    vlan: Placed[Vlan | None, At("vlan/tag/@id")] = None
    """The VLAN of the bridge for those of the guest's frames that have no tag."""
    tagged_vlans: Placed[tuple[Vlan, ...], At("vlan/bpferry:tag/@id")] = ()
    """The VLANs for those that have a tag; libvirt writes them differently (``vlan_tags``)."""
    bandwidth: Placed[CardBandwidth | None, At("bandwidth")] = None
    """Limits, which the kernel keeps on the tap."""
    trust_guest_rx_filters: Placed[Literal["no"], At("@trustGuestRxFilters")] = "no"

    backend: Placed[Literal["default", "passt"], At("backend/@type")] = "default"
    """What is behind a card of type user or vhostuser."""
    interface: Placed[Interface | None, At("source/@dev")] = None
    """For passt: the interface of the host whose addresses and routes the guest gets."""
    log_file: Placed[str | None, At("backend/@logFile", Form.PLACE)] = None
    ips: Placed[tuple[IpAddress, ...], At("ip")] = ()
    port_forwards: Placed[tuple[PortForward, ...], At("portForward")] = ()

    socket_type: Placed[Literal["unix", None], At("source/@type")] = None
    socket: Placed[str | None, At("source/@path", Form.PLACE)] = None
    """For vhostuser."""
    socket_mode: Placed[Literal["client", "server", None], At("source/@mode")] = None
    reconnect: Placed[bool | None, At("source/reconnect/@enabled", Form.YES_NO)] = None
    reconnect_seconds: Placed[
        Annotated[int, msgspec.Meta(ge=1, le=4294967)] | None, At("source/reconnect/@timeout")
    ] = None
    host: Placed[Host | None, At("source/@address")] = None
    """For udp, mcast, server and client: where to connect or send to, or where to listen."""
    port: Placed[Port | None, At("source/@port")] = None
    local_host: Placed[Host | None, At("source/local/@address")] = None
    local_port: Placed[Port | None, At("source/local/@port")] = None

    driver: Placed[Literal["qemu", "vhost", None], At("driver/@name")] = None
    """Who moves the packets: the kernel (vhost) or QEMU; by default the plan decides."""
    queues: Placed[Queues | None, At("driver/@queues")] = None
    rss: Placed[bool | None, At("driver/@rss", Form.ON_OFF)] = None
    """Whether the guest is offered RSS; by default ``default_rss`` of the VM decides."""
    rss_hash_report: Placed[bool, At("driver/@rss_hash_report", Form.ON_OFF)] = False
    txmode: Placed[Literal["iothread", "timer", None], At("driver/@txmode")] = None
    ioeventfd: Placed[bool | None, At("driver/@ioeventfd", Form.ON_OFF)] = None
    event_idx: Placed[bool | None, At("driver/@event_idx", Form.ON_OFF)] = None
    rx_queue_size: Placed[QueueSize | None, At("driver/@rx_queue_size")] = None
    tx_queue_size: Placed[QueueSize | None, At("driver/@tx_queue_size")] = None
    csum: Placed[bool | None, At("driver/host/@csum", Form.ON_OFF)] = None
    gso: Placed[bool | None, At("driver/host/@gso", Form.ON_OFF)] = None
    host_tso4: Placed[bool | None, At("driver/host/@tso4", Form.ON_OFF)] = None
    host_tso6: Placed[bool | None, At("driver/host/@tso6", Form.ON_OFF)] = None
    host_ecn: Placed[bool | None, At("driver/host/@ecn", Form.ON_OFF)] = None
    host_ufo: Placed[bool | None, At("driver/host/@ufo", Form.ON_OFF)] = None
    mrg_rxbuf: Placed[bool | None, At("driver/host/@mrg_rxbuf", Form.ON_OFF)] = None
    guest_csum: Placed[bool | None, At("driver/guest/@csum", Form.ON_OFF)] = None
    guest_tso4: Placed[bool | None, At("driver/guest/@tso4", Form.ON_OFF)] = None
    guest_tso6: Placed[bool | None, At("driver/guest/@tso6", Form.ON_OFF)] = None
    guest_ecn: Placed[bool | None, At("driver/guest/@ecn", Form.ON_OFF)] = None
    guest_ufo: Placed[bool | None, At("driver/guest/@ufo", Form.ON_OFF)] = None
    teaming: Placed[Literal["persistent", None], At("teaming/@type")] = None
    """The guest may team it with a card of the host that is plugged in and out."""

    mtu: Placed[Annotated[int, msgspec.Meta(ge=MIN_MTU, le=65535)] | None, At("mtu/@size")] = None
    link: Placed[Literal["up", "down"], At("link/@state")] = "up"
    send_buffer: Placed[
        Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)] | None, At("tune/sndbuf")
    ] = None
    """Bytes that a tap holds before its sender waits; 0 means no limit."""
    boot_order: Placed[Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None,
                          At("boot/@order")] = None  # fmt: skip
    rom: Placed[bool | None, At("rom/@enabled", Form.YES_NO)] = None
    rom_bar: Placed[bool | None, At("rom/@bar", Form.ON_OFF)] = None
    """Whether the guest sees the ROM."""
    rom_file: Placed[str | None, At("rom/@file")] = None
    """An absolute path; an empty one is the old way to say that there is no ROM."""

    @property
    def is_virtio(self) -> bool | None:
        """Whether it is a virtio card; None if that depends on what libvirt would choose."""
        if self.type == "vhostuser":
            return True
        return None if self.model == "default" else self.model.startswith("virtio")

    @property
    def has_tap(self) -> bool:
        """Whether it is connected to a tap."""
        return self.type in ("bridge", "network", "ethernet")


def flows_of(card: Card) -> dict[str, Flow]:
    """Return the limits of *card* that have an average, by their fields' names."""
    both = card.bandwidth
    flows = {"inbound": both.inbound, "outbound": both.outbound} if both else {}
    return {way: flow for way, flow in flows.items() if flow is not None and flow.average}
