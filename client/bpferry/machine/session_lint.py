# SPDX-License-Identifier: LGPL-2.1-or-later
"""What libvirt's session mode would make of a VM's cards (libvirt 11.3).

It is reported on request only, since there is nothing to do about it: bpferry does all of this.
"""

from collections.abc import Iterator
from typing import Final

from bpferry.domain.model.machine import Machine
from bpferry.domain.names import cards_of
from bpferry.machine.faults import Fault

BRIDGE_HELPER: Final = (
    "there, qemu-bridge-helper creates the tap, always with one queue and no options"
)
"""qemuInterfaceBridgeConnect in src/qemu/qemu_interface.c."""

NO_TC: Final = "it runs tc, which needs CAP_NET_ADMIN"
"""virNetDevBandwidthSet in src/util/virnetdevbandwidth.c."""

NO_LOADER: Final = "it cannot load the eBPF program, and with vhost QEMU cannot steer itself"


def find_session_faults(machine: Machine) -> Iterator[Fault]:
    """Yield what the cards of *machine* would lack in a libvirt session."""
    for device in cards_of(machine):
        key, card = device.key, device.value
        helped = card.type in ("bridge", "network")
        if helped and (card.queues or 1) > 1:
            text = "a libvirt session would start this card with 1 queue"
            yield Fault(f"{key}.queues", "note", text, BRIDGE_HELPER)
        if helped and card.isolated:
            text = "a libvirt session would not isolate this card"
            yield Fault(f"{key}.isolated", "note", text, BRIDGE_HELPER)
        for name in ("vlan", "tagged_vlans") if helped else ():
            if getattr(card, name):
                text = "a libvirt session could not put this card into a VLAN"
                yield Fault(f"{key}.{name.replace('_', '-')}", "note", text, BRIDGE_HELPER)
        if helped and card.bandwidth is not None:
            text = "a libvirt session could not limit the bandwidth of this card"
            yield Fault(f"{key}.bandwidth", "note", text, NO_TC)
        if card.rss and card.has_tap and card.driver == "vhost":
            text = "a libvirt session would start this card without RSS that works"
            yield Fault(f"{key}.rss", "note", text, NO_LOADER)
