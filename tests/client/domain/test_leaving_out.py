# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is left of a VM without something, and what the rest of it is called."""

import msgspec
import pytest

from bpferry.domain.leaving_out import leave_out
from bpferry.domain.model.cards import Card, IpAddress
from bpferry.domain.model.graphics import Graphics
from bpferry.domain.model.machine import Machine
from bpferry.domain.names import before, cards_of
from bpferry.domain.remaining import Remaining, extended, mapped, numbered, without_entry
from tests.client.support import CARD, MACHINE

USER = Card(type="user", ips=(IpAddress(address="10.0.0.1"), IpAddress(address="fd00::1")))
WHOLE = msgspec.structs.replace(MACHINE, cards=(CARD, USER))


def cards_without(key: str) -> tuple[Card, ...]:
    """Return the cards of a VM that are left without what is at *key*."""
    left = leave_out(WHOLE, key, in_xml=False)
    assert left is not None
    return left.value.cards


@pytest.mark.parametrize(
    ("key", "cards", "gone"),
    [
        ("cards[0].queues", (msgspec.structs.replace(CARD, queues=None), USER), "cards[0].queues"),
        ("cards[0]", (USER,), "cards[0]"),
        ("cards[0].type", (USER,), "cards[0]"),
        ("cards[1].ips[0]", (CARD, msgspec.structs.replace(USER, ips=USER.ips[1:])),
         "cards[1].ips[0]"),
        ("cards[1].ips[0].address", (CARD, msgspec.structs.replace(USER, ips=USER.ips[1:])),
         "cards[1].ips[0]"),
        ("cards[1].ips", (CARD, msgspec.structs.replace(USER, ips=())), "cards[1].ips"),
        ("cards[1].model", (CARD,), "cards[1]"),
        ("cards[1].no-such-key", (CARD,), "cards[1]"),
    ],
)  # fmt: skip
def test_only_what_is_named_goes(key: str, cards: tuple[Card, ...], gone: str) -> None:
    """What needs it goes with it; what has its usual value already takes what is around it."""
    left = leave_out(WHOLE, key, in_xml=False)

    assert left is not None
    assert (cards, gone) == (left.value.cards, left.gone)


@pytest.mark.parametrize("key", ["memory", "name", "", "no-such-key", "machine-type"])
def test_what_no_vm_can_be_without(key: str) -> None:
    """What the whole needs, and what it has by default, cannot go."""
    assert leave_out(WHOLE, key, in_xml=False) is None


def test_what_went_with_its_entry_is_gone_already() -> None:
    """There is nothing to leave out of an entry that was left out."""
    left = leave_out(WHOLE, "cards[0]", in_xml=False)
    assert left is not None

    again = leave_out(left.value, "cards[0].queues", in_xml=False)

    assert again is not None
    assert (left.value, "") == (again.value, "")


@pytest.mark.parametrize(("in_xml", "left"), [(True, "default"), (False, "q35")])
def test_each_form_has_its_own_default(left: str, *, in_xml: bool) -> None:
    """What is left is what the document would mean if it said nothing there."""
    machine = msgspec.structs.replace(MACHINE, machine_type="pc-i440fx-rhel7.6.0")

    found = leave_out(machine, "machine-type", in_xml=in_xml)

    assert found is not None
    assert left == found.value.machine_type


def test_what_the_schema_demands_takes_its_element_along() -> None:
    """A card of which libvirt is not told the type means nothing, and not one of type user."""
    left = leave_out(WHOLE, "cards[0].type", in_xml=True)

    assert left is not None
    assert (USER,) == left.value.cards


def test_password_takes_what_it_protects_along() -> None:
    """A display whose password cannot be set is not offered to everybody."""
    display = Graphics(type="vnc", password="longer than 8")  # noqa: S106 - of nothing
    machine = msgspec.structs.replace(MACHINE, graphics=(display,))

    left = leave_out(machine, "graphics[0].password", in_xml=True)

    assert left is not None
    assert () == left.value.graphics


def test_those_that_are_left_keep_their_keys_and_ids() -> None:
    """The second card is the second card, also where the first was left out."""
    machine = msgspec.structs.replace(MACHINE, cards=cards_without("cards[0]"))

    (device,) = cards_of(machine)

    assert ("cards[1]", "net1", 1) == (device.key, device.id, device.number)
    assert [] == list(before(device, machine.cards))


def test_entries_of_an_entry_keep_their_keys() -> None:
    """So it is in lists of lists."""
    machine = msgspec.structs.replace(MACHINE, cards=cards_without("cards[1].ips[0]"))
    _, user = cards_of(machine)

    (address,) = user.parts("ips", user.value.ips)

    assert "cards[1].ips[1]" == address.key


def test_list_of_what_remains() -> None:
    """It is a tuple like any other, and knows the numbers of its entries."""
    left = without_entry(("a", "b", "c"), 1)

    assert ("a", "c") == left
    assert [(0, "a"), (2, "c")] == list(numbered(left))
    assert [(0, "A"), (2, "C")] == list(numbered(mapped(left, lambda _, one: one.upper())))
    assert [(0, "a"), (2, "c"), (3, "d")] == list(numbered(extended(left, ("d",))))
    assert [(2, "c"), (3, "d")] == list(
        numbered(without_entry(extended(Remaining([(2, "c")], 3), ("d",)), 0))
    )


def test_whole_is_not_changed() -> None:
    """The machine that was given stays what it was."""
    before_it = msgspec.json.encode(WHOLE)

    cards_without("cards[0]")

    assert before_it == msgspec.json.encode(WHOLE)
    assert isinstance(WHOLE, Machine)
