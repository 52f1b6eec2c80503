# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which rung each card gets, and why: a pure function, before anything is started.

    ebpf   the host's kernel steers, by the program that QEMU carries and the helper loaded
    qemu   QEMU steers in user space
    none   RSS is not offered to the guest

The highest rung that is possible is taken, and vhost is given up where the rung needs that, unless
it was asked for by name. Whoever demands eBPF gets an error on any other rung. What a version of
QEMU cannot do stands in a table (``quirks``).

A QEMU that root starts may load the program by itself; its rung is still called ``qemu``, since
nobody but that QEMU knows whether it did.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from bpferry.domain.model.cards import Card
from bpferry.domain.names import Named
from bpferry.errors import BpferryError, Unsupported
from bpferry.qemu.capabilities import Capabilities
from bpferry.qemu.defaults import is_virtio_card
from bpferry.steering.quirks import Consequence, Quirk, find_quirk
from bpferry.steering.rungs import RSS_OBJECT, Notice, Rung, Situation

__all__ = ["RSS_OBJECT", "CardPlan", "Granted", "HelperAnswer", "HostFacts", "Notice", "Rung"]

BY_RUNG = {
    Rung.EBPF: "the host's kernel steers",
    Rung.QEMU: "QEMU steers in user space",
    Rung.NONE: "the guest is offered no RSS",
}


class Granted(StrEnum):
    """What is known of the helper where it did not fail."""

    NOT_ASKED = "not-asked"
    """As in a dry run: the plan says what would be asked for."""
    YES = "yes"


