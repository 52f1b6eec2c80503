# SPDX-License-Identifier: LGPL-2.1-or-later
"""Network cards, on the command line."""

import msgspec
import pytest

from bpferry.commandline.parts import Command, Device, Remark, Slot
from bpferry.domain.forms import in_form
from bpferry.errors import Unsupported
from tests.client.commandline.card_parts import (
    MAC,
    NEW,
    TAP,
    VIRTIO,
    card,
    context_of,
    device_of,
    parts_of,
    properties_of,
)
from tests.client.refusals import refusal_of

E1000 = "<model type='e1000'/>"

ALL_OFFLOADS = (
    "<driver name='qemu' txmode='iothread' ioeventfd='on' event_idx='off' rx_queue_size='512' "
    "tx_queue_size='1024' rss_hash_report='on' iommu='on' ats='on' packed='off' page_per_vq='on'>"
    "<host csum='off' gso='off' tso4='off' tso6='off' ecn='off' ufo='off' mrg_rxbuf='off'/>"
    "<guest csum='off' tso4='off' tso6='off' ecn='off' ufo='off'/></driver>"
)


def test_every_attribute_of_the_driver() -> None:
    """All that a document may say of a virtio card is a property of the device."""
    parts = parts_of(card("user", VIRTIO + ALL_OFFLOADS + "<teaming type='persistent'/>"))

    offloads = (
        "csum", "gso", "host_tso4", "host_tso6", "host_ecn", "host_ufo", "mrg_rxbuf",
        "guest_csum", "guest_tso4", "guest_tso6", "guest_ecn", "guest_ufo",
    )  # fmt: skip
    assert {
        "netdev": "hostnet0",
        "mac": MAC,
        "tx": "bh",
        "ioeventfd": True,
        "event_idx": False,
        "rx_queue_size": 512,
        "tx_queue_size": 1024,
        "hash": True,
        "failover": True,
        "iommu_platform": True,
        "ats": True,
        "packed": False,
        "page-per-vq": True,
        **dict.fromkeys(offloads, False),
    } == properties_of(parts)


@pytest.mark.parametrize(
    ("model", "driver", "slot"),
    [
        ("virtio", "virtio-net-pci", Slot.EXPRESS),
        ("virtio-transitional", "virtio-net-pci-transitional", Slot.CONVENTIONAL),
        ("virtio-non-transitional", "virtio-net-pci-non-transitional", Slot.EXPRESS),
        ("e1000", "e1000", Slot.CONVENTIONAL),
        ("e1000e", "e1000e", Slot.EXPRESS),
        ("igb", "igb", Slot.EXPRESS),
        ("rtl8139", "rtl8139", Slot.CONVENTIONAL),
        ("ne2k_pci", "ne2k_pci", Slot.CONVENTIONAL),
        ("pcnet", "pcnet", Slot.CONVENTIONAL),
        ("vmxnet3", "vmxnet3", Slot.CONVENTIONAL),
        ("i82551", "i82551", Slot.CONVENTIONAL),
        ("usb-net", "usb-net", Slot.USB),
    ],
)
def test_model(model: str, driver: str, slot: Slot) -> None:
    """Each model is a driver that this QEMU has, in the kind of place that it needs."""
    device = device_of(parts_of(card("user", f"<model type='{model}'/>")))

    assert (driver, slot) == (device.driver, device.slot)
    assert NEW.has_device(driver)


def test_model_that_needs_pci_express() -> None:
    """A card with functions of its own finds no room on a conventional bus."""
    refusal = refusal_of(parts_of, card("user", "<model type='igb'/>"), machine_type="pc")
    assert "cards[0].model" == refusal.element


def test_model_that_nobody_named() -> None:
    """A document without a model means the card that libvirt takes; a native one, virtio."""
    assert "rtl8139" == device_of(parts_of(card("user"))).driver

    bare = msgspec.structs.replace(NEW, devices={"virtio-net-pci": {}})
    assert "virtio-net-pci" == device_of(parts_of(card("user"), capabilities=bare)).driver


def test_card_without_pci() -> None:
    """On a machine without PCI it is a virtio device on its own bus, without vectors."""
    inner = f"{VIRTIO}{TAP}<driver queues='2'/>"
    parts = parts_of(card("ethernet", inner), machine_type="microvm")

    assert "virtio-net-device" == device_of(parts).driver
    assert "vectors" not in properties_of(parts)


@pytest.mark.parametrize(
    ("rom", "expected"),
    [
        ("<rom enabled='no'/>", {"romfile": ""}),
        ("<rom file=''/>", {"romfile": ""}),
        ("<rom bar='off'/>", {"rombar": 0}),
        ("<rom bar='on' file='/a.rom'/>", {"rombar": 1, "romfile": "/a.rom"}),
        ("<rom enabled='yes'/>", {}),
    ],
)
def test_rom(rom: str, expected: dict[str, object]) -> None:
    """The ROM is the card's own, another, or none."""
    found = properties_of(parts_of(card("user", VIRTIO + rom)))

    assert {"netdev": "hostnet0", "mac": MAC, **expected} == found


