# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cards of a VM that runs: plugged in, taken out, linked up and down."""

import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from bpferry.commandline.network.netdevs import netdev_id
from bpferry.commandline.parts import Device
from bpferry.domain.forms import in_form
from bpferry.domain.names import Named, cards_of
from bpferry.domain.remaining import Remaining, numbered, total_of, without_entry
from bpferry.errors import BadInput, Unsupported
from bpferry.machine.card_fds import CardFds, Helpers, map_set, open_cards
from bpferry.machine.control.hot_plug.card_draft import (
    CardCommands,
    Wanted,
    ask_capabilities,
    card_commands,
    device_add,
    draft_card,
    find_doubts,
)
from bpferry.machine.control.hot_plug.holdings import Holding, Holdings
from bpferry.machine.control.hot_plug.places import Places
from bpferry.machine.control.hot_plug.steps import Command, all_or_none
from bpferry.machine.control.hot_plug.threads import in_thread
from bpferry.machine.control.inventory import card_fields, card_in_words, mac_of
from bpferry.machine.control.life import RunningVm
from bpferry.machine.control.links import set_link
from bpferry.machine.control.record import Record
from bpferry.machine.control.watching import begin_watching, stop_watching
from bpferry.machine.draft import Draft
from bpferry.machine.refusals import located
from bpferry.network.bpf_helper import BpfHelper
from bpferry.network.tap_helper import TapHelper
from bpferry.qemu.monitor import CommandRefused
from bpferry.steering.maps import SteeringMaps
from bpferry.steering.plan import CardPlan, Notice

if TYPE_CHECKING:
    from bpferry.domain.model.cards import Card

MAX_SHOWN: Final = 8
"""Cards in a hint."""


class Opened(NamedTuple):
    """What is behind one card, with the stack that closes our copies of it."""

    found: CardFds
    stack: contextlib.ExitStack


