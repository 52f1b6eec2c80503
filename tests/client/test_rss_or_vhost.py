# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which of RSS and vhost a card gets where a QEMU has not both: the table in docs/quirks.md.

Each row of the page is taken apart into the cases that it covers, and each case is planned on
the QEMUs of Debian as they said themselves what they can do (tests/golden).
"""

import itertools
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

import msgspec
import pytest

from bpferry.domain.names import Named
from bpferry.errors import BpferryError, NoHelper, Unsupported
from bpferry.steering.plan import CardPlan, Granted, HelperAnswer, HostFacts, Rung, plan_card
from tests.client.support import CARD
from tests.support.golden import capabilities_of
from tests.support.pages import table_under

PAGE: Final = table_under("quirks.md", "RSS or vhost")

QEMUS: Final = ("7.2", "10.0.2", "10.0.13", "11.1.3")
WISHES: Final = {"asked for": (True, False), "by default": (None, False), "required": (None, True)}
"""By the page's word: ``rss`` of the card, and whether eBPF is required."""
DRIVERS: Final = {"unsaid": None, "vhost": "vhost", "qemu": "qemu"}
HOSTS: Final = tuple(itertools.product((True, False), (True, False)))
"""Whether there is KVM, and whether the vhost device can be used."""

HOSTS_BY_WORD: Final = {
    "any": HOSTS,
    "KVM and device": ((True, True),),
    "not both": tuple(host for host in HOSTS if host != (True, True)),
    "device": tuple(host for host in HOSTS if host[1]),
    "no device": tuple(host for host in HOSTS if not host[1]),
}

WARNINGS: Final = {
    "no eBPF": "no eBPF steering, QEMU steers in user space: ",
    "vhost is given up": "vhost is given up for RSS: ",
    "no device": "the driver 'vhost' is asked for by name, and cannot be used here: ",
}
"""How the warnings begin, by the page's words."""

NOTES: Final = {
    "vhost stays": "RSS is not asked for, so vhost stays",
    "no eBPF": "QEMU steers in user space",
}
ERRORS: Final = {
    "vhost and RSS": "it asks for vhost by name and for RSS, and cannot have both: ",
    "no eBPF": "it cannot be steered by eBPF, which is required: ",
}

HAS_BOTH: Final = "a QEMU of version 9.0 to 10.0 that was built with libbpf"


class Case(NamedTuple):
    """One card on one QEMU and one host."""

    rss: str
    driver: str
    qemu: str
    kvm: bool
    device: bool


class Outcome(NamedTuple):
    """What becomes of it, in the page's words."""

    steering: str
    vhost: str
    said: str


def cases_of(row: dict[str, str]) -> Iterator[Case]:
    """Yield the cases that a row of the page covers."""
    hosts = HOSTS_BY_WORD[row["host"]]
    for rss, driver, qemu, (kvm, device) in itertools.product(
        split(row["RSS"], WISHES), split(row["driver"], DRIVERS), split(row["QEMU"], QEMUS), hosts
    ):
        yield Case(rss, driver, qemu, kvm, device)


def split(cell: str, every: Collection[str]) -> Collection[str]:
    """Return the words of a cell, each one of *every*."""
    words = every if cell == "any" else cell.split(", ")
    assert set(words) <= set(every), cell
    return words


def rows() -> list[tuple[Case, Outcome]]:
    """Return each case of the page with what the page says of it."""
    return [
        (case, Outcome(row["steering"], row["vhost"], row["what is said"]))
        for row in PAGE
        for case in cases_of(row)
    ]


def plan(case: Case, answer: HelperAnswer = Granted.NOT_ASKED, *, rss: bool | None) -> CardPlan:
    """Return the plan of a card of four queues."""
    card = msgspec.structs.replace(CARD, rss=rss, driver=DRIVERS[case.driver])
    device = "" if case.device else "cannot open '/dev/vhost-net': it is not there"
    return plan_card(
        Named("cards[0]", "net0", card),
        capabilities_of(case.qemu),
        HostFacts(kvm=case.kvm, vhost={"/dev/vhost-net": device}),
        default_rss=True,
        require_ebpf=WISHES[case.rss][1],
        answer=answer,
    )


def outcome(case: Case, *, rss: bool | None) -> Outcome:
    """Return what becomes of *case*, in the page's words."""
    try:
        found = plan(case, rss=rss)
    except Unsupported as error:
        (word,) = (word for word, text in ERRORS.items() if text in error.message)
        return Outcome("refused", "", f"error: {word}")
    words = [f"note: {word}" for word in notes(case, found)]
    for notice in found.warnings:
        (word,) = (w for w, text in WARNINGS.items() if notice.message.startswith(f"net0: {text}"))
        words.append(f"warning: {word}")
    return Outcome(found.rung.value, "yes" if found.vhost else "no", "; ".join(words))


