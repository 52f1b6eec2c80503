# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which devices a running VM has that its description does not have, and the other way round.

Cards and disks can be plugged in and taken out. Such a VM can be neither saved nor moved: a restore
and the other host start what the description says, and QEMU's state fits only the same devices.
"""

import shlex
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bpferry.domain.model.machine import Machine
from bpferry.domain.names import cards_of, listed


class Difference(NamedTuple):
    """What was done to a VM since its start, by the names that its user knows."""

    cards: tuple[str, ...] = ()
    """Plugged in."""
    disks: tuple[str, ...] = ()
    """Plugged in."""
    gone: tuple[str, ...] = ()
    """Taken out: of the devices that the description has."""

    def __str__(self) -> str:
        """Return it as a part of a sentence; empty if there is no difference."""
        plugged = (*self.cards, *self.disks)
        return ", and ".join(
            f"{_listed(names)} {'was' if len(names) == 1 else 'were'} {what}"
            for names, what in ((plugged, "plugged in"), (self.gone, "taken out"))
            if names
        )

    def way_out(self, vm_name: str, file: str) -> str:
        """Return what to do about it."""
        again = f"write that into '{file}', and stop and start the VM"
        if self.gone:
            return again
        commands = "; ".join(self._undo(shlex.quote(vm_name)))
        return f"take out what was plugged in: {commands}; or {again}"

    def _undo(self, vm_name: str) -> Iterator[str]:
        for card in self.cards:
            yield f"bpferry detach-nic {vm_name} {card}"
        for disk in self.disks:
            yield f"bpferry detach-disk {vm_name} {disk}"


def find_difference(now: Machine, described: Machine) -> Difference:
    """Return what *now* has and lacks, compared with the VM as *described*."""
    cards, disks = (_names(now), _names(described)), (_targets(now), _targets(described))
    gone = (there[1][number] for there in (cards, disks) for number in _only(*reversed(there)))
    return Difference(
        tuple(cards[0][number] for number in _only(*cards)),
        tuple(disks[0][number] for number in _only(*disks)),
        tuple(gone),
    )


def _names(machine: Machine) -> dict[int, str]:
    return {device.number: device.id for device in cards_of(machine)}


def _targets(machine: Machine) -> dict[int, str]:
    return {device.number: device.value.target for device in listed(machine.disks, "disks")}


def _only(here: dict[int, str], there: dict[int, str]) -> list[int]:
    return sorted(here.keys() - there.keys())


def _listed(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
