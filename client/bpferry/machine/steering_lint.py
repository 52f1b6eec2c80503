# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the plans of a VM's cards show about its design, before it is started.

The plan is the one that ``bpferry run`` makes, so that a check reports everything that a run would
warn of. A card with several queues and no setting for RSS, as virt-install writes them, is planned
with RSS too: the note has the line to write, and what it would cost.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from bpferry.domain.forms import Kind
from bpferry.domain.model.machine import Machine
from bpferry.domain.names import Named, cards_of
from bpferry.errors import Unsupported
from bpferry.machine.faults import Fault
from bpferry.qemu.capabilities import Capabilities
from bpferry.qemu.defaults import is_virtio_card
from bpferry.steering.plan import CardPlan, HostFacts, Rung, plan_card
from bpferry.steering.quirks import BOTH
from bpferry.steering.rungs import Wish, wish_of
from bpferry.steering.vhost import COST

if TYPE_CHECKING:
    from bpferry.domain.model.cards import Card

OWN_RULE: Final = "the host's kernel picks the queues, and the guest cannot change that"

BY_RUNG: Final = {Rung.QEMU: "RSS without eBPF: QEMU steers in user space", Rung.NONE: "no RSS"}
"""What a card without eBPF has by default."""


def find_steering_faults(
    machine: Machine, capabilities: Capabilities, host: HostFacts, kind: Kind
) -> Iterator[Fault]:
    """Yield the findings about the steering of *machine* on this QEMU and this host."""
    lint = _Lint(capabilities, host, kind, default_rss=machine.default_rss)
    for device in cards_of(machine):
        # What cannot be planned is refused, and told with that.
        with contextlib.suppress(Unsupported):
            yield from lint.faults_of(device)


class _Lint:
    """The cards of one VM, one after the other."""

    def __init__(
        self, capabilities: Capabilities, host: HostFacts, kind: Kind, *, default_rss: bool
    ) -> None:
        self._capabilities = capabilities
        self._host = host
        self._kind = kind
        self._default_rss = default_rss

    def faults_of(self, device: "Named[Card]") -> Iterator[Fault]:
        """Yield the findings about *device*.

        Raises:
            Unsupported: it cannot be planned.
        """
        plan = self._plan(device)
        for warning in plan.warnings:
            key = f"{device.key}.{warning.field}"
            message = warning.message.removeprefix(f"{device.id}: ")
            if warning.field != "driver" or not plan.vhost:
                yield Fault(key, "warning", message, fix=warning.hint, kind="steering")
        if not is_virtio_card(device.value, self._capabilities):
            return
        wish = wish_of(device.value, default_rss=self._default_rss)
        if wish is Wish.DEFAULT and plan.rung is not Rung.EBPF:
            yield self._less_by_default(device, plan)
        elif wish_of(device.value, default_rss=True) is Wish.DEFAULT and wish is Wish.OFF:
            yield from self._nothing_said(device, plan)

    def _plan(self, device: "Named[Card]") -> CardPlan:
        return plan_card(device, self._capabilities, self._host, default_rss=self._default_rss)

    def _less_by_default(self, device: "Named[Card]", plan: CardPlan) -> Fault:
        """Report what a card has if it would have eBPF by default."""
        message = BY_RUNG[plan.rung]
        fix = plan.obstacle.hint
        if plan.vhost:
            message = f"{message}, since it would cost vhost"
            fix = f"{fix}; or {self._without_vhost(device.value)}, for RSS without vhost"
        text = f"{device.value.queues} queues: {message}"
        return Fault(f"{device.key}.queues", "note", text, plan.obstacle.message, fix)

    def _nothing_said(self, device: "Named[Card]", plan: CardPlan) -> Iterator[Fault]:
        """Report how a card with several queues could have RSS, and what that would cost."""
        card = device.value
        message = f"{card.queues} queues without RSS"
        line = self._line(card)
        asking = Named(device.key, device.id, msgspec.structs.replace(card, rss=True))
        try:
            asked = self._plan(asking)
        except Unsupported:
            asked = None
        if asked is None or (plan.vhost and not asked.vhost):
            cause = f"{OWN_RULE}; on this QEMU, RSS costs vhost: all {card.queues} queues {COST}"
            fix = f"use {BOTH}, which has both, and write {line}"
        elif asked.rung is Rung.NONE:
            return
        else:
            cause, fix = OWN_RULE, f"write {line}"
        yield Fault(f"{device.key}.queues", "note", message, cause, fix)

    def _without_vhost(self, card: "Card") -> str:
        """Return what to write for RSS if that is possible only without vhost."""
        unnamed = msgspec.structs.replace(card, driver=None)
        leave = "leave 'driver' out and " if card.driver and self._kind == "toml" else ""
        return f"{leave}write {self._line(unnamed)}"

    def _line(self, card: "Card") -> str:
        """Return what to write for RSS into the document of *card*, with what is there already."""
        if self._kind == "toml":
            return "rss = true"
        from bpferry.domain.xml_writer import build_element  # noqa: PLC0415 - for a note only

        driver = build_element("interface", msgspec.structs.replace(card, rss=True)).find("driver")
        assert driver is not None  # noqa: S101 - RSS is one of its attributes
        attributes = "".join(f" {name}='{value}'" for name, value in driver.attrib.items())
        return f"<driver{attributes}{'>' if len(driver) else '/>'}"