def notes(case: Case, found: CardPlan) -> list[str]:
    """Return what is among the reasons where a warning would say it of RSS that is asked for."""
    if case.rss != "by default":
        return []
    return [word for word, text in NOTES.items() if text in found.because]


def test_every_case_is_in_one_row() -> None:
    """The page has each combination, and none twice."""
    every = itertools.product(WISHES, DRIVERS, QEMUS, HOSTS)
    expected = Counter(Case(rss, driver, qemu, *host) for rss, driver, qemu, host in every)

    assert expected == Counter(case for case, _ in rows())
    assert 144 == expected.total()


@pytest.mark.parametrize(
    "row", table_under("quirks.md", "RSS or vhost"), ids=lambda row: " | ".join(row.values())
)
def test_row_of_the_page(row: dict[str, str]) -> None:
    """What the page says of a case is what is planned."""
    expected = Outcome(row["steering"], row["vhost"], row["what is said"])

    for case in cases_of(row):
        assert expected == outcome(case, rss=WISHES[case.rss][0]), case
        if case.rss == "required":
            assert expected == outcome(case, rss=True), case


@pytest.mark.parametrize("case", [case for case, told in rows() if "vhost is given" in told.said])
def test_vhost_that_is_given_up(case: Case) -> None:
    """The warning says what it costs and why, and its hint has both ways out."""
    found = plan(case, rss=WISHES[case.rss][0])

    (warning,) = (it for it in found.warnings if "vhost is given up" in it.message)
    keep = "run without --require-ebpf" if case.rss == "required" else "leave 'rss' out"
    assert warning.message.endswith(
        "; all 4 queues are then served by QEMU's one main loop, since only vhost has a thread for "
        "each"
    )
    assert f"use {HAS_BOTH}, which has both; or {keep} to keep vhost" == warning.hint


@pytest.mark.parametrize("case", [case for case, told in rows() if "vhost stays" in told.said])
def test_vhost_that_stays(case: Case) -> None:
    """The note says which QEMU has both; there is no warning that RSS nobody asked for is gone."""
    found = plan(case, rss=None)

    assert f"{HAS_BOTH} has both" in found.because
    assert not any("RSS" in warning.message for warning in found.warnings)


@pytest.mark.parametrize("case", [case for case, told in rows() if "and RSS" in told.said])
def test_vhost_and_rss_by_name(case: Case) -> None:
    """The refusal is about the driver, says why, and has the ways out."""
    with pytest.raises(Unsupported, match="with vhost") as caught:
        plan(case, rss=True)

    assert "cards[0].driver" == caught.value.element
    assert caught.value.hint.startswith(
        f"leave out the driver's name to have RSS without vhost; or use {HAS_BOTH}, which has "
        "both; or leave 'rss' out"
    )


def test_both_required_and_asked_for() -> None:
    """A user who asks for RSS and requires eBPF has to remove both to keep vhost."""
    (warning,) = plan(
        Case("required", "unsaid", "11.1.3", kvm=True, device=True), rss=True
    ).warnings

    assert warning.hint.endswith(
        "; or leave 'rss' out and run without --require-ebpf to keep vhost"
    )


BESIDE_VHOST: Final = Case("by default", "unsaid", "10.0.13", kvm=True, device=True)


@pytest.mark.parametrize("driver", ["unsaid", "vhost"])
def test_helper_that_fails_rss_by_default(driver: str) -> None:
    """Vhost stays, and the warning is about the helper: another QEMU would not help."""
    found = plan(
        BESIDE_VHOST._replace(driver=driver), NoHelper("nobody there", "start it"), rss=None
    )

    assert (Rung.NONE, True) == (found.rung, found.vhost)
    (warning,) = found.warnings
    assert ("net0: no eBPF steering, the guest is offered no RSS: nobody there", "start it") == (
        warning.message,
        warning.hint,
    )
    assert not any(HAS_BOTH in reason for reason in found.because)


def test_helper_that_fails_rss_asked_for() -> None:
    """The helper comes first, then what it costs, with the one way that would help."""
    found = plan(BESIDE_VHOST._replace(rss="asked for"), NoHelper("nobody there"), rss=True)

    assert (Rung.QEMU, False) == (found.rung, found.vhost)
    helper, vhost = found.warnings
    assert "nobody there" in helper.message
    assert "leave 'rss' out to keep vhost" == vhost.hint


@pytest.mark.parametrize("driver", ["unsaid", "vhost"])
def test_helper_that_fails_required_ebpf(driver: str) -> None:
    """Where eBPF is required, the helper's error is the end, also for RSS by default."""
    error: BpferryError = NoHelper("nobody there")

    with pytest.raises(NoHelper) as caught:
        plan(BESIDE_VHOST._replace(rss="required", driver=driver), error, rss=None)

    assert error is caught.value
