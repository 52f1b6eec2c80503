# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `bpferry check` has to say against the design of a VM."""

import msgspec
import pytest

from bpferry.domain.forms import in_form
from bpferry.domain.model.cards import Card, CardBandwidth, Flow
from bpferry.domain.model.characters import Serial
from bpferry.domain.model.extras import Vsock
from bpferry.domain.model.graphics import Graphics
from bpferry.domain.model.machine import Machine
from bpferry.machine.card_lint import CARD_RULES
from bpferry.machine.faults import Fault
from bpferry.machine.lint import find_faults
from bpferry.qemu.capabilities import Capabilities
from tests.support.golden import capabilities_of

SOUND = Card(type="ethernet", tap="tap0", managed=False, queues=4, rss=True)


def machine(*cards: Card, **fields: object) -> Machine:
    """Return a VM of four processors with *cards*."""
    whole = Machine(name="x", memory=2**26, vcpus=4, cards=cards)
    return msgspec.structs.replace(whole, **fields)


def faults(*cards: Card, capabilities: Capabilities | None = None) -> dict[str, Fault]:
    """Return the faults of a VM with *cards* by their keys."""
    return {fault.key: fault for fault in find_faults(machine(*cards), capabilities)}


@pytest.mark.parametrize(
    "card",
    [
        SOUND,
        Card(type="user"),
        Card(type="vhostuser", socket="/x", queues=4, tx_queue_size=1024),
        Card(type="bridge", bridge="br0"),
        Card(type="ethernet", tap="a23456789012345", managed=False),
        Card(type="user", rss_hash_report=True),
        Card(type="user", tx_queue_size=256),
        Card(type="bridge", bridge="b", queues=2, isolated=True, rss=True, driver="vhost"),
    ],
)
def test_sound_card(card: Card) -> None:
    """Nothing is said against a card without a fault."""
    assert {} == faults(card)


@pytest.mark.parametrize(
    ("card", "key", "level", "words"),
    [
        (Card(type="user", queues=4), "queues", "warning", "4 queues on a card of type 'user'"),
        (
            Card(type="ethernet", tap="t", managed=False, queues=8),
            "queues",
            "warning",
            "8 queues for 4 processors",
        ),
        (Card(type="user", rss=True), "rss", "warning", "RSS on a card with one queue"),
        (
            Card(type="bridge", bridge="b", rss_hash_report=True, driver="vhost"),
            "rss-hash-report",
            "warning",
            "with vhost",
        ),
        (
            Card(type="ethernet", tap="t", rss=True, queues=2, rss_hash_report=True),
            "rss-hash-report",
            "warning",
            "hash reports on a card with RSS",
        ),
        (Card(type="user", driver="vhost"), "driver", "warning", "vhost on a card of type 'user'"),
        (Card(type="ethernet", tap="a234567890123456"), "tap", "error", "too long"),
        (Card(type="bridge", bridge="a234567890123456"), "bridge", "error", "too long"),
        (
            Card(type="user", backend="passt", interface="a234567890123456"),
            "interface",
            "error",
            "too long",
        ),
        (Card(type="user", tx_queue_size=1024), "tx-queue-size", "warning", "queue of 1024"),
        (Card(type="ethernet", tap="t", mtu=9000), "mtu", "note", "an MTU of 9000"),
        (Card(type="user", model="ne2k_pci"), "model", "note", "of model 'ne2k_pci'"),
    ],
)
def test_fault_of_a_card(card: Card, key: str, level: str, words: str) -> None:
    """Each fault is named with its place, its cause and what mends it."""
    found = faults(Card(type="user"), card)

    fault = found[f"cards[1].{key}"]
    assert level == fault.level
    assert words in fault.message
    assert all((fault.cause, fault.fix))
    assert 1 == len(found)


def test_one_processor() -> None:
    """Numbers come with the right word."""
    (fault,) = find_faults(machine(SOUND, vcpus=1), None)

    assert fault.message == "4 queues for 1 processor"


@pytest.mark.parametrize(
    ("first", "second", "field"),
    [
        (
            Card(type="user", mac="52:54:00:00:00:AA"),
            Card(type="user", mac="52:54:00:00:00:aa"),
            "mac",
        ),
        (SOUND, SOUND, "tap"),
    ],
)
def test_what_two_cards_cannot_share(first: Card, second: Card, field: str) -> None:
    """Two cards on one tap are an error at the second, and a warning with one address."""
    (fault,) = find_faults(machine(first, Card(type="user"), second), None)

    level = "error" if field == "tap" else "warning"
    assert (f"cards[2].{field}", level) == (fault.key, fault.level)


