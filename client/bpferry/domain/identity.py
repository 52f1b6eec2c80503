# SPDX-License-Identifier: LGPL-2.1-or-later
"""The UUID and the addresses of a VM whose description names none.

They follow from the host, its user, the VM's name, and the position of the card: the same in each
run, and different for each VM of a network, whatever names its users choose.
"""

import re
import uuid
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from bpferry.domain.digest import sha256, uuid5
from bpferry.domain.model.base import UUID_PATTERN

if TYPE_CHECKING:
    from bpferry.domain.model.cards import Card
    from bpferry.domain.model.machine import Machine

UUID: Final = re.compile(UUID_PATTERN)

NO_MAC: Final = "00:00:00:00:00:00"
"""Means no address, as in libvirt."""


class Owner(Struct, frozen=True):
    """The owner of VMs: a user of a host."""

    host: uuid.UUID
    """An id of the host that is made for bpferry alone (``machine.identity``)."""
    uid: int


def uuid_of(machine: "Machine", owner: Owner) -> str:
    """Return the UUID of *machine*, a VM of *owner*."""
    named = named_uuid(machine)
    return str(named) if named else derive_uuid(owner, machine.name)


def named_uuid(machine: "Machine") -> uuid.UUID | None:
    """Return the UUID that the description names, if it names one.

    As in libvirt, the one that the guest's firmware would show counts if there is no other.
    """
    if machine.uuid is not None:
        return uuid.UUID(machine.uuid)
    for info in machine.sysinfo:
        shown = next((entry.value for entry in info.system if entry.name == "uuid"), "")
        if info.type == "smbios" and is_uuid(shown):
            return uuid.UUID(shown)
    return None


def is_uuid(text: str) -> bool:
    """Say whether *text* is a UUID, with hyphens or without any."""
    return UUID.fullmatch(text) is not None


def card_mac_of(card: "Card", owner: Owner, vm_name: str, index: int) -> str:
    """Return the address of *card*, which is card *index* of the VM *vm_name* of *owner*."""
    return card.mac.lower() if card.mac and has_own_mac(card) else derive_mac(owner, vm_name, index)


def has_own_mac(card: "Card") -> bool:
    """Say whether the description names the address of *card*."""
    return card.mac is not None and card.mac != NO_MAC


def names_all(machine: "Machine") -> bool:
    """Say whether the description names everything that would be made here."""
    return named_uuid(machine) is not None and all(map(has_own_mac, machine.cards))


def derive_mac(owner: Owner, vm_name: str, index: int) -> str:
    """Return the address of card *index* of a VM that names none.

    It is one for a single station (bit 0 of the first byte is clear) and locally administered
    (bit 1 is set), IEEE 802 clause 8.
    """
    of_vm = f"{owner.uid}\0{index}\0{vm_name}".encode()
    digest = sha256(owner.host.bytes + of_vm)
    octets = bytes([digest[0] & 0xFC | 0x02]) + digest[1:6]
    return octets.hex(":")


def derive_uuid(owner: Owner, vm_name: str) -> str:
    """Return the UUID of a VM that names none (RFC 9562, version 5)."""
    return str(uuid5(owner.host, f"{owner.uid}/{vm_name}"))
