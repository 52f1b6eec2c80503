# SPDX-License-Identifier: LGPL-2.1-or-later
"""The ladder: which rung a card gets, and what is said about it."""

from dataclasses import replace

import pytest

from bpferry.errors import BpferryError, HelperError, NoHelper, Refused, Unsupported
from bpferry.steering.plan import Granted, Rung, plan_card
from tests.client.support import CAPABILITIES, CARD, without

NO_OBJECT = replace(CAPABILITIES, objects={})
NO_FDS = without(CAPABILITIES, "ebpf-rss-fds")
NO_RSS = without(CAPABILITIES, "rss")
SINGLE = replace(CARD, queues=1, rss=False)
OFF = replace(CARD, rss=False)


@pytest.mark.parametrize(
    ("card", "capabilities", "answer", "rung"),
    [
        (CARD, CAPABILITIES, Granted.NOT_ASKED, Rung.EBPF),
        (CARD, CAPABILITIES, Granted.YES, Rung.EBPF),
        (CARD, CAPABILITIES, NoHelper("nobody"), Rung.QEMU),
        (CARD, CAPABILITIES, Refused("no"), Rung.QEMU),
        (CARD, CAPABILITIES, HelperError("odd"), Rung.QEMU),
        (CARD, NO_OBJECT, Granted.NOT_ASKED, Rung.QEMU),
        (CARD, NO_FDS, Granted.NOT_ASKED, Rung.QEMU),
        (CARD, NO_RSS, Granted.NOT_ASKED, Rung.NONE),
        (SINGLE, CAPABILITIES, Granted.NOT_ASKED, Rung.NONE),
        (OFF, CAPABILITIES, Granted.NOT_ASKED, Rung.NONE),
    ],
)
def test_highest_possible_rung(card, capabilities, answer, rung) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - a table
    """Each card gets the highest rung that is possible, with a reason."""
    plan = plan_card(card, capabilities, answer)

    assert rung is plan.rung
    assert all(plan.because)


@pytest.mark.parametrize("capabilities", [NO_OBJECT, NO_FDS, NO_RSS])
def test_lower_rung_than_wished_is_a_warning(capabilities) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - a table
    """Whoever wants RSS and does not get eBPF is told in one line, with a hint."""
    warning = plan_card(CARD, capabilities).warning

    assert warning is not None
    assert warning.message.startswith("net0: no eBPF steering, ")
    assert warning.hint == "use a QEMU of version 9.0 or later that was built with libbpf"


def test_what_was_not_wished_is_no_warning() -> None:
    """A card without RSS lacks nothing."""
    assert plan_card(SINGLE, CAPABILITIES).warning is None


def test_helper_error_is_told_with_its_hint() -> None:
    """The warning about a helper that is not there has its reason and its remedy."""
    warning = plan_card(CARD, CAPABILITIES, NoHelper("nobody there", "start it")).warning

    assert warning is not None
    assert warning.message == ("net0: no eBPF steering, QEMU steers in user space: nobody there")
    assert warning.hint == "start it"


@pytest.mark.parametrize("error", [NoHelper("x"), Refused("x"), HelperError("x")])
@pytest.mark.parametrize("by_card", [True, False])
def test_demanded_ebpf_passes_the_helper_error_on(error: BpferryError, *, by_card: bool) -> None:
    """Where eBPF is demanded, by the card or for all, the helper's error is the end."""
    card = replace(CARD, require_ebpf=by_card)

    with pytest.raises(type(error)) as caught:
        plan_card(card, CAPABILITIES, error, require_ebpf=not by_card)

    assert error is caught.value


@pytest.mark.parametrize(
    ("card", "capabilities"),
    [(CARD, NO_OBJECT), (CARD, NO_FDS), (CARD, NO_RSS), (SINGLE, CAPABILITIES)],
)
def test_demanded_ebpf_that_cannot_be(card, capabilities) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - a table
    """Where eBPF is demanded and certainly not possible, that is unsupported: status 3."""
    with pytest.raises(Unsupported, match="card 'net0' cannot be steered by eBPF") as caught:
        plan_card(card, capabilities, require_ebpf=True)

    assert (caught.value.status, caught.value.element) == (3, "net0")
