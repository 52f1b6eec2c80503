# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the plan of a card means in QEMU's words: its tap, its queues, its steering.

It knows no document, so that a card of another launcher's command line gets the same.
"""

from collections.abc import Iterable
from typing import Final

from bpferry.steering.rungs import CardPlan, Rung

RSS_ROLES: Final = ("program", "config", "key", "table")
"""The order of virtio-net's property ebpf-rss-fds (hw/net/virtio-net.c)."""


def tap_names(card_id: str, queues: int) -> tuple[str, ...]:
    """Return the names of the fds of a card's queues."""
    return tuple(f"{card_id}.tap{queue}" for queue in range(queues))


def vhost_names(card_id: str, queues: int) -> tuple[str, ...]:
    """Return the names of the fds of /dev/vhost-net for a card's queues."""
    return tuple(f"{card_id}.vhost{queue}" for queue in range(queues))


def set_names(card_id: str) -> tuple[str, ...]:
    """Return the names of the fds of a card's eBPF set, in the order in which QEMU wants them."""
    return tuple(f"{card_id}.{role}" for role in RSS_ROLES)


def tap_properties(plan: CardPlan, taps: Iterable[str], vhosts: Iterable[str]) -> dict[str, object]:
    """Return the properties of a tap with these fds, as words for QEMU.

    *vhosts* are used only if the plan has vhost.
    """
    return {
        "type": "tap",
        "fds": ":".join(taps),
        "vhost": True if plan.vhost else None,
        "vhostfds": ":".join(vhosts) if plan.vhost else None,
    }


def steering_properties(
    plan: CardPlan, *, has_vectors: bool, has_reports: bool, set_fds: Iterable[str]
) -> dict[str, object]:
    """Return the properties of a virtio card with this plan.

    Args:
        plan: the card's.
        has_vectors: whether such a card has interrupts of its own (MSI-X), as on PCI.
        has_reports: whether it reports hashes to the guest.
        set_fds: the fds of its eBPF set, as words for QEMU; used on that rung only.
    """
    properties: dict[str, object] = {}
    if plan.queues > 1:
        # One interrupt for each direction of each queue, one for changes, one for control.
        properties |= {"mq": True, "vectors": 2 * plan.queues + 2 if has_vectors else None}
    if plan.rung is not Rung.NONE:
        properties["rss"] = True
    if has_reports:
        properties["hash"] = True
    if plan.rung is Rung.EBPF:
        properties["ebpf-rss-fds"] = list(set_fds)
    return properties
