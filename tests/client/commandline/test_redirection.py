# SPDX-License-Identifier: LGPL-2.1-or-later
"""Redirected USB devices, the rules for them, and smart cards."""

import pytest

from bpferry.commandline.characters.redirection import binary_version
from bpferry.commandline.parts import Device, Slot
from tests.client.commandline.character_parts import (
    devices_in,
    parts_of,
    values,
)
from tests.client.refusals import refusal_of

SPICE = "<graphics type='spice'/>"
DBUS = "<graphics type='dbus'/>"
REDIRECTED = "<redirdev bus='usb' type='spicevmc'/>"


def test_device_over_spice() -> None:
    """A device that a SPICE client shares has a channel of its kind behind it."""
    parts = parts_of(REDIRECTED + SPICE)

    assert ["spicevmc,id=charredir0,name=usbredir"] == values(parts, "-chardev")
    assert [("usb-redir", "redir0", {"chardev": "charredir0"})] == devices_in(parts)


def test_device_over_dbus_has_the_known_name() -> None:
    """A display over D-Bus finds the channel by its usual name."""
    parts = parts_of("<redirdev bus='usb' type='dbus'/>" + DBUS)

    assert ["dbus,id=charredir0,name=org.qemu.usbredir"] == values(parts, "-chardev")


def test_address_and_boot_order_are_kept() -> None:
    """The port of the hub and the place in the boot order are those of the document."""
    inner = "<address type='usb' bus='0' port='1.4'/><boot order='2'/>"
    (device,) = (
        part
        for part in parts_of(f"<redirdev bus='usb' type='spicevmc'>{inner}</redirdev>" + SPICE)
        if isinstance(part, Device)
    )

    assert (Slot.USB, 2) == (device.slot, device.properties["bootindex"])
    assert device.address is not None
    assert "1.4" == device.address.port


def test_rules_are_for_each_device() -> None:
    """The rules are written as usbredir wants them, in the order given."""
    rules = (
        "<usbdev class='0x08' vendor='0x15e1' product='0x2007' version='1.10' allow='yes'/>"
        "<usbdev allow='no'/>"
    )
    parts = parts_of(f"{REDIRECTED}<redirfilter>{rules}</redirfilter>{SPICE}")

    assert "0x08:0x15E1:0x2007:0x0110:1|-1:-1:-1:-1:0" == devices_in(parts)[0][2]["filter"]


@pytest.mark.parametrize(
    ("text", "number"),
    [("1.09", 0x0109), ("9.4", 0x0940), ("2.0", 0x0200), ("1.1", 0x0110), ("12.34", 0x1234)],
)
def test_version_of_a_device(text: str, number: int) -> None:
    """A version is written in binary-coded decimal, its second part counted from the left."""
    assert number == binary_version(text)


def test_empty_filter_is_none() -> None:
    """Without rules nothing is said to QEMU, which then lets everything in."""
    parts = parts_of(f"{REDIRECTED}<redirfilter/>{SPICE}")

    assert "filter" not in devices_in(parts)[0][2]


CERTIFICATES = "".join(f"<certificate>c{number}</certificate>" for number in range(3))

CARDS = [
    ("<smartcard mode='host'/>", {"backend": "nss-emulated"}),
    (
        f"<smartcard mode='host-certificates'>{CERTIFICATES}</smartcard>",
        {"backend": "certificates", "cert1": "c0", "cert2": "c1", "cert3": "c2",
         "db": "/etc/pki/nssdb"},
    ),
    (
        f"<smartcard mode='host-certificates'>{CERTIFICATES}<database>/db</database></smartcard>",
        {"backend": "certificates", "cert1": "c0", "cert2": "c1", "cert3": "c2", "db": "/db"},
    ),
    (
        "<smartcard mode='passthrough' type='spicevmc'/>" + SPICE,
        {"chardev": "charsmartcard0"},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("devices", "expected"), CARDS)
def test_smart_card(devices: str, expected: dict[str, object]) -> None:
    """Each mode is a card in the reader."""
    assert {"bus": "ccid0.0", **expected} == devices_in(parts_of(devices))[0][2]


def test_client_card_has_its_channel() -> None:
    """A card that a SPICE client shares comes over a channel of its kind."""
    parts = parts_of("<smartcard mode='passthrough' type='spicevmc'/>" + SPICE)

    assert ["spicevmc,id=charsmartcard0,name=smartcard"] == values(parts, "-chardev")


REFUSED = [
    ("<redirdev bus='usb' type='spicevmc'/>", "redirected-devices[0]"),
    (
        "<redirdev bus='usb' type='null'><address type='pci' slot='1'/></redirdev>",
        "redirected-devices[0].address",
    ),
    ("<smartcard mode='host'/><smartcard mode='host'/>", "smart-cards[1]"),
    ("<smartcard mode='passthrough'/>", "smart-cards[0]"),
    ("<smartcard mode='host-certificates'/>", "smart-cards[0].certificates"),
    ("<smartcard mode='host'><database>/x</database></smartcard>", "smart-cards[0].database"),
    (
        "<smartcard mode='host'><address type='ccid' controller='0' slot='1'/></smartcard>",
        "smart-cards[0].address",
    ),
    (
        "<smartcard mode='host'><address type='usb' bus='0' port='1'/></smartcard>",
        "smart-cards[0].address.type",
    ),
]


@pytest.mark.parametrize(("devices", "element"), REFUSED)
def test_refused(devices: str, element: str) -> None:
    """What cannot be done is refused, with the key of what asks for it."""
    assert element == refusal_of(parts_of, devices).element
