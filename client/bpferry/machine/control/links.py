# SPDX-License-Identifier: LGPL-2.1-or-later
"""The links of a running VM's cards, which its user may take down and up.

Whether a link is up belongs to what QEMU saves of a card, of most models at least; the description
says how it is at a start.
"""

from collections.abc import Mapping

import msgspec

from bpferry.domain.model.machine import Machine
from bpferry.domain.names import cards_of
from bpferry.domain.remaining import mapped, numbered
from bpferry.machine.control.life import RunningVm
from bpferry.machine.saved import Link


async def set_link(vm: RunningVm, card_id: str, *, up: bool) -> None:
    """Let the guest of *vm* see the link of a card go up or down.

    Raises:
        QemuError: QEMU refuses, or has ended.
    """
    await vm.ask_qemu("set_link", {"name": card_id, "up": up})
    link: Link = "up" if up else "down"
    # Meanwhile, the card may have been taken out.
    numbers = [device.number for device in cards_of(vm.machine) if device.id == card_id]
    vm.machine = with_links(vm.machine, dict.fromkeys(numbers, link))


async def restore_links(vm: RunningVm, links: Mapping[str, Link]) -> None:
    """Set the *links* that a restored VM had, by card.

    Raises:
        QemuError: QEMU refuses, or has ended.
    """
    for card_id, link in links.items():
        await set_link(vm, card_id, up=link == "up")


def with_links(machine: Machine, links: Mapping[int, Link]) -> Machine:
    """Return *machine* with these *links* of its cards, by number."""
    cards = mapped(
        machine.cards,
        lambda number, card: msgspec.structs.replace(card, link=links.get(number, card.link)),
    )
    return msgspec.structs.replace(machine, cards=cards)


def changed_links(vm: RunningVm) -> dict[str, Link]:
    """Return the links, by card, that are not as the description of *vm* has them."""
    described = dict(numbered(vm.prepared.document.machine.cards))
    return {
        device.id: device.value.link
        for device in cards_of(vm.machine)
        if device.number in described and device.value.link != described[device.number].link
    }
