# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a card that is plugged in becomes: its plan, its requests, and QEMU's commands.

All of it comes from the same functions as at a start. Only the capabilities are asked again: the
eBPF object has to be that of the QEMU that runs, which may not be the one on disk any more.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from bpferry.commandline.network.build import card_parts
from bpferry.commandline.parts import Command as PartOfCommand
from bpferry.commandline.parts import Companion, Device, Endpoint, Found, Option, Remark
from bpferry.domain.document import Document
from bpferry.domain.forms import Kind
from bpferry.domain.model.cards import Card
from bpferry.domain.model.machine import Machine
from bpferry.domain.names import Named, cards_of
from bpferry.domain.origins import Origins, Place
from bpferry.domain.remaining import Remaining
from bpferry.domain.shape import fields_of
from bpferry.errors import QemuError, Unsupported, all_in_one
from bpferry.machine.bridge_state import find_bridges_down
from bpferry.machine.card_lint import find_card_faults
from bpferry.machine.control.hot_plug.steps import Command
from bpferry.machine.control.life import RunningVm
from bpferry.machine.draft import Draft
from bpferry.machine.faults import Fault
from bpferry.machine.files import find_missing_files
from bpferry.machine.host import gather_facts
from bpferry.machine.refusals import located
from bpferry.qemu.asker import decode_object
from bpferry.qemu.capabilities import Capabilities
from bpferry.steering.plan import RSS_OBJECT, CardPlan, plan_card
from bpferry.steering.requests import requests_of


class Wanted(Struct, frozen=True):
    """A card that is to be plugged in."""

    card: Card
    source: str
    """What describes it, for messages: a file, or a word for the command's options."""
    kind: Kind
    """In which words its user thinks."""
    require_ebpf: bool


class CardCommands(Struct, frozen=True):
    """What QEMU is told of one card."""

    device: Device
    """Without its place."""
    netdev: Command
    after: tuple[Command, ...]
    """What follows once the device is there."""
    remarks: tuple[Remark, ...]
    endpoints: tuple[Endpoint, ...]


async def ask_capabilities(vm: RunningVm, card: Card) -> Capabilities:
    """Return what the QEMU that runs can do, with its own eBPF object if *card* may need it."""
    known = vm.prepared.draft.capabilities
    if not card.has_tap or RSS_OBJECT not in known.objects:
        return known
    answer = await vm.ask_qemu("request-ebpf", {"id": RSS_OBJECT})
    text = answer.get("object") if isinstance(answer, dict) else None
    if not isinstance(text, str):
        raise QemuError(f"'{known.qemu}' gave no eBPF object '{RSS_OBJECT}'")
    carried = decode_object(known.qemu, RSS_OBJECT, text)
    return msgspec.structs.replace(known, objects={**known.objects, RSS_OBJECT: carried})


def draft_card(vm: RunningVm, wanted: Wanted, number: int, capabilities: Capabilities) -> Draft:
    """Return the draft of a VM that has only the card *wanted*, as its card *number*.

    A file that is missing is found here. QEMU under TCG can hang for ever after a device_add that
    fails: it waits until no vCPU reads what RCU guards (drain_call_rcu), and a vCPU that never
    leaves its code does so all the time.

    Raises:
        Unsupported: what it asks for is not possible.
        NotReady: a file of the card cannot be read.
    """
    start = vm.prepared.draft
    alone = msgspec.structs.replace(
        vm.machine, cards=Remaining([(number, wanted.card)], number + 1)
    )
    document = replace(
        start.document,
        machine=alone,
        origins=_origins(wanted, number),
        kind=wanted.kind,
    )
    _stop_at_missing(document)
    host = gather_facts(alone, start.context.accelerator)
    around = replace(start.circumstances, host=host, require_ebpf=wanted.require_ebpf)
    (device,) = cards_of(alone)
    try:
        plan = plan_card(
            device,
            capabilities,
            host,
            default_rss=alone.default_rss,
            require_ebpf=wanted.require_ebpf,
        )
        asked = requests_of(device, start.context.owner, alone.name, plan, capabilities)
    except Unsupported as error:
        raise located(error, document) from error
    cards = start.context.machine
    context = replace(
        start.context,
        machine=msgspec.structs.replace(cards, cards=alone.cards),
        capabilities=capabilities,
        plans={device.id: plan},
        fd=str,
    )
    return replace(
        start,
        document=document,
        capabilities=capabilities,
        circumstances=around,
        context=context,
        requests={device.id: asked},
    )


