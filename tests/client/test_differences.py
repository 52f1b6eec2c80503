# SPDX-License-Identifier: LGPL-2.1-or-later
"""What was plugged into a VM and taken out of it, in words."""

import pytest
from msgspec.structs import replace

from bpferry.domain.model.cards import Card
from bpferry.domain.model.disks import Disk
from bpferry.domain.model.machine import Machine
from bpferry.domain.remaining import extended, without_entry
from bpferry.machine.differences import find_difference

CARD = Card(type="user")
DESCRIBED = Machine(
    name="t",
    memory=2**26,
    cards=(CARD,),
    disks=(Disk(file="/a", target="vda"), Disk(file="/b", target="vdb")),
)
PLUGGED = replace(
    DESCRIBED,
    cards=extended(DESCRIBED.cards, (CARD, CARD)),
    disks=extended(DESCRIBED.disks, (Disk(file="/c", target="vdc"),)),
)


def test_a_vm_as_it_was_started_has_no_difference() -> None:
    """Nor has one whose link is down: that is no other device."""
    assert not any(find_difference(DESCRIBED, DESCRIBED))
    down = replace(DESCRIBED, cards=(replace(CARD, link="down"),))
    assert not any(find_difference(down, DESCRIBED))


def test_what_was_plugged_in_is_named_with_the_commands_that_take_it_out() -> None:
    """By the names that the commands take; the name of the VM is quoted for a shell."""
    found = find_difference(PLUGGED, DESCRIBED)
    assert str(found) == "net1, net2 and vdc were plugged in"
    assert found.way_out("a b", "/vm.toml") == (
        "take out what was plugged in: bpferry detach-nic 'a b' net1; bpferry detach-nic 'a b' "
        "net2; bpferry detach-disk 'a b' vdc; or write that into '/vm.toml', and stop and start "
        "the VM"
    )


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (DESCRIBED, "vda was taken out"),
        (PLUGGED, "net1, net2 and vdc were plugged in, and vda was taken out"),
    ],
)
def test_what_was_taken_out_cannot_be_put_back(machine: Machine, words: str) -> None:
    """A disk that is plugged in again is another device, so only a start helps."""
    now = replace(machine, disks=without_entry(machine.disks, 0))
    found = find_difference(now, DESCRIBED)
    assert str(found) == words
    assert found.way_out("t", "/vm.toml") == (
        "write that into '/vm.toml', and stop and start the VM"
    )
