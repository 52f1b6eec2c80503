# SPDX-License-Identifier: LGPL-2.1-or-later
"""The plans of cards, for people and for programs."""

from collections.abc import Mapping
from typing import Final

from bpferry.steering.rungs import CardPlan, Rung

RUNG_NAMES: Final = {
    Rung.EBPF: "steering by eBPF",
    Rung.QEMU: "steering by QEMU",
    Rung.NONE: "no RSS",
}


def nics(plans: Mapping[str, CardPlan]) -> list[dict[str, object]]:
    """Return each card's plan for programs."""
    return [
        {
            "id": card.card_id,
            "steering": card.rung.value,
            "vhost": card.vhost,
            "queues": card.queues,
            "because": list(card.because),
        }
        for card in plans.values()
    ]
