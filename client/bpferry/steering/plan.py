# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which rung each card gets, and why: a pure function, before anything is started.

    ebpf   the host's kernel steers, by the program that QEMU carries and the helper loaded
    qemu   QEMU steers in user space
    none   RSS is not offered to the guest

The highest possible rung is taken. If a QEMU cannot have both RSS and vhost, what was asked for
stays: vhost, if a card has RSS only by default; RSS, if its description asks for it; and a card
that asks for both by name is refused. Without vhost, all queues of a card are served by QEMU's
single main loop, which costs a user of several queues more than RSS brings.

Requiring eBPF implies asking for RSS, and is an error on any other rung. What a version of QEMU
cannot do is in a table (``quirks``).

A QEMU that root starts may load the program by itself; its rung is still called ``qemu``, since
only that QEMU knows whether it did.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from bpferry.domain.forms import either
from bpferry.errors import BpferryError, Unsupported
from bpferry.qemu.capabilities import Capabilities
from bpferry.qemu.defaults import is_virtio_card
from bpferry.steering.quirks import BOTH, Consequence, Quirk, find_quirk, has_both
from bpferry.steering.rungs import (
    RSS_OBJECT,
    CardPlan,
    Granted,
    HelperAnswer,
    HostFacts,
    Notice,
    Rung,
    Situation,
    Wish,
    wish_of,
)
from bpferry.steering.vhost import COST, choose_vhost

if TYPE_CHECKING:
    from bpferry.domain.model.cards import Card
    from bpferry.domain.names import Named

__all__ = ["RSS_OBJECT", "CardPlan", "Granted", "HelperAnswer", "HostFacts", "Notice", "Rung"]

BY_RUNG: Final = {
    Rung.EBPF: "the host's kernel steers",
    Rung.QEMU: "QEMU steers in user space",
    Rung.NONE: "the guest is offered no RSS",
}


def plan_card(
    device: "Named[Card]",
    capabilities: Capabilities,
    host: HostFacts,
    *,
    default_rss: bool,
    answer: HelperAnswer = Granted.NOT_ASKED,
    require_ebpf: bool = False,
) -> CardPlan:
    """Return the plan of a card on this QEMU and this host, after the helper's *answer*.

    Args:
        device: the card.
        capabilities: of the QEMU that it is for.
        host: what the host can do.
        default_rss: whether a card that does not say gets RSS by default; the VM decides.
        answer: the helper's, if it has been asked.
        require_ebpf: whether any other rung is an error.

    Raises:
        Unsupported: what the card asks for by name, or eBPF if it is required, is not possible.
        BpferryError: eBPF or vhost is required, and this was the helper's answer.
    """
    planner = _Planner(device, capabilities, demanded=require_ebpf)
    planner.choose(host, default_rss=default_rss)
    return planner.plan(answer)


NO_TAP: Final = Notice(
    "only a card with a tap can be",
    "use a bridge or a tap: "
    + either(
        'bridge = "BRIDGE" or tap = "TAP"',
        "<interface type='bridge'>, or type='ethernet' with <target dev='TAP' managed='no'/>",
    ),
)
"""Why a card of another type is not steered by eBPF, which its queues would not change."""


