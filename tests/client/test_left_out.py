# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is left of a VM when one thing in it is refused and the user goes on without it."""

import msgspec
import pytest

from bpferry.domain.model.cards import Card, IpAddress
from bpferry.errors import Unsupported
from bpferry.machine.draft import without
from tests.client.support import CARD, MACHINE

USER = Card(type="user", ips=(IpAddress(address="10.0.0.1"), IpAddress(address="fd00::1")))
WHOLE = msgspec.structs.replace(MACHINE, cards=(CARD, USER))


@pytest.mark.parametrize(
    ("element", "cards"),
    [
        ("cards[0].driver", (CARD, USER)),
        ("cards[0].queues", (msgspec.structs.replace(CARD, queues=None), USER)),
        ("cards[0]", (USER,)),
        ("cards[0].type", (USER,)),
        ("cards[1].ips[0]", (CARD, msgspec.structs.replace(USER, ips=USER.ips[1:]))),
        ("cards[1].ips[0].address", (CARD, msgspec.structs.replace(USER, ips=USER.ips[1:]))),
    ],
)
def test_only_what_was_refused_is_gone(element: str, cards: tuple[Card, ...]) -> None:
    """Nothing else goes with it, unless it cannot be without it."""
    driven = msgspec.structs.replace(CARD, driver="vhost") if "driver" in element else CARD
    whole = msgspec.structs.replace(WHOLE, cards=(driven, USER))

    error = Unsupported("no", element=element)

    assert cards == without(whole, error, error).cards


def test_what_is_there_by_default_takes_what_is_around_it_along() -> None:
    """Taking out a default changes nothing; then the part that it belongs to goes."""
    error = Unsupported("no", element="cards[1].model")

    assert (CARD,) == without(WHOLE, error, error).cards


def test_what_a_vm_cannot_be_without() -> None:
    """Without its memory there is no VM: the refusal stands."""
    error, told = Unsupported("no", element="memory"), Unsupported("no, in line 3")

    with pytest.raises(Unsupported) as caught:
        without(WHOLE, error, told)

    assert told is caught.value
