# SPDX-License-Identifier: LGPL-2.1-or-later
"""A part of a VM knows what it is called, and refuses itself or a field of it."""

import pytest

from bpferry.domain.model.balloon import Balloon
from bpferry.domain.model.cards import Card, IpAddress
from bpferry.domain.model.rngs import Rng
from bpferry.domain.names import Named, listed, named, single

CARD = Card(type="user", ips=(IpAddress(address="10.0.0.1"), IpAddress(address="fd00::1")))


def test_device_has_the_name_that_its_user_chose() -> None:
    """An alias of the user's is its id; without one, its kind and number are."""
    rngs = (Rng(backend="random"), Rng(backend="random", alias="ua-dice"))

    found = [(one.key, one.id, one.number) for one in named(rngs, "rngs", "rng")]

    assert [("rngs[0]", "rng0", 0), ("rngs[1]", "ua-dice", 1)] == found
    assert "balloon0" == single(Balloon(model="virtio"), "balloon").id
    assert ["graphics[0]"] == [one.key for one in listed(("one",), "graphics")]


@pytest.mark.parametrize(
    ("field", "element"),
    [("rom_file", "cards[3].rom-file"), ("", "cards[3]"), ("address.bus", "cards[3].address.bus")],
)
def test_refusal_says_its_place_once(field: str, element: str) -> None:
    """The key is the error's element; the message is the sentence and does not repeat it."""
    error = Named("cards[3]", "net3", CARD).refusal(field, "it cannot be", "leave it out")

    assert (element, "it cannot be", "leave it out") == (error.element, error.message, error.hint)


def test_parts_of_a_part() -> None:
    """The entries of a list are called by their place in it."""
    device = Named("cards[3]", "net3", CARD)

    second = list(device.parts("ips", CARD.ips))[1]

    assert "cards[3].ips[1].family" == second.refusal("family", "no", "a way out").element
    assert "cards[3].address" == device.part("address", None).key
