# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether a card gets vhost, if RSS permits it.

By default this is decided as in libvirt: a card gets it if the device opens and the VM uses KVM.
"""

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from bpferry.steering.rungs import HostFacts, Notice

if TYPE_CHECKING:
    from bpferry.domain.model.cards import Card

UNUSABLE: Final = "the driver 'vhost' is asked for by name, and cannot be used here"
UNUSABLE_HINT: Final = "the VM starts without it if you leave out the driver's name"

COST: Final = "are then served by QEMU's one main loop, since only vhost has a thread for each"
"""What it costs to give up vhost with several queues."""


class VhostChoice(Struct, frozen=True):
    """Whether a card gets vhost, why, and what is wrong with it."""

    vhost: bool
    reason: str
    """For people; empty if the question does not arise."""
    warning: Notice | None = None


def choose_vhost(card: "Card", host: HostFacts, *, virtio: bool) -> VhostChoice:
    """Return whether *card* gets vhost on *host*."""
    named = card.driver == "vhost"
    if not card.has_tap or not virtio:
        text = "vhost is for virtio cards with a tap, and this card goes without it"
        useless = Notice(text, "leave out the driver's name", "driver")
        return VhostChoice(vhost=False, reason="", warning=useless if named else None)
    if card.driver == "qemu":
        return VhostChoice(vhost=False, reason="no vhost, as the description says")
    problem = host.problem_of(card.vhost_device)
    if named:
        unusable = Notice(f"{UNUSABLE}: {problem}", UNUSABLE_HINT, "driver")
        reason = "vhost, as the description says"
        return VhostChoice(vhost=True, reason=reason, warning=unusable if problem else None)
    if not host.kvm:
        return VhostChoice(vhost=False, reason="no vhost: the VM runs without KVM")
    return VhostChoice(vhost=not problem, reason=f"no vhost: {problem}" if problem else "vhost")
