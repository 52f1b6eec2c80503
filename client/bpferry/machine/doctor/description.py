# SPDX-License-Identifier: LGPL-2.1-or-later
"""One VM: what its description asks of this host, and what ``bpferry check`` finds about it."""

from collections.abc import Iterable, Iterator
from typing import Final

from bpferry.domain.model.accelerator import Accelerator
from bpferry.domain.model.machine import Machine
from bpferry.errors import NameTaken
from bpferry.machine.doctor.finding import Feature, Finding, State
from bpferry.machine.draft import WANTED
from bpferry.machine.faults import Fault, Level
from bpferry.machine.verdict import Verdict
from bpferry.steering.plan import CardPlan, Rung

STATES: Final[dict[Level, State]] = {
    "error": "fault",
    "data-loss": "warning",
    "warning": "warning",
    "note": "ok",
}

STEERING: Final = {
    Rung.EBPF: "RSS by eBPF in the host's kernel",
    Rung.QEMU: "RSS by QEMU",
    Rung.NONE: "no RSS",
}


def wanted_by(machine: Machine) -> frozenset[Feature]:
    """Return what *machine* cannot start without."""
    asks = {
        Feature.RUN: True,
        Feature.TAPS: bool(bridges_named(machine) or networks_named(machine)),
        Feature.EBPF: machine.require_ebpf,
        Feature.VHOST: any(card.driver == "vhost" for card in machine.cards),
        Feature.KVM: WANTED[machine.accelerator, machine.tcg_fallback] is Accelerator.KVM,
        Feature.UEFI: machine.firmware == "efi",
    }
    return frozenset(feature for feature, asked in asks.items() if asked)


def bridges_named(machine: Machine) -> list[str]:
    """Return the bridges that the cards of *machine* name, each once."""
    return _unique(card.bridge for card in machine.cards if card.type == "bridge")


def networks_named(machine: Machine) -> list[str]:
    """Return the networks that they name."""
    return _unique(card.network for card in machine.cards if card.type == "network")


def _unique(names: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(name for name in names if name))


def check_description(verdict: Verdict) -> Iterator[Finding]:
    """Yield what each card gets on this host, and all that *verdict* says."""
    plans = verdict.draft.plans if verdict.draft else {}
    for plan in plans.values():
        yield Finding("vm.card", "ok", _described(plan), (Feature.TAPS,))
    for fault in verdict.findings:
        yield _finding_of(fault)
    if verdict.not_asked:
        message = "no QEMU could be asked, so only the description itself was checked"
        yield Finding("vm.not-checked", "warning", message, (Feature.RUN,))
    if not verdict.errors:
        yield Finding("vm.starts", "ok", "the VM can start", (Feature.RUN,))


def _finding_of(fault: Fault) -> Finding:
    if fault.kind == NameTaken.code:
        # It cannot be started a second time; what is asked here is whether it works on this host.
        return Finding("vm.runs", "ok", fault.sentence, (Feature.RUN,))
    return Finding(
        f"vm.{fault.kind}",
        STATES[fault.level],
        fault.sentence,
        (Feature.EBPF if fault.is_of_plan else Feature.RUN,),
        fix=fault.fix,
    )


def _described(plan: CardPlan) -> str:
    queues = "1 queue" if plan.queues == 1 else f"{plan.queues} queues"
    vhost = "vhost" if plan.vhost else "no vhost"
    return f"{plan.card_id}: {queues}, {STEERING[plan.rung]}, {vhost}"