@pytest.mark.parametrize("name", ["7.2", "10.0.13"])
def test_model_that_nobody_named(name: str) -> None:
    """Where the QEMU is known, so is the card that a document means without a word."""
    card = Card(type="user", model="default")

    assert (
        "of model 'rtl8139'"
        in faults(card, capabilities=capabilities_of(name))["cards[0].model"].message
    )
    assert {} == faults(card)


LIMITS = CardBandwidth(inbound=Flow(average=1))


@pytest.mark.parametrize(
    ("card", "key", "words"),
    [
        (Card(type="bridge", bridge="b", queues=2), "queues", "with 1 queue"),
        (Card(type="network", network="n", queues=2), "queues", "with 1 queue"),
        (Card(type="bridge", bridge="b", isolated=True), "isolated", "not isolate"),
        (Card(type="bridge", bridge="b", vlan=7), "vlan", "into a VLAN"),
        (Card(type="bridge", bridge="b", bandwidth=LIMITS), "bandwidth", "not limit"),
        (Card(type="bridge", bridge="b", tagged_vlans=(7, 8)), "tagged-vlans", "into a VLAN"),
        (
            Card(type="ethernet", tap="t", queues=2, rss=True, driver="vhost"),
            "rss",
            "without RSS that works",
        ),
    ],
)
def test_what_a_libvirt_session_would_do(card: Card, key: str, words: str) -> None:
    """It is told on request, with its cause; there is nothing to do about it."""
    (fault,) = find_faults(machine(card), libvirt_session=True)

    assert (f"cards[0].{key}", "note", "") == (fault.key, fault.level, fault.fix)
    assert words in fault.message
    assert fault.cause


@pytest.mark.parametrize("arch", ["x86_64", "i386"])
def test_model_that_nobody_named_on_either_kind_of_pc(arch: str) -> None:
    """A QEMU that calls itself i386 gives the same old card, and it is told as well."""
    known = msgspec.structs.replace(capabilities_of("10.0.13"), arch=arch)

    assert "cards[0].model" in faults(Card(type="user", model="default"), capabilities=known)


def test_interrupts_behind_our_back() -> None:
    """A number of interrupts among QEMU's own arguments does not count for several queues."""
    words = ("-global", "virtio-net-pci.vectors=4", "-global", "e1000.autonegotiation=off")

    (fault,) = find_faults(machine(SOUND, qemu_arguments=words), None)

    assert ("qemu-arguments[1]", "warning") == (fault.key, fault.level)


def test_every_rule_finds_something() -> None:
    """No rule is one that can never count."""
    cards = (
        Card(type="user", queues=8, driver="vhost", tx_queue_size=512, model="pcnet"),
        Card(type="user", rss=True, queues=1),
        Card(type="user", queues=8),
        Card(type="bridge", bridge="a234567890123456", rss_hash_report=True, driver="vhost",
             queues=2),
        Card(type="ethernet", tap="t", mtu=9000, queues=2, rss=True, driver="vhost"),
    )  # fmt: skip
    whole = machine(*cards)

    for rule in CARD_RULES:
        assert any(list(rule(card, "x", whole)) for card in cards), rule.__name__


def test_vm_that_nobody_can_reach() -> None:
    """A VM without display, serial port and card runs, and nobody can do anything with it."""
    (fault,) = find_faults(machine())

    assert fault.level == "note"
    assert fault.message.startswith("nobody can reach this VM")
    assert in_form(fault.fix, "toml").startswith('add [[serials]] with type = "stdio"')
    assert in_form(fault.fix, "xml") == "add <serial type='pty'/>, or <interface type='user'/>"


@pytest.mark.parametrize(
    "fields", [{"serials": (Serial(),)}, {"vsock": Vsock()}, {"graphics": (Graphics(type="vnc"),)}]
)
def test_one_way_in_is_enough(fields: dict[str, object]) -> None:
    """Any of them will do."""
    assert () == find_faults(machine(**fields))


def test_one_fault_at_one_place() -> None:
    """What is wrong is told once, and not what would be less than good about it."""
    (fault,) = find_faults(machine(Card(type="user", queues=4), vcpus=1))

    assert ("cards[0].queues", "warning") == (fault.key, fault.level)
    assert "which has one" in fault.message


def test_card_that_has_one_queue_by_its_model() -> None:
    """It is told where the card is built that it has no use for several queues."""
    assert {"cards[0].model"} == set(faults(Card(type="user", model="rtl8139", queues=4)))