HelperAnswer = Granted | BpferryError
"""What the helper said, or the error with which asking it ended."""


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What a plan has to know of the host. ``machine.host`` gathers it."""

    kvm: bool = False
    """Whether the VM runs with KVM."""
    vhost: Mapping[str, str] = field(default_factory=dict)
    """Why a vhost device cannot be used, by its path; empty where it can."""

    def problem_of(self, device: str) -> str:
        """Return why the vhost device *device* cannot be used, or nothing."""
        return self.vhost.get(device, f"nobody has looked at '{device}'")


@dataclass(frozen=True, slots=True)
class CardPlan:
    """What one card gets."""

    card_id: str
    rung: Rung
    vhost: bool
    queues: int
    because: tuple[str, ...]
    warnings: tuple[Notice, ...] = ()


def plan_card(
    device: Named[Card],
    capabilities: Capabilities,
    host: HostFacts,
    *,
    answer: HelperAnswer = Granted.NOT_ASKED,
    require_ebpf: bool = False,
) -> CardPlan:
    """Return the plan of a card on this QEMU and this host, after the helper's *answer*.

    Args:
        device: the card.
        capabilities: of the QEMU that it is for.
        host: what the host can do.
        answer: the helper's, if it has been asked.
        require_ebpf: whether any other rung is an error.

    Raises:
        Unsupported: what the card asks for by name cannot be, or eBPF is demanded and cannot be.
        BpferryError: eBPF or vhost is demanded, and this is what the helper's answer was.
    """
    planner = _Planner(device, capabilities, host, demanded=require_ebpf)
    return planner.plan(answer)


class _Planner:
    """One card on its way down the ladder."""

    def __init__(
        self, device: Named[Card], capabilities: Capabilities, host: HostFacts, *, demanded: bool
    ) -> None:
        card = device.value
        self._device = device
        self._card = card
        self._capabilities = capabilities
        self._demanded = demanded
        self._virtio = is_virtio_card(card, capabilities)
        self._because: list[str] = []
        self._warnings: list[Notice] = []
        self._wished = Rung.EBPF if card.rss and self._virtio else Rung.NONE
        self._rung = self._wished
        self._obstacle = Notice("")
        self._asked: set[str] = set()
        self._vhost, self._vhost_reason = self._choose_vhost(host)

    def plan(self, answer: HelperAnswer) -> CardPlan:
        """Return what the card gets."""
        if self._wished is Rung.NONE:
            self._give_none()
        self._ask_quirks()
        if self._rung is Rung.EBPF:
            self._ask_helper(answer)
        if self._demanded and self._rung is not Rung.EBPF:
            raise self._device.refusal(
                "",
                f"it cannot be steered by eBPF, which is demanded: {self._obstacle.message}",
                self._obstacle.hint,
            )
        self._conclude()
        return CardPlan(
            card_id=self._device.id,
            rung=self._rung,
            vhost=self._vhost,
            queues=(self._card.queues or 1) if self._virtio else 1,
            because=tuple(self._because),
            warnings=tuple(self._warnings),
        )

    def _choose_vhost(self, host: HostFacts) -> tuple[bool, str]:
        """Return whether the card is to have vhost as far as RSS leaves it, and why.

        As libvirt does it unasked: where the device opens and the VM runs with KVM.
        """
        card = self._card
        named = card.driver == "vhost"
        if not card.has_tap or not self._virtio:
            if named:
                self._warn("vhost is for virtio cards with a tap, and this card goes without it")
            return False, ""
        if card.driver == "qemu":
            return False, "no vhost, as the description says"
        problem = host.problem_of(card.vhost_device)
        if named:
            if problem:
                self._warn(
                    f"vhost is asked for by name, and is not to be had here: {problem}",
                    "without it the VM will not start; take out that the driver is 'vhost', or "
                    "ask the administrator for the device",
                )
            return True, "vhost, as the description says"
        if not host.kvm:
            return False, "no vhost: the VM runs without KVM"
        return (False, f"no vhost: {problem}") if problem else (True, "vhost")

    def _give_none(self) -> None:
        if not self._virtio:
            self._obstacle = Notice("its model has no RSS", "choose the model 'virtio'")
        elif (self._card.queues or 1) == 1:
            self._obstacle = Notice(
                "it has one queue", f"give card '{self._device.id}' two queues or more and RSS"
            )
        else:
            self._obstacle = Notice("its description does not ask for RSS", "switch RSS on")
        self._because.append(self._obstacle.message)

    def _ask_quirks(self) -> None:
        """Go through the table until nothing in it counts any more."""
        while quirk := find_quirk(self._situation(), frozenset(self._asked)):
            self._asked.add(quirk.name)
            self._apply(quirk)

    def _situation(self) -> Situation:
        return Situation(self._card, self._capabilities, self._rung, self._vhost)

    def _apply(self, quirk: Quirk) -> None:
        match quirk.consequence:
            case Consequence.NO_EBPF | Consequence.NO_RSS:
                none = quirk.consequence is Consequence.NO_RSS
                self._lower(Rung.NONE if none else Rung.QEMU, Notice(quirk.because, quirk.hint))
            case Consequence.NO_VHOST:
                self._give_up_vhost(quirk)
            case Consequence.REFUSE:
                raise self._refuse(quirk.because, quirk.hint, "rss")
            case Consequence.WARN:
                self._warn(quirk.because, quirk.hint)
            case Consequence.NOTE:
                self._because.append(quirk.because)

    def _lower(self, rung: Rung, reason: Notice) -> None:
        self._rung = rung
        self._obstacle = reason
        self._because.append(reason.message)
        if rung is Rung.NONE or self._card.has_tap:
            self._warn(f"no eBPF steering, {BY_RUNG[rung]}: {reason.message}", reason.hint)

    def _give_up_vhost(self, quirk: Quirk) -> None:
        if self._card.driver == "vhost":
            raise self._refuse(
                f"it asks for vhost by name and for what vhost cannot have here: {quirk.because}",
                f"leave out the driver's name, and it runs without vhost; or "
                f"{quirk.hint or 'take RSS out'}",
                "driver",
            )
        self._vhost = False
        self._vhost_reason = "no vhost"
        self._because.append(quirk.because)
        self._warn(f"vhost is given up: {quirk.because}", quirk.hint)

    def _ask_helper(self, answer: HelperAnswer) -> None:
        if not isinstance(answer, BpferryError):
            self._because += _reasons(self._capabilities, answer)
            return
        if self._demanded or self._vhost_is_named():
            raise answer
        self._lower(Rung.QEMU, Notice(answer.message, answer.hint))
        self._ask_quirks()

    def _vhost_is_named(self) -> bool:
        """Say whether the card keeps vhost, so that without eBPF it could have no RSS."""
        return self._vhost and self._card.driver == "vhost"

    def _conclude(self) -> None:
        """Add what the rung means, and whether there is vhost."""
        if self._rung is not self._wished:
            self._because.append(BY_RUNG[self._rung])
        if self._vhost_reason:
            self._because.append(self._vhost_reason)

    def _warn(self, message: str, hint: str = "") -> None:
        self._warnings.append(Notice(f"{self._device.id}: {message}", hint))

    def _refuse(self, message: str, hint: str, field: str) -> Unsupported:
        if field == "rss" and not self._card.rss:
            field = "rss-hash-report"
        return self._device.refusal(field, message, hint)


def _reasons(capabilities: Capabilities, answer: Granted) -> tuple[str, ...]:
    digest = capabilities.objects[RSS_OBJECT].digest.hex()[:16]
    helper = {
        Granted.NOT_ASKED: "the helper would be asked to load it",
        Granted.YES: "the helper loaded it and handed its program and maps over",
    }
    carries = f"carries the eBPF object '{RSS_OBJECT}' ({digest}...) and takes its fds"
    return (f"QEMU {capabilities.version_text} {carries}", helper[answer])
