# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the plans of a VM's cards have to know about this host."""

from collections.abc import Collection, Iterator

from bpferry.domain.model.accelerator import Accelerator
from bpferry.domain.model.machine import Machine
from bpferry.steering.plan import HostFacts


def gather_facts(machine: Machine, accelerator: Accelerator) -> HostFacts:
    """Return what the plans for the cards of *machine* need to know about this host."""
    kvm = accelerator is Accelerator.KVM
    if not machine.cards:
        return HostFacts(kvm=kvm)
    from bpferry.network.vhost import probe_vhost  # noqa: PLC0415 - where there is a card

    taps = {card.tap for card in machine.cards if card.type == "ethernet" and card.tap}
    devices = {card.vhost_device for card in machine.cards if card.has_tap}
    return HostFacts(
        kvm=kvm,
        vhost={device: probe_vhost(device) for device in sorted(devices)},
        macvtaps=frozenset(_macvtaps(taps)),
    )


def _macvtaps(taps: Collection[str]) -> Iterator[str]:
    """Yield those of *taps* that are macvtaps."""
    if taps:
        from bpferry.network.macvtap import find_macvtap  # noqa: PLC0415 - few cards name a tap

        yield from filter(find_macvtap, taps)
