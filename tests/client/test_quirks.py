# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each row of the table of quirks, on the QEMUs that it is about and on those that it is not.

The QEMUs of Debian are as they said themselves (tests/golden); of the versions between them only
what the row asks for is replaced.
"""

import msgspec
import pytest

from bpferry.domain.model.cards import Card
from bpferry.domain.names import Named
from bpferry.errors import Unsupported
from bpferry.qemu.capabilities import Capabilities, EbpfObject
from bpferry.steering.plan import CardPlan, HostFacts, Rung, plan_card
from bpferry.steering.quirks import OBJECT_OF_9_0, QUIRKS, Consequence, find_quirk
from bpferry.steering.rungs import Situation
from tests.client.support import CARD
from tests.support.golden import capabilities_of
from tests.support.pages import table_under

VHOST = HostFacts(kvm=True, vhost={"/dev/vhost-net": ""})
NO_VHOST = HostFacts()

USER = Card(type="user", rss=True)
HASHES = msgspec.structs.replace(CARD, rss_hash_report=True)
VHOST_USER = Card(type="vhostuser", socket="/x", rss=True, queues=4)
ONE_QUEUE = msgspec.structs.replace(CARD, queues=1)


def qemu(name: str) -> Capabilities:
    """Return the QEMU of Debian called *name*, or 10.0.2 as if it were the version *name*."""
    if name in {"7.2", "10.0.2", "10.0.13", "11.1.3"}:
        return capabilities_of(name)
    major, minor, *micro = map(int, name.split("."))
    version = (major, minor, micro[0] if micro else 0)
    found = msgspec.structs.replace(capabilities_of("10.0.2"), version=version)
    if name == "9.0":
        old = EbpfObject(b"\x7fELF", bytes.fromhex(OBJECT_OF_9_0).ljust(32, b"\0"))
        return msgspec.structs.replace(found, objects={"rss": old})
    return found


def lacking(name: str, wanted: str) -> Capabilities:
    """Return the QEMU *name* whose virtio-net lacks the property *wanted*."""
    known = qemu(name)
    cards = {key: kind for key, kind in known.card_properties.items() if key != wanted}
    return msgspec.structs.replace(known, devices={**known.devices, "virtio-net-pci": cards})


def names(card: Card, known: Capabilities, rung: Rung, *, vhost: bool) -> set[str]:
    """Return the rows that count for a card in a situation."""
    situation = Situation(card, known, rung, vhost)
    return {row.name for row in QUIRKS if row.concerns(situation)}


def plan(card: Card, known: Capabilities, host: HostFacts = NO_VHOST) -> CardPlan:
    """Return the plan of *card*."""
    return plan_card(Named("cards[0]", "net0", card), known, host, default_rss=False)


@pytest.mark.parametrize(
    ("row", "card", "rung", "vhost", "concerned", "others"),
    [
        ("rss-of-vhost-user", VHOST_USER, Rung.EBPF, False, "9.0 10.0.2 11.1.3", ""),
        ("rss-of-vhost-user", CARD, Rung.EBPF, False, "", "9.0 10.0.2 11.1.3"),
        ("crash-without-tap", USER, Rung.QEMU, False, "9.2 9.2.4", "9.0 9.1 10.0.2 11.1.3"),
        ("crash-without-tap", CARD, Rung.EBPF, True, "", "9.2"),
        ("crash-without-tap", USER, Rung.NONE, False, "", "9.2"),
        ("fds-leak-without-tap", USER, Rung.EBPF, False, "9.0 10.0.2 11.1.3", ""),
        ("fds-leak-without-tap", USER, Rung.QEMU, False, "", "10.0.2"),
        ("fds-leak-without-tap", CARD, Rung.EBPF, False, "", "10.0.2"),
        ("nothing-to-spread", ONE_QUEUE, Rung.EBPF, False, "7.2 10.0.2 11.1.3", ""),
        ("nothing-to-spread", CARD, Rung.EBPF, False, "", "7.2 10.0.2 11.1.3"),
        ("no-object", CARD, Rung.EBPF, False, "7.2", "9.0 10.0.2 10.0.13 11.1.3"),
        ("no-fds", CARD, Rung.EBPF, False, "7.2", "9.0 10.0.2 10.0.13 11.1.3"),
        ("hash-report-with-vhost", HASHES, Rung.EBPF, True, "7.2 10.0.2 11.1.3", ""),
        ("hash-report-with-vhost", HASHES, Rung.EBPF, False, "", "7.2 10.0.2 11.1.3"),
        ("hash-report-with-vhost", CARD, Rung.EBPF, True, "", "10.0.2"),
        ("hash-report-without-vhost", HASHES, Rung.EBPF, False, "9.0 10.0.2 11.1.3", ""),
        ("hash-report-without-vhost", HASHES, Rung.EBPF, True, "", "10.0.2"),
        ("hash-report-without-vhost", HASHES, Rung.QEMU, False, "", "10.0.2"),
        ("vhost-ignores-fds", CARD, Rung.EBPF, True, "10.1 10.2 11.1.3", "9.0 10.0.2 10.0.13"),
        ("vhost-ignores-fds", CARD, Rung.EBPF, False, "", "10.1 11.1.3"),
        ("rss-taken-back", CARD, Rung.QEMU, True, "7.2 9.0 10.0.2 10.0.13", "10.1 11.1.3"),
        ("rss-taken-back", CARD, Rung.EBPF, True, "", "10.0.2"),
        ("rss-in-name-only", CARD, Rung.QEMU, True, "10.1 11.1.3", "7.2 10.0.13"),
        ("rss-in-name-only", CARD, Rung.QEMU, False, "", "11.1.3"),
        ("soft-failure", CARD, Rung.EBPF, False, "9.0 9.1 9.1.2", "7.2 9.2 10.0.2 11.1.3"),
        ("soft-failure", CARD, Rung.QEMU, False, "", "9.1"),
        ("object-of-9.0", CARD, Rung.EBPF, False, "9.0", "7.2 9.1 10.0.2 11.1.3"),
    ],
)  # fmt: skip
def test_row_counts_where_it_says(  # noqa: PLR0917 - a table
    row: str,
    card: Card,
    rung: Rung,
    vhost: bool,  # noqa: FBT001 - a table
    concerned: str,
    others: str,
) -> None:
    """A row counts for the QEMUs and cards that it names, and for no others."""
    for name in concerned.split():
        assert row in names(card, qemu(name), rung, vhost=vhost), name
    for name in others.split():
        assert row not in names(card, qemu(name), rung, vhost=vhost), name


def test_no_rss() -> None:
    """A QEMU whose cards have no RSS is known by that, whatever its version."""
    assert "no-rss" in names(CARD, lacking("10.0.2", "rss"), Rung.EBPF, vhost=False)
    assert "no-rss" not in names(CARD, qemu("7.2"), Rung.EBPF, vhost=False)


@pytest.mark.parametrize("name", ["9.0", "10.0.2", "11.1.3"])
def test_a_macvtap_is_not_steered_by_the_kernel(name: str) -> None:
    """On no QEMU; what makes the difference is what is behind the card."""
    rows = {
        macvtap: {row.name for row in QUIRKS if row.concerns(situation)}
        for macvtap in (True, False)
        for situation in [Situation(CARD, qemu(name), Rung.EBPF, vhost=False, macvtap=macvtap)]
    }

    assert {"macvtap"} == rows[True] - rows[False]


def test_what_qemu_lacks_counts_more_than_its_version() -> None:
    """A QEMU of 10.0 that was built without libbpf is one without eBPF."""
    known = msgspec.structs.replace(qemu("10.0.2"), objects={})

    assert Rung.QEMU is plan(CARD, known).rung
    assert Rung.QEMU is plan(CARD, lacking("10.0.2", "ebpf-rss-fds")).rung


@pytest.mark.parametrize(
    ("name", "card", "host", "rung", "vhost"),
    [
        ("7.2", CARD, NO_VHOST, Rung.QEMU, False),
        ("7.2", CARD, VHOST, Rung.QEMU, False),
        ("7.2", msgspec.structs.replace(CARD, rss=False), VHOST, Rung.NONE, True),
        ("9.0", CARD, VHOST, Rung.EBPF, True),
        ("9.1", CARD, VHOST, Rung.EBPF, True),
        ("9.2", CARD, VHOST, Rung.EBPF, True),
        ("10.0.2", CARD, VHOST, Rung.EBPF, True),
        ("10.0.13", CARD, VHOST, Rung.EBPF, True),
        ("10.1", CARD, VHOST, Rung.EBPF, False),
        ("11.1.3", CARD, VHOST, Rung.EBPF, False),
        ("11.1.3", CARD, NO_VHOST, Rung.EBPF, False),
        ("10.0.2", HASHES, VHOST, Rung.QEMU, False),
        ("11.1.3", HASHES, NO_VHOST, Rung.QEMU, False),
        ("10.0.2", USER, VHOST, Rung.QEMU, False),
        ("9.1", USER, NO_VHOST, Rung.QEMU, False),
    ],
)
def test_plan_by_qemu(
    name: str,
    card: Card,
    host: HostFacts,
    rung: Rung,
    vhost: bool,  # noqa: FBT001 - a table
) -> None:
    """What the rows together make of a card on each QEMU."""
    found = plan(card, qemu(name), host)

    assert (rung, vhost) == (found.rung, found.vhost)


@pytest.mark.parametrize(
    ("name", "card", "words"),
    [
        ("9.2", USER, "9.2 crashes"),
        ("10.0.2", VHOST_USER, "vhost-user"),
        ("9.0", VHOST_USER, "RSS"),
    ],
)
def test_card_that_is_refused(name: str, card: Card, words: str) -> None:
    """A card that would crash QEMU, or be lied to, is refused by the place that asks for RSS."""
    with pytest.raises(Unsupported, match=words) as caught:
        plan(card, qemu(name))

    assert caught.value.element == "cards[0].rss"


def test_hash_reports_of_vhost_user_are_refused_by_their_own_place() -> None:
    """Where RSS is off, it is the hash reports that the error is about."""
    card = msgspec.structs.replace(VHOST_USER, rss=False, rss_hash_report=True)

    with pytest.raises(Unsupported) as caught:
        plan(card, qemu("10.0.2"))

    assert caught.value.element == "cards[0].rss-hash-report"


def test_notes_are_among_the_reasons() -> None:
    """What costs nothing is said, and is not a warning."""
    found = plan(CARD, qemu("9.0"))

    assert any("whose hash is 0" in reason for reason in found.because)
    assert any("messages are watched" in reason for reason in found.because)
    assert found.warnings == ()


def test_no_row_is_asked_twice() -> None:
    """A row that changes nothing does not count again."""
    situation = Situation(ONE_QUEUE, qemu("10.0.2"), Rung.EBPF, vhost=False)
    first = find_quirk(situation)

    assert first is not None
    assert first.consequence is Consequence.WARN
    assert find_quirk(situation, frozenset({first.name})) is None


@pytest.mark.parametrize("row", QUIRKS, ids=lambda row: row.name)
def test_row_says_where_it_comes_from(row: object) -> None:
    """Every row has words for people, a source, and a name of its own."""
    found = next(quirk for quirk in QUIRKS if quirk is row)

    assert all((found.qemu, found.when, found.because, found.source))
    assert [found] == [quirk for quirk in QUIRKS if quirk.name == found.name]


def test_the_page_shows_the_table() -> None:
    """docs/quirks.md has every row as the code has it, in the same order."""
    rows = [
        {
            "name": row.name,
            "QEMU": row.qemu,
            "cards": row.when,
            "what follows": row.consequence.value,
            "because": row.because,
            "source": row.source,
        }
        for row in QUIRKS
    ]

    assert rows == table_under("quirks.md", "What each version cannot do")
