# SPDX-License-Identifier: LGPL-2.1-or-later
"""The smart card in the reader, which is a controller of type ccid."""

from collections.abc import Iterator
from typing import Final

from bpferry.commandline.buses.controller_ids import bus_of
from bpferry.commandline.characters.chardevs import BackEnds, User
from bpferry.commandline.context import Context, unsupported
from bpferry.commandline.parts import Device, Part
from bpferry.domain.model.characters import SmartCard
from bpferry.domain.names import named

CERTIFICATES: Final = 3
"""What QEMU's emulated card is made of (hw/usb/ccid-card-emulated.c)."""

USUAL_DATABASE: Final = "/etc/pki/nssdb"
"""Where NSS keeps certificates, as libvirt takes it too."""


def smart_card_parts(context: Context, back_ends: BackEnds) -> Iterator[Part]:
    """Yield the smart card."""
    for key, card_id, card in named(context.machine.smart_cards, "smart-cards", "smartcard"):
        if key != "smart-cards[0]":
            raise unsupported(key, "the reader has one slot, and the first card is in it")
        _check(key, card)
        properties: dict[str, object] = {"bus": f"{bus_of(context.machine, 'ccid', 0)}.0"}
        driver = "ccid-card-emulated"
        if card.mode == "host":
            properties["backend"] = "nss-emulated"
        elif card.mode == "host-certificates":
            properties |= _certificates(key, card)
        else:
            driver = "ccid-card-passthru"
            user = _user(key, card_id, card)
            yield from back_ends.parts(user)
            properties["chardev"] = user.chardev
        yield Device(driver, card_id, key, properties)


def _user(key: str, card_id: str, card: SmartCard) -> User:
    if card.type is None:
        raise unsupported(key, "a card of a client needs the type of a character device")
    return User(key, card_id, card, card.type, spice="smartcard")


def _certificates(key: str, card: SmartCard) -> dict[str, object]:
    if len(card.certificates) != CERTIFICATES:
        raise unsupported(f"{key}.certificates", f"a card is made of {CERTIFICATES} certificates")
    named_ones = {f"cert{number}": name for number, name in enumerate(card.certificates, start=1)}
    return {"backend": "certificates", **named_ones, "db": card.database or USUAL_DATABASE}


def _check(key: str, card: SmartCard) -> None:
    address = card.address
    if address is not None:
        if address.type != "ccid":
            raise unsupported(f"{key}.address.type", "it is of the type 'ccid'")
        if address.controller or address.slot:
            raise unsupported(f"{key}.address", "there is one reader with one slot")
    others = {
        "host": (card.type, card.sources, card.certificates, card.database, card.log),
        "host-certificates": (card.type, card.sources, card.log),
        "passthrough": (card.certificates, card.database),
    }
    if any(others[card.mode]):
        raise unsupported(key, f"something is set that means nothing in the mode '{card.mode}'")
