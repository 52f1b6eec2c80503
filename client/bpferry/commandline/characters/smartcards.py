# SPDX-License-Identifier: LGPL-2.1-or-later
"""The smart card in the reader, which is a controller of type ccid."""

from collections.abc import Iterator
from functools import partial
from typing import Final

from bpferry.commandline.attempt import attempt
from bpferry.commandline.buses.controller_ids import bus_of
from bpferry.commandline.characters.chardevs import BackEnds, User
from bpferry.commandline.context import Context
from bpferry.commandline.parts import Device, Found, Part
from bpferry.domain.forms import called
from bpferry.domain.model.characters import SmartCard
from bpferry.domain.names import Named, before, named
from bpferry.errors import Unsupported

CERTIFICATES: Final = 3
"""What QEMU's emulated card is made of (hw/usb/ccid-card-emulated.c)."""

USUAL_DATABASE: Final = "/etc/pki/nssdb"
"""Where NSS keeps certificates; libvirt has the same default."""


def smart_card_parts(context: Context, back_ends: BackEnds) -> Iterator[Part]:
    """Yield the smart card."""
    for device in named(context.machine.smart_cards, "smart-cards", "smartcard"):
        yield from attempt(partial(_card, back_ends), device, context)


def _card(back_ends: BackEnds, device: Named[SmartCard], context: Context) -> Iterator[Found]:
    card = device.value
    if any(before(device, context.machine.smart_cards)):
        yield device.refusal(
            "", "the reader has one slot, and the first card is in it", "remove the other cards"
        )
    yield from _check(device)
    properties: dict[str, object] = {"bus": f"{bus_of(context.machine, 'ccid', 0)}.0"}
    driver = "ccid-card-emulated"
    if card.mode == "host":
        properties["backend"] = "nss-emulated"
    elif card.mode == "host-certificates":
        properties |= _certificates(device)
    else:
        driver = "ccid-card-passthru"
        user = _user(device)
        yield from back_ends.parts(user)
        properties["chardev"] = user.chardev
    yield Device(driver, device.id, device.key, properties)


def _user(device: Named[SmartCard]) -> User:
    card = device.value
    if card.type is None:
        raise device.mistake(
            "",
            "a card in mode passthrough needs a type of character device",
            "add the type, such as 'spicevmc'",
        )
    return User(device, card.type, spice="smartcard")


def _certificates(device: Named[SmartCard]) -> dict[str, object]:
    card = device.value
    if len(card.certificates) != CERTIFICATES:
        raise device.mistake(
            "certificates",
            f"a card is made of {CERTIFICATES} certificates",
            f"name {CERTIFICATES} of them",
        )
    named_ones = {f"cert{number}": name for number, name in enumerate(card.certificates, start=1)}
    return {"backend": "certificates", **named_ones, "db": card.database or USUAL_DATABASE}


def _check(device: Named[SmartCard]) -> Iterator[Unsupported]:
    card = device.value
    address = card.address
    if address is not None:
        if address.type != "ccid":
            yield device.mistake(
                "address.type",
                "it has to be of type 'ccid'",
                "write 'ccid', or leave the address out",
            )
        if address.controller or address.slot:
            yield device.mistake(
                "address", "there is one reader with one slot", "leave the address out"
            )
    others = {
        "host": ("type", "sources", "protocol", "certificates", "database", "log"),
        "host-certificates": ("type", "sources", "protocol", "log"),
        "passthrough": ("certificates", "database"),
    }
    for field in others[card.mode]:
        if getattr(card, field):
            name = called(SmartCard, field)
            sentence = f"{name} has no meaning for a smart card of mode '{card.mode}'"
            yield device.mistake(field, sentence, f"leave out {name}")
