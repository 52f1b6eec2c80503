# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which bus and address each device gets."""

from dataclasses import replace

import pytest

from bpferry.commandline.buses.placement import SPARE_ROOT_PORTS, Placed, place_devices
from bpferry.commandline.context import Context, Folders
from bpferry.commandline.parts import Device, Slot
from bpferry.domain.model.accelerator import Accelerator
from bpferry.domain.model.base import Address
from tests.client.support import CAPABILITIES, MACHINE, OWNER

Q35 = Context(
    machine=MACHINE,
    capabilities=CAPABILITIES,
    accelerator=Accelerator.TCG,
    plans={},
    owner=OWNER,
    folders=Folders("/run/x", "/state/x"),
    fd=str,
    machine_type="q35",
)
PC = replace(Q35, machine_type="pc")


def express(number: int, address: Address | None = None) -> Device:
    """Return the virtio device *number*."""
    return Device("virtio-rng-pci", f"rng{number}", f"rngs[{number}]", {}, Slot.EXPRESS, address)


def conventional(number: int, preferred: str | None = None) -> Device:
    """Return the sound card *number*."""
    key = f"sounds[{number}]"
    return Device("AC97", f"sound{number}", key, {}, Slot.CONVENTIONAL, None, preferred)


def pci(bus: int, slot: int, function: int = 0) -> Address:
    """Return an address as a document gives it."""
    return Address(type="pci", domain=0, bus=bus, slot=slot, function=function)


def place_of(placed: Placed, device_id: str) -> tuple[object, object]:
    """Return bus and address of a device."""
    found = next(device for device in placed.all if device.id == device_id)
    return found.properties["bus"], found.properties["addr"]


def test_express_device_gets_a_port_of_its_own() -> None:
    """Where there is PCI Express, each device sits behind its own root port."""
    placed = place_devices([express(0), express(1)], Q35)

    assert place_of(placed, "rng0") == ("pci.1", "0x0")
    assert place_of(placed, "rng1") == ("pci.2", "0x0")


@pytest.mark.parametrize("context", [Q35, PC])
def test_address_of_zeros_asks_for_any(context: Context) -> None:
    """It is how libvirt is asked to choose."""
    with_zeros = place_devices([express(0, pci(0, 0)), express(1)], context)

    assert place_devices([express(0), express(1)], context).by_id == {
        name: replace(device, address=None) for name, device in with_zeros.by_id.items()
    }


def test_spare_ports_stay_for_hot_plug() -> None:
    """There are always some empty root ports."""
    placed = place_devices([express(0), express(1)], Q35)

    assert 2 + SPARE_ROOT_PORTS == len(placed.added)


def test_ports_share_a_slot() -> None:
    """Eight root ports are the functions of one slot, of which the first says so."""
    placed = place_devices([express(number) for number in range(9)], Q35)

    ports = [(port.properties["addr"], port.properties["multifunction"]) for port in placed.added]
    assert [("0x1", True), ("0x1.0x1", None)] == ports[:2]
    assert ports[8] == ("0x2", True)


def test_conventional_device_sits_on_the_root_bus() -> None:
    """A device without PCI Express needs no port."""
    placed = place_devices([conventional(0)], Q35)

    assert place_of(placed, "sound0") == ("pcie.0", "0x1")


def test_pc_counts_up() -> None:
    """On a pc, slots are given out in order behind the chipset's own."""
    placed = place_devices([express(0), conventional(0)], PC)

    assert place_of(placed, "rng0") == ("pci.0", "0x2")
    assert place_of(placed, "sound0") == ("pci.0", "0x3")
    assert placed.added == ()


def test_address_of_the_document_is_kept() -> None:
    """A given address is taken, and the others go around it."""
    placed = place_devices([express(0), express(1, pci(0, 2))], PC)

    assert place_of(placed, "rng1") == ("pci.0", "0x2")
    assert place_of(placed, "rng0") == ("pci.0", "0x3")


def test_functions_of_one_slot() -> None:
    """Where a document puts two devices into one slot, function 0 says that there are more."""
    placed = place_devices([express(0, pci(0, 5)), express(1, pci(0, 5, 1))], PC)

    assert place_of(placed, "rng1") == ("pci.0", "0x5.0x1")
    assert placed.by_id["rng0"].properties["multifunction"] is True


def test_preferred_place() -> None:
    """A device that has a usual place takes it, and gives it up for the document's choice."""
    assert place_of(place_devices([conventional(0, "1b")], Q35), "sound0") == ("pcie.0", "0x1b")

    placed = place_devices([conventional(0, "1b"), express(0, pci(0, 0x1B))], Q35)

    assert place_of(placed, "rng0") == ("pcie.0", "0x1b")
    assert place_of(placed, "sound0") == ("pcie.0", "0x1")


def test_missing_bridge_is_added() -> None:
    """A bus number without a controller gets one."""
    placed = place_devices([express(0, pci(2, 3))], PC)

    assert ["pci.1", "pci.2"] == [bridge.id for bridge in placed.added]
    assert place_of(placed, "rng0") == ("pci.2", "0x3")


def test_full_bus_gets_a_bridge() -> None:
    """More devices than slots go behind a bridge that is added for them."""
    placed = place_devices([express(number) for number in range(40)], PC)

    places = [place_of(placed, device.id) for device in placed.all]
    assert len(places) == len(set(places)) == 41
    assert [bridge.driver for bridge in placed.added] == ["pci-bridge"]


@pytest.mark.parametrize(
    ("devices", "words"),
    [
        ([express(0, pci(0, 5)), express(1, pci(0, 5))], "'rng0' has slot 0x5 function 0"),
        ([express(0, pci(0, 1))], "'the chipset' has slot 0x1 function 0"),
        ([express(0, pci(0, 32))], "there is no slot"),
        ([express(0, pci(0, 3, 8))], "there is no slot"),
        ([express(0, pci(256, 3))], "the last PCI bus is 255"),
        ([express(0, Address(type="pci", domain=1, bus=0, slot=3))], "only PCI domain"),
    ],
)
def test_address_that_cannot_be(devices: list[Device], words: str) -> None:
    """An address that nothing has, or that somebody has already, is refused."""
    placed = place_devices(devices, PC)

    (error,) = placed.refusals
    assert words in error.message
    assert error.element == f"{devices[-1].key}.address"
    assert place_of(placed, devices[-1].id)


def test_machine_without_pci() -> None:
    """On a machine without PCI, a PCI device is refused and a virtio-mmio one is not."""
    bare = replace(Q35, machine_type="microvm")
    mmio = replace(express(0), driver="virtio-rng-device")

    assert place_devices([mmio], bare).added == ()
    (error,) = place_devices([express(0)], bare).refusals
    assert express(0).key == error.element


@pytest.mark.parametrize("context", [PC, Q35], ids=["pc", "q35"])
def test_same_devices_same_places(context: Context) -> None:
    """The same devices get the same places each time."""
    devices = [express(0), conventional(0), express(1, pci(0, 9)), express(2)]

    assert place_devices(devices, context) == place_devices(devices, context)
