# SPDX-License-Identifier: LGPL-2.1-or-later
"""What can be left out of network cards, and of the processor, in the native form.

    bridge = "br0"       a card of type bridge
    network = "lan"      one of type network
    tap = "tap0"         one of type ethernet, with managed = false: the tap exists
    socket = "/run/x"    one of type vhostuser
    backend = "passt"    one of type user

    [cpu] model = "..."  a processor of mode custom

Both functions work on plain values, before they are checked against any type.
"""

from collections.abc import Iterator
from typing import Final

from bpferry.domain.shown import all_of

Plain = dict[str, object]

TYPE_BY_KEY: Final = {
    "bridge": "bridge",
    "network": "network",
    "tap": "ethernet",
    "socket": "vhostuser",
}
"""The type of a card by the key that names what is behind it."""


def expand(plain: Plain) -> None:
    """Add to *plain* what the keys of its cards and its processor imply."""
    cpu = plain.get("cpu")
    if isinstance(cpu, dict) and "model" in cpu:
        cpu.setdefault("mode", "custom")
    for card in _cards(plain):
        inferred = _type_of(card)
        if inferred is not None and "type" not in card:
            card["type"] = inferred
            if inferred == "ethernet":
                card.setdefault("managed", False)


def explain_missing_type(card: Plain) -> tuple[str, str]:
    """Return why it is not clear what is behind *card*, which has no type, and what to do."""
    found = [f"'{name}'" for name in TYPE_BY_KEY if name in card]
    one_of = "a card has one of 'bridge', 'network', 'tap' and 'socket'"
    if found:
        return f"{one_of}, and this one has {all_of(found)}", "leave out all but one"
    return (
        f"{one_of}, or a 'type', and this one has none of them",
        'write for example bridge = "br0", or type = "user" for a card that needs no bridge',
    )


def contract(plain: Plain) -> None:
    """Remove from *plain* what ``expand`` would add again.

    The default mode of a processor, which *plain* leaves out, is not what a model alone means.
    """
    cpu = plain.get("cpu")
    if isinstance(cpu, dict) and "model" in cpu and cpu.setdefault("mode", "maximum") == "custom":
        del cpu["mode"]
    for card in _cards(plain):
        if card.get("type") == _type_of(card):
            _leave_type_out(card)


def _cards(plain: Plain) -> Iterator[Plain]:
    cards = plain.get("cards")
    for card in cards if isinstance(cards, list) else ():
        if isinstance(card, dict):
            yield card


def _type_of(card: Plain) -> str | None:
    """Return the type of *card* by its keys; None if they are ambiguous."""
    found = {kind for key, kind in TYPE_BY_KEY.items() if key in card}
    if not found and card.get("backend") == "passt":
        return "user"
    return found.pop() if len(found) == 1 else None


def _leave_type_out(card: Plain) -> None:
    """Remove the type, unless that would imply that a tap exists and the card does not say so."""
    if card["type"] == "ethernet":
        if "managed" not in card:
            return
        if card["managed"] is False:
            del card["managed"]
    del card["type"]
