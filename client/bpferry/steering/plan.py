# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which rung each card gets, and why: a pure function, before anything is started.

    ebpf   the host's kernel steers, by the program that QEMU carries and the helper loaded
    qemu   QEMU steers in user space
    none   RSS is not offered to the guest

The highest rung that is possible is taken. Whoever demands eBPF gets an error on any other.
A QEMU that root starts may load the program by itself; its rung is still called ``qemu``, since
nobody but that QEMU knows whether it did.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from bpferry.domain.model import Card
from bpferry.errors import BpferryError, Unsupported
from bpferry.qemu.capabilities import Capabilities

RSS_OBJECT: Final = "rss"
"""The id of QEMU's steering program (qapi/ebpf.json, EbpfProgramID)."""


class Rung(StrEnum):
    """Who spreads a card's packets."""

    EBPF = "ebpf"
    QEMU = "qemu"
    NONE = "none"


class Granted(StrEnum):
    """What is known of the helper where it did not fail."""

    NOT_ASKED = "not-asked"
    """As in a dry run: the plan says what would be asked for."""
    YES = "yes"


HelperAnswer = Granted | BpferryError
"""What the helper said, or the error with which asking it ended."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something less than what was wished, in one line, and what can be done about it."""

    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class CardPlan:
    """The rung of one card."""

    card_id: str
    rung: Rung
    queues: int
    because: tuple[str, ...]
    warning: Notice | None = None


def plan_card(
    card: Card,
    capabilities: Capabilities,
    answer: HelperAnswer = Granted.NOT_ASKED,
    *,
    require_ebpf: bool = False,
) -> CardPlan:
    """Return the plan of *card* on this QEMU, after the helper's *answer*.

    Raises:
        Unsupported: eBPF is demanded, and this card or this QEMU cannot have it.
        BpferryError: eBPF is demanded, and this is what the helper's answer was.
    """
    demanded = require_ebpf or card.require_ebpf
    obstacle = find_obstacle(card, capabilities)
    if obstacle is not None:
        if demanded:
            raise Unsupported(
                f"card '{card.id}' cannot be steered by eBPF: {obstacle.message}",
                obstacle.hint,
                card.id,
            )
        return _without_ebpf(card, capabilities, obstacle)
    if isinstance(answer, BpferryError):
        if demanded:
            raise answer
        return _fallen(card, answer)
    return CardPlan(card.id, Rung.EBPF, card.queues, _reasons(capabilities, answer))


def find_obstacle(card: Card, capabilities: Capabilities) -> Notice | None:
    """Return what keeps *card* from eBPF on this QEMU, whatever the helper says."""
    qemu = f"'{capabilities.qemu}' (QEMU {capabilities.version_text})"
    newer = "use a QEMU of version 9.0 or later that was built with libbpf"
    if not card.rss:
        return Notice(
            "it has one queue" if card.queues == 1 else "its description switches RSS off",
            f"give card '{card.id}' two queues or more and rss = true",
        )
    if not capabilities.has_rss:
        return Notice(f"the virtio-net of {qemu} has no RSS", newer)
    if RSS_OBJECT not in capabilities.objects:
        return Notice(f"{qemu} hands out no eBPF object '{RSS_OBJECT}'", newer)
    if not capabilities.takes_ebpf_fds:
        return Notice(f"the virtio-net of {qemu} has no property 'ebpf-rss-fds'", newer)
    return None


def _without_ebpf(card: Card, capabilities: Capabilities, obstacle: Notice) -> CardPlan:
    """Return the plan of a card that cannot have eBPF."""
    if not card.rss:
        return CardPlan(card.id, Rung.NONE, card.queues, (obstacle.message,))
    rung = Rung.QEMU if capabilities.has_rss else Rung.NONE
    because = (obstacle.message, _consequence(rung))
    return CardPlan(card.id, rung, card.queues, because, _lowered(card, obstacle, rung))


def _fallen(card: Card, error: BpferryError) -> CardPlan:
    """Return the plan of a card for which the helper did nothing."""
    reason = Notice(error.message, error.hint)
    because = (error.message, _consequence(Rung.QEMU))
    return CardPlan(card.id, Rung.QEMU, card.queues, because, _lowered(card, reason, Rung.QEMU))


def _lowered(card: Card, reason: Notice, rung: Rung) -> Notice:
    return Notice(
        f"{card.id}: no eBPF steering, {_consequence(rung)}: {reason.message}", reason.hint
    )


def _consequence(rung: Rung) -> str:
    if rung is Rung.QEMU:
        return "QEMU steers in user space"
    return "the guest is offered no RSS"


def _reasons(capabilities: Capabilities, answer: Granted) -> tuple[str, ...]:
    digest = capabilities.objects[RSS_OBJECT].digest.hex()[:16]
    helper = {
        Granted.NOT_ASKED: "the helper would be asked to load it",
        Granted.YES: "the helper loaded it and handed its program and maps over",
    }
    carries = f"carries the eBPF object '{RSS_OBJECT}' ({digest}...) and takes its fds"
    return (f"QEMU {capabilities.version_text} {carries}", helper[answer])
