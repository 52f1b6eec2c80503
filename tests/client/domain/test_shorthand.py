# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the native form leaves unsaid about cards, on the way in and on the way out."""

import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bpferry.domain.document import read_bytes, to_toml, to_xml
from bpferry.domain.model.cards import Card
from bpferry.domain.model.cpu import Cpu
from bpferry.domain.model.machine import Machine
from bpferry.errors import BadInput
from tests.client.domain.machines import is_sound, tables

HEAD = 'name = "x"\nmemory = "64 MiB"\n[[cards]]\n'


def card_of(lines: str) -> Card:
    """Return the one card of a native description."""
    (card,) = read_bytes((HEAD + lines).encode(), Path("/vm.toml")).machine.cards
    return card


def written(card: Card) -> dict[str, object]:
    """Return what a native description says of *card*."""
    machine = Machine(name="x", memory=2**26, cards=(card,))
    (table,) = tomllib.loads(to_toml(machine))["cards"]
    return dict(table)


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        ('bridge = "br0"', "bridge"),
        ('network = "lan"', "network"),
        ('tap = "tap0"', "ethernet"),
        ('socket = "/run/x"', "vhostuser"),
        ('backend = "passt"', "user"),
        ('type = "network"\nbridge = "br0"', "network"),
        ('type = "user"', "user"),
    ],
)
def test_type_by_what_is_behind(lines: str, kind: str) -> None:
    """The type need not be said where one key tells it."""
    assert kind == card_of(lines).type


@pytest.mark.parametrize(
    ("lines", "words", "hint"),
    [
        ('mac = "52:54:00:00:00:01"', "and this one has none of them", 'bridge = "br0", or type'),
        ('bridge = "a"\ntap = "b"', "and this one has 'bridge' and 'tap'", "leave out all but one"),
    ],
)
def test_type_that_nothing_tells(lines: str, words: str, hint: str) -> None:
    """Where no key tells what is behind a card, or two do, the message says which."""
    with pytest.raises(BadInput) as caught:
        card_of(lines)

    assert "'cards[0]': a card has one of 'bridge', 'network', 'tap' " in caught.value.message
    assert words in caught.value.message
    assert hint in caught.value.hint


def test_tap_exists() -> None:
    """A tap that is named is one that exists."""
    assert card_of('tap = "tap0"').managed is False
    assert card_of('tap = "tap0"\nmanaged = true').managed is True


def test_cards_of_wrong_types_are_left_to_the_types() -> None:
    """What is not a list of tables is refused by its type, not by an accident here."""
    with pytest.raises(BadInput, match="cards"):
        read_bytes(b'name = "x"\nmemory = "1 MiB"\ncards = 5\n', Path("/vm.toml"))
    with pytest.raises(BadInput, match="expected a table"):
        read_bytes(b'name = "x"\nmemory = "1 MiB"\ncards = [5]\n', Path("/vm.toml"))
    with pytest.raises(BadInput, match="queues"):
        card_of('tap = "t"\nqueues = "4"')


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        (Card(type="bridge", bridge="br0", queues=4), {"bridge": "br0", "queues": 4}),
        (Card(type="ethernet", tap="t", managed=False), {"tap": "t"}),
        (Card(type="ethernet", tap="t"), {"type": "ethernet", "tap": "t"}),
        (Card(type="user"), {"type": "user"}),
    ],
)
def test_written_no_longer_than_needed(card: Card, expected: dict[str, object]) -> None:
    """What the reader adds is left out."""
    assert expected == written(card)


@settings(max_examples=300, deadline=None)
@given(st.lists(tables(Card), max_size=2))
def test_cards_are_the_same_after_either_way(cards: list[Card]) -> None:
    """A card that is written and read again is the same, in both forms."""
    machine = msgspec.structs.replace(Machine(name="x", memory=2**26), cards=tuple(cards))
    assume(is_sound(machine))

    assert machine == read_bytes(to_toml(machine).encode(), Path("/vm.toml")).machine
    assert machine == read_bytes(to_xml(machine).encode(), Path("/vm.xml")).machine


@pytest.mark.parametrize(
    ("cpu", "written"),
    [
        ({"mode": "custom", "model": "qemu64"}, {"model": "qemu64"}),
        ({"mode": "maximum", "model": "qemu64"}, {"mode": "maximum", "model": "qemu64"}),
        ({"mode": "host-model"}, {"mode": "host-model"}),
        ({"mode": "maximum", "cores": 2}, {"cores": 2}),
    ],
)
def test_mode_of_a_processor(cpu: dict[str, object], written: dict[str, object]) -> None:
    """A model alone is one of mode custom, and what is written is read as the same."""
    machine = Machine(name="x", memory=2**26, cpu=msgspec.convert(cpu, Cpu))

    text = to_toml(machine)

    assert written == tomllib.loads(text)["cpu"]
    assert machine == read_bytes(text.encode(), Path("/vm.toml")).machine


def test_model_alone_in_a_domain_document() -> None:
    """It is of mode custom there too, as in libvirt."""
    text = "<domain type='kvm'><name>x</name><memory>1</memory><cpu><model>a</model></cpu></domain>"

    cpu = read_bytes(text.encode(), Path("/vm.xml")).machine.cpu

    assert (cpu.mode, cpu.model) == ("custom", "a")
