# SPDX-License-Identifier: LGPL-2.1-or-later
"""The types of a plan: what is asked for, rungs, what is known beforehand, and the plan itself."""

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from msgspec import Struct, field

from bpferry.errors import BpferryError
from bpferry.qemu.capabilities import Capabilities

if TYPE_CHECKING:
    from bpferry.domain.model.cards import Card

RSS_OBJECT: Final = "rss"
"""The id of QEMU's steering program (qapi/ebpf.json, EbpfProgramID)."""


class Wish(StrEnum):
    """What the description of a card says about RSS."""

    ASKED = "asked for"
    DEFAULT = "by default"
    """It does not say, and the card has several queues: it gets RSS if that costs nothing."""
    OFF = "off"


def wish_of(card: "Card", *, default_rss: bool) -> Wish:
    """Return what *card*, a virtio card, says about RSS; *default_rss* is the VM's own key."""
    if card.rss is None:
        several = card.has_tap and (card.queues or 1) > 1
        return Wish.DEFAULT if default_rss and several else Wish.OFF
    return Wish.ASKED if card.rss else Wish.OFF


class Rung(StrEnum):
    """What spreads a card's packets."""

    EBPF = "ebpf"
    QEMU = "qemu"
    NONE = "none"


class Notice(Struct, frozen=True):
    """Something that is less than the user asked for, in one line, and what to do about it."""

    message: str
    hint: str = ""
    field: str = ""
    """Which field of a card it is about, as a key of the native form; empty for others."""


class Situation(Struct, frozen=True):
    """One card on one QEMU, with what it gets as far as that is decided."""

    card: "Card"
    capabilities: Capabilities
    rung: Rung
    vhost: bool
    macvtap: bool = False
    """Whether its tap is a macvtap."""

    @property
    def queues(self) -> int:
        """The number of its queues."""
        return self.card.queues or 1

    @property
    def offers_rss(self) -> bool:
        """Whether the guest is offered RSS."""
        return self.rung is not Rung.NONE


class Granted(StrEnum):
    """What is known of the helper if it did not fail."""

    NOT_ASKED = "not-asked"
    """It has not been asked, as in a dry run: the plan says what would be asked for."""
    YES = "yes"


HelperAnswer = Granted | BpferryError
"""What the helper said, or the error with which asking it ended."""


class HostFacts(Struct, frozen=True):
    """What a plan has to know about the host. ``machine.host`` gathers it."""

    kvm: bool = False
    """Whether the VM runs with KVM."""
    vhost: Mapping[str, str] = field(default_factory=dict)
    """Why a vhost device cannot be used, by its path; empty if it can."""
    macvtaps: frozenset[str] = frozenset()
    """Those of the taps that cards name which are macvtaps."""

    def problem_of(self, device: str) -> str:
        """Return why the vhost device *device* cannot be used; empty if it can."""
        return self.vhost.get(device, f"'{device}' was not checked")


class CardPlan(Struct, frozen=True):
    """What one card gets."""

    card_id: str
    rung: Rung
    vhost: bool
    queues: int
    because: tuple[str, ...]
    warnings: tuple[Notice, ...] = ()
    obstacle: Notice = Notice("")
    """What keeps the card from eBPF; empty if nothing does."""
