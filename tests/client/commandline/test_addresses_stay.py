# SPDX-License-Identifier: LGPL-2.1-or-later
"""A device keeps its address when a VM in the native form gets another one.

The guest makes the names of its interfaces from bus and slot, and the bus is a number that
firmware gives; so that is what is compared.
"""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from bpferry.domain.document import read_bytes
from bpferry.machine.draft import draft
from tests.client.commandline.native_vms import Vm, additions, more, text_of, vms
from tests.client.commandline.placing import guest_places
from tests.client.support import Record

Places = dict[str, tuple[object, ...]]

pytestmark = pytest.mark.qemu


def places_of(vm: Vm, machine: str) -> Places:
    """Return where the guest sees each device of *vm* but bridges, by its id."""
    document = read_bytes(text_of(vm, machine).encode(), Path("/vms/vm.toml"))
    devices = draft(document, Record()).built.devices
    on_pci = guest_places(devices)
    ports: Places = {
        device.id: (device.properties["bus"], device.properties["nr"])
        for device in devices
        if "nr" in device.properties
    }
    return ports | {name: at for name, at in on_pci.items() if not name.startswith("pci.")}


@pytest.mark.parametrize("machine", ["q35", "pc"])
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=100)
@given(vm=vms(), addition=additions())
def test_another_device_moves_none(machine: str, vm: Vm, addition: tuple[str, str]) -> None:
    """Whichever kind it is of, if it is the last of its list; and so when it is taken out again."""
    before, after = places_of(vm, machine), places_of(more(vm, addition), machine)

    assert before == {name: after[name] for name in before}


@pytest.mark.parametrize("machine", ["q35", "pc"])
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=50)
@given(vm=vms())
def test_no_two_devices_share_a_place(machine: str, vm: Vm) -> None:
    """And where there is a function, there is the first function of its slot."""
    found = places_of(vm, machine)

    places = set(found.values())
    assert len(found) == len(places)
    chipset = {(0, 1, 0)} if machine == "pc" else {(0, 0x1F, 0)}
    on_pci = {place for place in places if len(place) == 3}
    assert {(bus, slot, 0) for bus, slot, _ in on_pci} <= places | chipset
