# SPDX-License-Identifier: LGPL-2.1-or-later
"""The UUID and the addresses that are made where a description names none."""

from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpferry.domain.identity import (
    Owner,
    card_mac_of,
    derive_mac,
    derive_uuid,
    names_all,
    uuid_of,
)
from bpferry.domain.model.cards import Card
from tests.client.support import MACHINE, OWNER

OTHER_HOST = Owner(UUID("3f1d2c4b-5a69-4788-96a5-b4c3d2e1f002"), OWNER.uid)
OTHER_USER = Owner(OWNER.host, OWNER.uid + 1)
GIVEN = "C7A5FDBD-EDAF-9455-926A-D65C16DB1809"


def test_derived_addresses_do_not_change() -> None:
    """What a VM had in its last run, and with the version before, it has in the next."""
    assert derive_mac(OWNER, "demo", 0) == "72:d7:ef:77:08:d4"
    assert derive_uuid(OWNER, "demo") == "af2a5a0a-1afa-59b4-b1bc-f742bd0cffc6"


@pytest.mark.parametrize(
    ("owner", "name", "index"),
    [(OTHER_HOST, "web", 0), (OTHER_USER, "web", 0), (OWNER, "web2", 0), (OWNER, "web", 1)],
    ids=["host", "user", "name", "place"],
)
def test_each_of_the_four_makes_another_address(owner: Owner, name: str, index: int) -> None:
    """VMs of one name are two to the network if they are of two users or two hosts."""
    assert derive_mac(owner, name, index) != derive_mac(OWNER, "web", 0)


@pytest.mark.parametrize(
    ("owner", "name"),
    [(OTHER_HOST, "web"), (OTHER_USER, "web"), (OWNER, "web2")],
    ids=["host", "user", "name"],
)
def test_each_of_the_three_makes_another_uuid(owner: Owner, name: str) -> None:
    """A guest takes its own machine id from the UUID, and is asked by it for its lease."""
    assert derive_uuid(owner, name) != derive_uuid(OWNER, "web")


def test_parts_do_not_run_into_each_other() -> None:
    """A digit more in one part is not a digit less in the next."""
    made = {
        derive_mac(Owner(OWNER.host, uid), name, index)
        for uid, index, name in ((1, 11, "1"), (11, 1, "1"), (1, 1, "11"), (1, 1, "1\x001"))
    }

    assert len(made) == 4


@given(st.integers(0, 2**32 - 1), st.text(max_size=20), st.integers(0, 15))
def test_derived_mac_never_is_a_group(uid: int, name: str, index: int) -> None:
    """Whoever owns the VM, the two low bits of the first byte mean: single, local."""
    assert int(derive_mac(Owner(OWNER.host, uid), name, index)[:2], 16) & 3 == 2


@pytest.mark.parametrize(
    ("mac", "expected"),
    [
        ("52:54:00:AB:00:01", "52:54:00:ab:00:01"),
        (None, derive_mac(OWNER, "web", 3)),
        ("00:00:00:00:00:00", derive_mac(OWNER, "web", 3)),
    ],
)
def test_own_mac_is_kept(mac: str | None, expected: str) -> None:
    """A card has the address that its description names; zeros name none."""
    assert expected == card_mac_of(Card(type="user", mac=mac), OWNER, "web", 3)


def test_own_uuid_is_kept() -> None:
    """A VM has the UUID that its description names."""
    assert GIVEN.lower() == uuid_of(msgspec.structs.replace(MACHINE, uuid=GIVEN), OWNER)
    assert derive_uuid(OWNER, MACHINE.name) == uuid_of(MACHINE, OWNER)


@pytest.mark.parametrize(
    ("uuid", "macs", "expected"),
    [
        (GIVEN, (), True),
        (GIVEN, ("52:54:00:00:00:01",), True),
        (None, ("52:54:00:00:00:01",), False),
        (GIVEN, ("52:54:00:00:00:01", None), False),
        (GIVEN, ("00:00:00:00:00:00",), False),
    ],
)
def test_what_is_named(uuid: str | None, macs: tuple[str | None, ...], expected: bool) -> None:  # noqa: FBT001 - a table
    """Nothing is made only where the description names the UUID and each address."""
    cards = tuple(Card(type="user", mac=mac) for mac in macs)

    assert expected == names_all(msgspec.structs.replace(MACHINE, uuid=uuid, cards=cards))