def test_boot_order_and_largest_packet() -> None:
    """The firmware's order and the largest packet are properties."""
    inner = VIRTIO + "<boot order='3'/><mtu size='1400'/>"
    found = properties_of(parts_of(card("ethernet", inner + TAP)))

    assert (3, 1400) == (found["bootindex"], found["host_mtu"])


def test_link_that_is_down() -> None:
    """QEMU has no option for it: it is told once it answers."""
    parts = parts_of(card("user", "<link state='down'/>"))

    assert Command("set_link", {"name": "net0", "up": False}, "cards[0].link") in parts
    assert not [part for part in parts_of(card("user")) if isinstance(part, Command)]


def test_address_of_the_guest() -> None:
    """An address is kept; one that is missing or all zeros is made from the VM's name."""
    two = card("user", mac="52:54:00:AA:00:01") + "<interface type='user'/>"
    three = two + card("user", mac="00:00:00:00:00:00")
    macs = [part.properties["mac"] for part in parts_of(three) if isinstance(part, Device)]

    assert "52:54:00:aa:00:01" == macs[0]
    assert 3 == len(set(macs))
    assert all(mac != "00:00:00:00:00:00" for mac in macs)


@pytest.mark.parametrize(
    ("kind", "source"),
    [("bridge", "<source bridge='br0'/>"), ("network", "<source network='lan'/>"), ("user", "")],
)
def test_name_of_a_tap_that_the_helper_makes(kind: str, source: str) -> None:
    """Libvirt's session has another name made, so that it is passed over here as well."""
    named = card(kind, f"{source}<target dev='tap-web'/>")

    assert parts_of(card(kind, source)) == parts_of(named)


@pytest.mark.parametrize(
    ("driver", "lost"),
    [
        ("name='qemu' queues='1' rss='off'", ""),
        ("name='vhost'", ""),  # the plan warns of it
        ("queues='4' rss='on'", "'queues', 'rss'"),
        ("rss_hash_report='on' queues='1'", "'rss-hash-report'"),
        ("ioeventfd='on' txmode='timer'", "'txmode', 'ioeventfd'"),
    ],
)
@pytest.mark.parametrize("kind", ["user", "bridge"])
def test_driver_of_a_card_without_virtio(driver: str, lost: str, kind: str) -> None:
    """What libvirt reads of virtio cards only is passed over, and what is lost is said."""
    inner = E1000 + ("<source bridge='br0'/>" if kind == "bridge" else "")
    plain = parts_of(card(kind, inner))
    parts = parts_of(card(kind, f"{inner}<driver {driver}/><backend vhost='/dev/vhost-net'/>"))
    remarks = [part for part in parts if isinstance(part, Remark)]

    assert plain == [part for part in parts if not isinstance(part, Remark)]
    assert [lost] * bool(lost) == [
        in_form(remark.text, "toml").partition("support ")[2] for remark in remarks
    ]


@pytest.mark.parametrize("word", ["virtio-net", "virtio-net-pci"])
def test_names_of_qemu_for_a_virtio_card(word: str) -> None:
    """Libvirt passes on a model that it does not know; QEMU takes these for a virtio card."""
    parts = parts_of(card("user", f"<model type='{word}'/>"))

    assert parts_of(card("user", VIRTIO)) == parts


@pytest.mark.parametrize(
    ("devices", "key"),
    [
        (card("ethernet", VIRTIO), "type"),
        (card("ethernet", VIRTIO + "<target dev='tap0'/>"), "type"),
        (card("ethernet", VIRTIO + "<target dev='tap0' managed='yes'/>"), "managed"),
        (card("bridge", VIRTIO), ""),
        (card("bridge", "<source bridge='br0'/><target dev='vnet0' managed='no'/>"), "managed"),
        (card("bridge", "<source network='default'/>"), "network"),
        (card("user", "<source dev='eth0'/>"), "interface"),
        (card("user", "<mtu size='1400'/>"), "mtu"),
        (card("user", "<tune><sndbuf>0</sndbuf></tune>"), "send-buffer"),
        (card("user", "<port isolated='yes'/>"), "isolated"),
        (card("user", VIRTIO + "<driver queues='2'/>"), "queues"),
        (card("user", "<model type='e1000'/><driver iommu='on'/>"), "iommu"),
        (card("user", "<model type='e1000'/><teaming type='persistent'/>"), "teaming"),
        (card("ethernet", TAP + "<model type='e1000'/><mtu size='1400'/>"), "mtu"),
        (card("user", "<ip address='10.0.0.0' prefix='30'/>"), "ips[0].prefix"),
        (card("user", "<ip address='10.0.0.0' family='ipv6'/>"), "ips[0].family"),
        (card("user", "<ip address='10.0.0'/>"), "ips[0].address"),
        (card("user", "<ip address='10.0.0.0'/><ip address='10.1.0.0'/>"), "ips[1]"),
        (card("user", "<ip address='fd00::' prefix='48'/>"), "ips[0].prefix"),
        (card("mcast"), ""),
        (card("udp", "<source address='10.0.0.1' port='1'/>"), ""),
        (card("user", "<model type='usb-net'/><rom bar='off'/>"), "rom-bar"),
        (card("user", "<rom enabled='no' bar='on'/>"), "rom"),
        (card("user", "<rom file='a.rom'/>"), "rom-file"),
        (card("user", "<address type='drive'/>"), "address"),
        (card("user", "<model type='usb-net'/><address type='pci' slot='1'/>"), "address"),
    ],
)
def test_refused_by_its_place(devices: str, key: str) -> None:
    """What has no meaning, or needs somebody else's rights, is refused where it is."""
    assert f"cards[0].{key}".rstrip(".") == refusal_of(parts_of, devices).element


