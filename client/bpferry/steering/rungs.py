# SPDX-License-Identifier: LGPL-2.1-or-later
"""The words of a plan: rungs, notices, and the situation that a card is in."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from bpferry.domain.model.cards import Card
from bpferry.qemu.capabilities import Capabilities

RSS_OBJECT: Final = "rss"
"""The id of QEMU's steering program (qapi/ebpf.json, EbpfProgramID)."""


class Rung(StrEnum):
    """Who spreads a card's packets."""

    EBPF = "ebpf"
    QEMU = "qemu"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Notice:
    """Something less than what was wished, in one line, and what can be done about it."""

    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Situation:
    """One card on one QEMU, with what it is to have as far as that is decided."""

    card: Card
    capabilities: Capabilities
    rung: Rung
    vhost: bool

    @property
    def queues(self) -> int:
        """The number of its queues."""
        return self.card.queues or 1

    @property
    def offers_rss(self) -> bool:
        """Whether the guest is to be offered RSS."""
        return self.rung is not Rung.NONE