class _Planner:
    """One card on its way down the ladder."""

    def __init__(
        self, device: "Named[Card]", capabilities: Capabilities, *, demanded: bool
    ) -> None:
        self._device = device
        self._card = device.value
        self._capabilities = capabilities
        self._demanded = demanded
        self._virtio = is_virtio_card(device.value, capabilities)
        self._wish = Wish.OFF
        self._rung = Rung.NONE
        self._vhost = False
        self._vhost_reason = ""
        self._macvtap = False
        self._because: list[str] = []
        self._warnings: list[Notice] = []
        self._obstacle = Notice("")
        self._asked: set[str] = set()

    def choose(self, host: HostFacts, *, default_rss: bool) -> None:
        """Begin with the most that the card may have."""
        if self._virtio:
            self._wish = wish_of(self._card, default_rss=default_rss)
        if self._demanded and self._wish is Wish.DEFAULT:
            self._wish = Wish.ASKED
        self._rung = Rung.NONE if self._wish is Wish.OFF else Rung.EBPF
        self._macvtap = self._card.type == "ethernet" and self._card.tap in host.macvtaps
        choice = choose_vhost(self._card, host, virtio=self._virtio)
        self._vhost, self._vhost_reason = choice.vhost, choice.reason
        if choice.warning is not None:
            self._warn(choice.warning)

    def plan(self, answer: HelperAnswer) -> CardPlan:
        """Return what the card gets."""
        if self._wish is Wish.OFF:
            self._give_none()
        self._ask_quirks()
        if self._rung is Rung.EBPF:
            self._ask_helper(answer)
        if self._demanded and self._rung is not Rung.EBPF:
            why = self._obstacle if self._card.has_tap else NO_TAP
            raise self._device.refusal(
                "",
                f"it cannot be steered by eBPF, which is required: {why.message}",
                why.hint,
            )
        self._conclude()
        return CardPlan(
            card_id=self._device.id,
            rung=self._rung,
            vhost=self._vhost,
            queues=(self._card.queues or 1) if self._virtio else 1,
            because=tuple(self._because),
            warnings=tuple(self._warnings),
            obstacle=self._obstacle,
        )

    def _give_none(self) -> None:
        if not self._virtio:
            self._obstacle = Notice(
                "its model does not support RSS", "choose the model 'virtio'", "model"
            )
        elif (self._card.queues or 1) == 1:
            hint = f"give card '{self._device.id}' two queues or more and RSS"
            self._obstacle = Notice("it has one queue", hint, "queues")
        else:
            hint = "turn RSS on: " + either("rss = true", "<driver rss='on'/>")
            self._obstacle = Notice("RSS is not asked for", hint, "rss")
        self._because.append(self._obstacle.message)

    def _ask_quirks(self) -> None:
        """Go through the table until nothing in it applies any more."""
        while quirk := find_quirk(self._situation(), frozenset(self._asked)):
            self._asked.add(quirk.name)
            self._apply(quirk)

    def _situation(self) -> Situation:
        return Situation(self._card, self._capabilities, self._rung, self._vhost, self._macvtap)

    def _apply(self, quirk: Quirk) -> None:
        notice = Notice(quirk.because, quirk.hint, quirk.field)
        match quirk.consequence:
            case Consequence.NO_RSS:
                self._lower(Rung.NONE, notice)
            case Consequence.NO_EBPF:
                self._lower(Rung.QEMU, notice)
            case Consequence.NO_VHOST:
                self._give_up_vhost(notice, "hash reports")
            case Consequence.ONE_OF_BOTH:
                self._choose_one(notice)
            case Consequence.REFUSE:
                raise self._refuse(quirk.because, quirk.hint, "rss")
            case Consequence.WARN:
                self._warn(notice)
            case Consequence.NOTE:
                self._because.append(quirk.because)

    def _lower(self, rung: Rung, reason: Notice) -> None:
        self._step_down(rung, reason)
        # Nobody asked for the default RSS: losing it is only mentioned among the reasons.
        if self._wish is Wish.ASKED and (rung is Rung.NONE or self._card.has_tap):
            self._warnings.append(self._lowered(reason))

    def _step_down(self, rung: Rung, reason: Notice) -> None:
        self._rung = rung
        self._obstacle = reason
        self._because.append(reason.message)

    def _lowered(self, reason: Notice) -> Notice:
        """Return the remark that there is no eBPF, what there is instead, and why."""
        text = f"no eBPF steering, {BY_RUNG[self._rung]}: {reason.message}"
        return Notice(f"{self._device.id}: {text}", reason.hint, reason.field)

    def _choose_one(self, reason: Notice) -> None:
        """Give up RSS or vhost, if the card cannot have both; what was asked for stays."""
        # If this QEMU can have both, the helper is the obstacle. Another QEMU does not help then.
        other_qemu = "" if self._macvtap or has_both(self._capabilities) else BOTH
        if self._wish is Wish.ASKED:
            ways = (f"use {other_qemu}, which has both" if other_qemu else "", self._how_to_keep())
            self._give_up_vhost(Notice(reason.message, "; or ".join(filter(None, ways))), "RSS")
            return
        self._rung = Rung.NONE
        self._because += [reason.message, "RSS is not asked for, so vhost stays"]
        if other_qemu:
            self._obstacle = Notice(reason.message, f"use {other_qemu}, which has both", "rss")
            self._because.append(f"{other_qemu} has both")

    def _how_to_keep(self) -> str:
        """Return what to do to keep vhost instead of RSS."""
        return " and ".join(self._wishes_for_rss()) + " to keep vhost"

    def _wishes_for_rss(self) -> Iterator[str]:
        if self._card.rss:
            yield "leave 'rss' out"
        if self._demanded:
            yield "run without --require-ebpf"

    def _give_up_vhost(self, reason: Notice, other: str) -> None:
        """Do without vhost to get the *other* thing."""
        if self._vhost_is_named():
            raise self._refuse(
                f"it asks for vhost by name and for {other}, and cannot have both: "
                f"{reason.message}",
                f"leave out the driver's name to have {other} without vhost; or {reason.hint}",
                "driver",
            )
        self._vhost = False
        self._vhost_reason = "no vhost"
        self._because.append(reason.message)
        queues = self._situation().queues
        cost = f"; all {queues} queues {COST}" if queues > 1 else ""
        text = f"vhost is given up for {other}: {reason.message}{cost}"
        self._warn(Notice(text, reason.hint, reason.field or "rss"))

    def _ask_helper(self, answer: HelperAnswer) -> None:
        if not isinstance(answer, BpferryError):
            self._because += _reasons(self._capabilities, answer)
            return
        # vhost was asked for by name and stays; and without eBPF there is no RSS with it.
        if self._demanded or (self._wish is Wish.ASKED and self._vhost_is_named()):
            raise answer
        reason = Notice(answer.message, answer.hint, "rss")
        self._step_down(Rung.QEMU, reason)
        before = len(self._warnings)
        self._ask_quirks()
        # Also if RSS is there only by default: a helper may be missing by mistake.
        self._warnings.insert(before, self._lowered(reason))

    def _vhost_is_named(self) -> bool:
        return self._vhost and self._card.driver == "vhost"

    def _conclude(self) -> None:
        """Add what the rung means, and whether there is vhost."""
        if self._wish is not Wish.OFF and self._rung is not Rung.EBPF:
            self._because.append(BY_RUNG[self._rung])
        if self._vhost_reason:
            self._because.append(self._vhost_reason)

    def _warn(self, notice: Notice) -> None:
        text = f"{self._device.id}: {notice.message}"
        self._warnings.append(Notice(text, notice.hint, notice.field))

    def _refuse(self, message: str, hint: str, field: str) -> Unsupported:
        if field == "rss" and self._wish is Wish.OFF:
            field = "rss-hash-report"
        return self._device.refusal(field, message, hint)


def _reasons(capabilities: Capabilities, answer: Granted) -> tuple[str, ...]:
    digest = capabilities.objects[RSS_OBJECT].digest.hex()[:16]
    helper = {
        Granted.NOT_ASKED: "the helper would be asked to load it",
        Granted.YES: "the helper loaded it and passed on its program and maps",
    }
    carries = f"carries the eBPF object '{RSS_OBJECT}' ({digest}...) and takes its fds"
    return (f"QEMU {capabilities.version_text} {carries}", helper[answer])