@pytest.mark.parametrize(
    "element",
    [
        "<script path='/x'/>", "<downscript path='/x'/>",
        "<vlan><tag id='1' nativeMode='tagged'/></vlan>",
        "<bandwidth><inbound average='9' floor='1'/></bandwidth>",
        "<bandwidth classID='1'><outbound average='9'/></bandwidth>",
        "<filterref filter='clean-traffic'/>",
        "<coalesce><rx><frames max='7'/></rx></coalesce>", "<virtualport type='openvswitch'/>",
        "<route address='10.0.0.0'/>", "<teaming type='transient' persistent='ua-x'/>",
        "<source><ip address='10.0.0.1'/></source>",
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["bridge", "ethernet", "user"])
def test_privileged_things_are_refused_in_the_document(element: str, kind: str) -> None:
    """What only root or another program could do never comes as far as the command line."""
    with pytest.raises(Unsupported) as caught:
        context_of(card(kind, element))

    assert (caught.value.element or "").startswith("/domain/devices/interface/")


LIMITED = "<bandwidth><inbound average='9'/></bandwidth>"


@pytest.mark.parametrize(
    ("kind", "words", "way_out"),
    [
        ("ethernet", "a tap that exists needs CAP_NET_ADMIN", "bpferry tap create --inbound"),
        ("user", "the kernel cannot limit", "use a bridge"),
        ("udp", "the kernel cannot limit", "use a bridge"),
    ],
)
def test_limits_are_for_taps_of_the_helper(kind: str, words: str, way_out: str) -> None:
    """Others are refused once, with what to do."""
    error = refusal_of(parts_of, card(kind, LIMITED))

    assert "cards[0].bandwidth" == error.element
    assert words in error.message
    assert way_out in error.hint


@pytest.mark.parametrize("kind", ["bridge", "network"])
@pytest.mark.parametrize("model", ["virtio", "e1000"])
def test_a_limit_changes_nothing_of_the_command_line(kind: str, model: str) -> None:
    """The helper sets it on the tap, whatever card the guest sees."""
    of_model = f"<source {kind}='br0'/><model type='{model}'/>"

    assert parts_of(card(kind, of_model)) == parts_of(card(kind, of_model + LIMITED))


def test_a_limit_without_an_average_is_refused() -> None:
    """As libvirt says it too."""
    limits = "<bandwidth><inbound average='1'/><outbound peak='1'/></bandwidth>"
    error = refusal_of(parts_of, card("bridge", limits))

    assert ("cards[0].bandwidth.outbound", "a limit needs an average") == (
        error.element,
        error.message,
    )


@pytest.mark.parametrize(("burst", "told"), [(127, True), (128, False)])
def test_a_burst_that_no_frame_fits_into_is_told(burst: int, *, told: bool) -> None:
    """It counts as the least that works."""
    limits = f"<bandwidth><inbound average='9'/><outbound average='9' burst='{burst}'/></bandwidth>"
    on_bridge = card("bridge", f"<source bridge='br0'/>{VIRTIO}{limits}")
    remarks = [part for part in parts_of(on_bridge) if isinstance(part, Remark)]

    assert told == bool(remarks)
    assert all("counts as 128" in remark.text for remark in remarks)
    assert all("cards[0].bandwidth.outbound.burst" == remark.key for remark in remarks)


@pytest.mark.parametrize("kind", ["direct", "hostdev", "vdpa", "internal", "null", "vds"])
def test_type_that_needs_root(kind: str) -> None:
    """A type that a user cannot have is refused by its attribute."""
    with pytest.raises(Unsupported) as caught:
        context_of(card(kind))

    assert "/domain/devices/interface/@type" == caught.value.element
