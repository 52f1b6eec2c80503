# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the source says of a VM before it moves: its description, with what depends on the host.

The UUID and the addresses of cards that the description leaves out are made from the host's
identity (``identity``). They are written into the description that goes to the other host, so that
the guest keeps them.
"""

import socket

import msgspec

from bpferry.domain.document import to_toml, to_xml
from bpferry.domain.forms import Kind
from bpferry.domain.identity import Owner, card_mac_of, uuid_of
from bpferry.domain.model.machine import Machine
from bpferry.domain.names import cards_of
from bpferry.machine.migration.messages import PROTOCOL, CardOffer, Offer
from bpferry.machine.migration.same_files import files_of
from bpferry.machine.preparation import Prepared
from bpferry.machine.saved import Link, relevant_words


def make_offer(
    prepared: Prepared,
    *,
    paused: bool,
    links: dict[str, Link],
    asleep: bool,
    stop_seconds: float | None,
) -> Offer:
    """Return the offer of a VM that was started as *prepared*.

    Raises:
        BpferryError: a disk of it cannot be shared.
    """
    draft = prepared.draft
    context, capabilities = draft.context, draft.capabilities
    machine = _with_addresses(prepared.document.machine, context.owner)
    return Offer(
        protocol=PROTOCOL,
        name=machine.name,
        host=socket.gethostname(),
        description=_describe(machine, prepared.document.kind),
        kind=prepared.document.kind,
        version=capabilities.version,
        machine_type=capabilities.machine_name(context.machine_type),
        words=relevant_words(draft.after(prepared.plans).built),
        cards=card_offers(machine, context.owner, prepared),
        files=files_of(machine, draft.built),
        secret_files=dict(draft.secret_files),
        paused=paused,
        links=links,
        asleep=asleep,
        require_ebpf=draft.circumstances.require_ebpf,
        stop_seconds=stop_seconds,
    )


def card_offers(machine: Machine, owner: Owner, prepared: Prepared) -> tuple[CardOffer, ...]:
    """Return the cards as the guest sees them."""
    return tuple(
        CardOffer(
            id=device.id,
            mac=card_mac_of(device.value, owner, machine.name, device.number),
            rung=str(prepared.plans[device.id].rung),
            vhost=prepared.plans[device.id].vhost,
            queues=prepared.plans[device.id].queues,
        )
        for device in cards_of(machine)
    )


def _with_addresses(machine: Machine, owner: Owner) -> Machine:
    cards = tuple(
        msgspec.structs.replace(
            device.value, mac=card_mac_of(device.value, owner, machine.name, device.number)
        )
        for device in cards_of(machine)
    )
    return msgspec.structs.replace(machine, uuid=uuid_of(machine, owner), cards=cards)


def _describe(machine: Machine, kind: Kind) -> str:
    return to_xml(machine) if kind == "xml" else to_toml(machine)