def find_doubts(draft: Draft) -> list[Fault]:
    """Return what a start would warn of in the design of the card of *draft*, and on this host."""
    (device,) = cards_of(draft.machine)
    found = find_card_faults(device, draft.machine, draft.capabilities)
    of_design = (fault for fault in found if fault.level == "warning")
    return [*of_design, *find_bridges_down(draft.machine)]


def _stop_at_missing(document: Document) -> None:
    """Raise NotReady if a file of the cards cannot be read; the VM's others are no matter here."""
    machine = document.machine
    cards = Machine(name=machine.name, memory=machine.memory, cards=machine.cards)
    for fault in find_missing_files(replace(document, machine=cards)):
        raise fault


def _origins(wanted: Wanted, number: int) -> Origins:
    """Return places that name a field of the card, as in ``'card.toml': 'queues'``."""
    key = f"cards[{number}]"
    fields = {f"{key}.{one.key}": Place(one.key, 0) for one in fields_of(Card)}
    return Origins(Path(wanted.source), fields)


def card_commands(draft: Draft, plans: Mapping[str, CardPlan]) -> CardCommands:
    """Return what QEMU is told of the card of *draft*; its fds are given by their names.

    Raises:
        Unsupported: something of it is not supported, or not while the VM runs.
    """
    (device,) = cards_of(draft.machine)
    try:
        found = list(card_parts(device, replace(draft.context, plans=plans)))
        errors = [one for one in found if isinstance(one, Unsupported)]
        errors += _needs_start(device, found)
    except Unsupported as error:
        raise located(error, draft.document) from error
    if errors:
        raise all_in_one([located(one, draft.document) for one in errors])
    options = [one for one in found if isinstance(one, Option)]
    (frontend,) = (one for one in found if isinstance(one, Device))
    (netdev,) = (one.value for one in options if one.name == "-netdev")
    index = device.value.acpi_index
    if index is not None:
        frontend = msgspec.structs.replace(
            frontend, properties={**frontend.properties, "acpi-index": index}
        )
    return CardCommands(
        frontend,
        Command("netdev_add", json.loads(netdev or "{}")),
        tuple(Command(one.name, one.arguments) for one in found if isinstance(one, PartOfCommand)),
        tuple(one for one in found if isinstance(one, Remark)),
        tuple(one for one in found if isinstance(one, Endpoint)),
    )


def _needs_start(device: Named[Card], found: Iterable[Found]) -> list[Unsupported]:
    """Return the refusal of a card behind which there is more than a netdev."""
    passt = any(isinstance(one, Companion) for one in found)
    if not passt and not any(_is_chardev(one) for one in found):
        return []
    what = "passt" if passt else "a vhost-user socket"
    sentence = f"{what} behind a card is made when the VM starts, and not while it runs"
    hint = "write the card into the VM's description and start it again, or plug in another type"
    return [device.refusal("type", sentence, hint)]


def _is_chardev(found: Found) -> bool:
    return isinstance(found, Option) and found.name == "-chardev"


def device_add(device: Device, place: Mapping[str, object]) -> Command:
    """Return the command that adds *device* at *place*."""
    words = {"driver": device.driver, "id": device.id, **device.properties, **place}
    return Command("device_add", {key: value for key, value in words.items() if value is not None})