class Cards:
    """The cards of one VM."""

    def __init__(self, vm: RunningVm, places: Places, holdings: Holdings) -> None:
        self._vm = vm
        self._places = places
        self._holdings = holdings
        for device in cards_of(vm.machine):
            self._hold(device)

    async def attach(self, wanted: Wanted) -> dict[str, object]:
        """Plug in a card, and return what it has become.

        Raises:
            BpferryError: it cannot be; nothing of it is left.
        """
        number = self._reserve_number()
        capabilities = await ask_capabilities(self._vm, wanted.card)
        draft = draft_card(self._vm, wanted, number, capabilities)
        (device,) = cards_of(draft.machine)
        place = self._place(card_commands(draft, draft.plans).device, draft)
        opened = await in_thread(
            partial(_open, draft, self._vm.record), lambda late: late.stack.close()
        )
        # QEMU gets copies, so ours are closed in any case.
        with opened.stack, contextlib.ExitStack() as kept:
            found = opened.found
            maps = {id_: kept.enter_context(map_set(one)) for id_, one in found.sets.items()}
            commands = card_commands(draft, found.plans)
            await self._tell(commands, place, found)
            kept.pop_all()
        self._note(device, found, maps)
        for endpoint in commands.endpoints:
            self._vm.record.reachable(endpoint)
        notices = (*(Notice(one.text, one.hint) for one in commands.remarks),
                   *_doubts(draft, found.plans[device.id]),
                   *self._of_place(device.id, place))  # fmt: skip
        return {**self._tell_user(device, notices), **_warnings(notices), **_tap(found, device.id)}

    def _tell_user(self, device: "Named[Card]", notices: Iterable[Notice]) -> Mapping[str, object]:
        """Say what was plugged in to who reads the log of the VM, and return it."""
        fields, record = card_fields(self._vm, device), self._vm.record
        record.note(f"{device.id} is plugged in: {card_in_words(fields)}")
        for notice in notices:
            record.warn(notice.message, notice.hint)
        return fields

    def _reserve_number(self) -> int:
        """Return a number that no card of this VM ever had, and that none gets again."""
        cards = self._vm.machine.cards
        number = total_of(cards)
        self._set_cards(Remaining(numbered(cards), number + 1))
        return number

    def _set_cards(self, cards: "tuple[Card, ...]") -> None:
        self._vm.machine = msgspec.structs.replace(self._vm.machine, cards=cards)

    def _place(self, device: Device, draft: Draft) -> dict[str, object]:
        try:
            return self._places.find(device)
        except Unsupported as error:
            raise located(error, draft.document) from error

    async def _tell(self, commands: CardCommands, place: dict[str, object], found: CardFds) -> None:
        """Give QEMU the fds, and add the netdev and the device."""
        card_id = commands.device.id
        async with all_or_none(self._vm, self._holdings) as steps:
            for name, fd in found.fds.items():
                await steps.give(name, fd)
            await steps.do(commands.netdev, Command("netdev_del", {"id": netdev_id(card_id)}))
            # Until QEMU has said no, or the guest has let go of it, nothing else goes there.
            self._places.take(card_id, place)
            try:
                await steps.plug(device_add(commands.device, place), self._freed(card_id))
            except CommandRefused:
                self._places.give_back(card_id)
                raise
            for command in commands.after:
                await steps.do(command)

    def _of_place(self, card_id: str, place: dict[str, object]) -> Iterator[Notice]:
        kind = self._vm.prepared.document.kind
        for doubt in self._places.doubts(place):
            yield Notice(f"{card_id}: {doubt.message}", in_form(doubt.hint, kind))

    def _freed(self, card_id: str) -> Callable[[], Awaitable[None]]:
        async def forget() -> None:
            self._places.give_back(card_id)

        return forget

    def _note(self, device: "Named[Card]", found: CardFds, maps: dict[str, SteeringMaps]) -> None:
        """Add the card to what is known of the VM."""
        vm = self._vm
        cards = vm.machine.cards
        pairs = (*numbered(cards), (device.number, device.value))
        self._set_cards(Remaining(sorted(pairs, key=lambda pair: pair[0]), total_of(cards)))
        vm.prepared.plans.update(found.plans)
        vm.prepared.taps.update(found.taps)
        vm.prepared.maps.update(maps)
        self._hold(device)
        begin_watching(vm, device.id)

    def _hold(self, device: "Named[Card]") -> None:
        behind = [Command("netdev_del", {"id": netdev_id(device.id)})]
        if device.value.type == "vhostuser":
            behind.append(Command("chardev-remove", {"id": f"char{device.id}"}))
        holding = Holding(device.id, tuple(behind), partial(self._forget, device))
        self._holdings.add(holding)

    async def _forget(self, device: "Named[Card]") -> None:
        """Take the card out of what is known of the VM."""
        vm, prepared = self._vm, self._vm.prepared
        self._places.give_back(device.id)
        await stop_watching(vm, device.id)
        self._set_cards(without_entry(vm.machine.cards, device.number))
        prepared.plans.pop(device.id, None)
        prepared.taps.pop(device.id, None)
        maps = prepared.maps.pop(device.id, None)
        if maps is not None:
            maps.close()
        endpoints = vm.record.endpoints
        endpoints[:] = [one for one in endpoints if one.name != device.id]

    async def detach(self, name: str, seconds: float) -> dict[str, object]:
        """Take the card *name* out, by its id or its address.

        Raises:
            BpferryError: there is none, or the guest does not let go of it.
        """
        if name in self._vm.leftovers:
            await self._holdings.take_out(name, seconds)
            return {"id": name}
        device = self.find(name)
        told: dict[str, object] = {"id": device.id, "mac": mac_of(self._vm, device)}
        await self._holdings.take_out(device.id, seconds)
        return told

    async def set_link(self, name: str, *, up: bool) -> dict[str, object]:
        """Let the guest see the link of the card *name* go up or down.

        Raises:
            BpferryError: there is no such card, or QEMU refuses.
        """
        device = self.find(name)
        await set_link(self._vm, device.id, up=up)
        link = "up" if up else "down"
        self._vm.record.note(f"the link of {device.id} is {link}")
        return {"id": device.id, "link": link}

    def find(self, name: str) -> "Named[Card]":
        """Return the card that has *name* as its id or address.

        Raises:
            BadInput: there is none.
        """
        cards = list(cards_of(self._vm.machine))
        for device in cards:
            if name == device.id or name.lower() == mac_of(self._vm, device):
                return device
        raise BadInput(f"'{self._vm.name}' has no card '{name}'", _which(one.id for one in cards))


def _which(ids: Iterable[str]) -> str:
    names = list(ids)
    more = ", ..." if len(names) > MAX_SHOWN else ""
    return f"it has {', '.join(names[:MAX_SHOWN])}{more}" if names else "it has none"


def _open(draft: Draft, record: Record) -> Opened:
    """Ask the helpers."""
    with contextlib.ExitStack() as stack, Helpers(BpfHelper(), TapHelper()) as helpers:
        found = open_cards(draft, helpers, record, stack)
        return Opened(found, stack.pop_all())


def _doubts(draft: Draft, plan: CardPlan) -> Iterator[Notice]:
    """Yield what a start would warn of: about the design of the card, and about its *plan*."""
    (device,) = cards_of(draft.machine)
    doubts = find_doubts(draft)
    for doubt in doubts:
        sentence = in_form(f"{device.id}: {doubt.sentence}", draft.document.kind)
        yield Notice(sentence, in_form(doubt.fix, draft.document.kind))
    told = {doubt.key for doubt in doubts}
    yield from (one for one in plan.warnings if f"{device.key}.{one.field}" not in told)


def _warnings(notices: Iterable[Notice]) -> dict[str, object]:
    return {"warnings": [{"message": one.message, "hint": one.hint} for one in notices]}


def _tap(found: CardFds, card_id: str) -> dict[str, object]:
    tap = found.taps.get(card_id)
    return {} if tap is None else {"mtu": tap.mtu}
