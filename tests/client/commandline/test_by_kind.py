# SPDX-License-Identifier: LGPL-2.1-or-later
"""Places on PCI by kind, as a VM in the native form has them."""

import msgspec
import pytest
from msgspec.structs import replace

from bpferry.commandline.buses.homes import WITH_EXPRESS, WITHOUT_EXPRESS
from bpferry.commandline.buses.placement import place_devices
from bpferry.commandline.buses.virtio_ports import virtio_places
from bpferry.commandline.context import Context
from bpferry.commandline.parts import Device, Slot
from bpferry.domain.model.characters import Channel, Console
from bpferry.domain.model.controllers import Controller
from tests.client.commandline.placing import (
    PC,
    Q35,
    VIRT,
    controller,
    guest_places,
    old,
    pci,
    placed,
    refused,
    virtio,
)


def cards(count: int) -> list[Device]:
    """Return as many virtio cards."""
    return [virtio("cards", number) for number in range(count)]


def disks(count: int) -> list[Device]:
    """Return as many virtio disks."""
    return [virtio("disks", number) for number in range(count)]


def test_first_level_is_always_there() -> None:
    """Three ports for cards, three for disks, two for the host's devices are one slot."""
    result = place_devices([*cards(2), *disks(1), virtio("host-devices")], Q35)

    assert ["0x2", *(f"0x2.{number:#x}" for number in range(1, 8))] == [
        port.properties["addr"] for port in result.bridges
    ]
    assert [True, *[None] * 7] == [port.properties["multifunction"] for port in result.bridges]
    assert ["pci.1", "pci.2", "pci.4", "pci.7"] == [
        result.by_id[name].properties["bus"]
        for name in ("cards0", "cards1", "disks0", "host-devices0")
    ]


@pytest.mark.parametrize("context", [Q35, VIRT], ids=["q35", "virt"])
def test_numbers_of_buses_are_the_guests(context: Context) -> None:
    """The bus that a document calls 9 is bus 9 in the guest too."""
    result = place_devices([*cards(4), *disks(7)], context)

    found = guest_places(result.all)
    assert all(
        found[device.id][0] == int(str(device.properties["bus"]).partition(".")[2])
        for device in result.all
    )
    assert ((9, 0, 0), (20, 0, 0)) == (found["cards3"], found["disks6"])


def test_levels_of_a_pc() -> None:
    """The first is on the root bus, further ones are behind a bridge each."""
    found = placed([*cards(16), *disks(4), virtio("host-devices")], PC)

    assert ("pci.0 0x3", "pci.0 0x5", "pci.1 0x1", "pci.2 0x1") == tuple(
        found[f"cards{number}"] for number in (0, 2, 3, 15)
    )
    assert ("pci.0 0x6", "pci.1 0xd") == (found["disks0"], found["disks3"])
    assert "pci.0 0x9" == found["host-devices0"]
    assert ("pci.0 0x1e", "pci.0 0x1f") == (found["pci.1"], found["pci.2"])


def test_one_port_stays_free() -> None:
    """For what is plugged in later there is another level at the last."""
    host = [virtio("host-devices", number) for number in range(2)]

    assert 8 == len(place_devices([*cards(3), *disks(3)], Q35).bridges)
    assert 16 == len(place_devices([*cards(3), *disks(3), *host], Q35).bridges)


def test_other_kinds_are_functions_of_a_slot() -> None:
    """Each kind has its own."""
    devices = [virtio("rngs", 0), virtio("rngs", 1), virtio("balloon"), old("sounds")]

    found = placed(devices, Q35)

    assert ("pcie.0 0x11", "pcie.0 0x11.0x1") == (found["rngs0"], found["rngs1"])
    assert ("pcie.0 0x10", "pcie.0 0x1b") == (found["balloon0"], found["sounds0"])


def test_kinds_have_different_slots() -> None:
    """No two kinds share one, and none has one of the chipset."""
    for slots in (WITH_EXPRESS, WITHOUT_EXPRESS):
        assert len(slots) == len(set(slots.values()))
        assert not {0, 0x1F} & set(slots.values())


def test_controllers_go_by_index() -> None:
    """Each type is a kind, and the index is the number in it."""
    controllers = (
        Controller(type="scsi", index=1),
        Controller(type="scsi", index=0),
        Controller(type="virtio-serial", index=0),
    )
    machine = msgspec.structs.replace(Q35.machine, controllers=controllers)
    devices = [virtio("controllers", number) for number in range(3)]

    found = placed(devices, replace(Q35, machine=machine))

    assert ("pcie.0 0xc.0x1", "pcie.0 0xc", "pcie.0 0xe") == tuple(
        found[f"controllers{number}"] for number in range(3)
    )


def test_first_function_is_always_there() -> None:
    """A guest does not look for the others without it."""
    found = placed([virtio("rngs", 0, pci(0, 0xA)), virtio("rngs", 1), virtio("rngs", 2)], Q35)

    assert ("pcie.0 0x11", "pcie.0 0x11.0x2") == (found["rngs1"], found["rngs2"])


def test_conventional_card_always_says_that_there_are_more() -> None:
    """A guest calls it enp0s8f0 then, and would call it enp0s8 if it were alone."""
    alone = place_devices([old("cards")], Q35).by_id["cards0"]

    assert ("0x8", True) == (alone.properties["addr"], alone.properties["multifunction"])


def test_address_moves_no_other() -> None:
    """What gets an address leaves a free place behind."""
    before = placed([*cards(3), *disks(2)], Q35)
    after = placed([virtio("cards", 0, pci(8, 0)), *cards(3)[1:], *disks(2)], Q35)

    assert "pci.8 0x0" == after.pop("cards0") != before.pop("cards0")
    assert before == after


def test_place_that_is_taken() -> None:
    """Another is found: a free port, or a slot that belongs to nobody."""
    devices = [virtio("rngs", 0, pci(1, 0)), *cards(1), virtio("cards", 1, pci(0, 0x10))]

    found = placed([*devices, virtio("balloon")], Q35)

    assert ("pci.8 0x0", "pcie.0 0xa") == (found["cards0"], found["balloon0"])


def test_bus_that_is_named_brings_its_level() -> None:
    """With all before it."""
    assert 16 == len(place_devices([virtio("rngs", 0, pci(9, 0))], Q35).bridges)
    assert 2 == len(place_devices([virtio("rngs", 0, pci(2, 3))], PC).bridges)


def test_bridges_of_the_document_come_last() -> None:
    """The buses of cards and disks keep their numbers."""
    before = guest_places(place_devices([*cards(2), *disks(2)], Q35).all)
    own = [
        controller("pcie-root-port", 1),
        controller("pcie-pci-bridge", 2),
        controller("pci-bridge", 3),
        controller("pxb-pcie", 4),
    ]
    after = guest_places(place_devices([*own, *cards(2), *disks(2)], Q35).all)

    ids = [f"{family}{number}" for family in ("cards", "disks") for number in range(2)]
    assert [before[name] for name in ids] == [after[name] for name in ids]


def test_switch_without_a_port_of_its_own() -> None:
    """It has the last of ours."""
    found = placed([controller("x3130-upstream", 9), *cards(1)], Q35)

    assert "pci.8 0x0" == found["pci.9"]


def test_more_than_a_kind_has_places() -> None:
    """The others go where nobody is."""
    found = placed([virtio("rngs", number) for number in range(10)], Q35)

    assert ("pcie.0 0xa", "pcie.0 0x1e") == (found["rngs8"], found["rngs9"])


def test_full_root_of_a_pc() -> None:
    """What has no slot left is behind a bridge."""
    found = placed([virtio("rngs", number) for number in range(40)], PC)

    assert 41 == len(set(found.values()))
    assert "pci.1 0x1f" in found.values()


def test_full_root_of_pci_express() -> None:
    """There, what has no slot left is refused."""
    found = refused([virtio("rngs", number) for number in range(40)], Q35)

    assert "there is no free PCI slot left for it" == found["rngs[39]"]


@pytest.mark.parametrize("context", [PC, Q35], ids=["pc", "q35"])
def test_bus_that_cannot_be(context: Context) -> None:
    """There is not room for all bridges or ports up to it."""
    devices = [*(virtio("rngs", number) for number in range(20)), virtio("vsock", 0, pci(250, 1))]

    assert ["vsock[0].address.bus"] == list(refused(devices, context))


def test_no_room_for_a_level() -> None:
    """A document can have all slots of the root bus for other things."""
    devices = [old("sounds", slot, pci(0, slot)) for slot in range(1, 0x1F)]

    found = refused([*devices, *cards(1), virtio("rngs", 0, pci(3, 0))], Q35)

    assert {"cards[0]", "rngs[0]", "rngs[0].address.bus"} == set(found)


def test_bridge_without_room() -> None:
    """A bridge that nothing can be plugged into is refused."""
    found = refused([controller("xio3130-downstream", 20)], Q35)

    assert {"controllers[20]": "there is no PCI bus with room for it"} == found


def test_virtio_on_the_root_bus_is_as_behind_a_port() -> None:
    """QEMU would give it the old protocol too, and another device id with it."""
    found = place_devices([virtio("rngs"), *cards(1)], Q35).by_id

    assert "on" == found["rngs0"].properties["disable-legacy"]
    assert "disable-legacy" not in found["cards0"].properties
    assert "disable-legacy" not in place_devices([virtio("rngs")], PC).by_id["rngs0"].properties


def test_translation_service_needs_a_port() -> None:
    """QEMU would leave it out without a word."""
    device = msgspec.structs.replace(virtio("rngs"), properties={"ats": True})
    assert ["rngs[0].ats"] == list(refused([device], Q35))
    assert place_devices([device], Q35).by_id["rngs0"].properties["ats"] is None
    assert (
        "pci.8"
        == place_devices([msgspec.structs.replace(device, address=pci(8, 0))], Q35)
        .by_id["rngs0"]
        .properties["bus"]
    )


def usb2(name: str, number: int, index: int, function: int) -> Device:
    """Return a part of USB 2."""
    return Device(
        f"ich9-usb-{name}", f"{name}{index}", f"controllers[{number}]", {}, Slot.CONVENTIONAL,
        group=f"usb{index}", function=function,
    )  # fmt: skip


def test_usb_groups() -> None:
    """The first has Intel's slot, and another one that is free."""
    controllers = tuple(
        Controller(type="usb", index=number // 2, first_port=number % 2 or None)
        for number in range(4)
    )
    machine = msgspec.structs.replace(Q35.machine, controllers=controllers)
    devices = [
        usb2("ehci1", 0, 0, 7), usb2("uhci1", 1, 0, 0), usb2("ehci1", 2, 1, 7),
        usb2("uhci1", 3, 1, 0),
    ]  # fmt: skip
    found = placed(devices, replace(Q35, machine=machine))

    assert ("pcie.0 0x1d.0x7", "pcie.0 0x1d") == (found["ehci10"], found["uhci10"])
    assert ("pcie.0 0xa.0x7", "pcie.0 0xa") == (found["ehci11"], found["uhci11"])


def test_controller_of_the_piix3() -> None:
    """It is a function of the chipset, as the hardware has it."""
    machine = msgspec.structs.replace(PC.machine, controllers=(Controller(type="usb", index=0),))
    device = msgspec.structs.replace(old("controllers"), usual=("1.2",))

    assert {"controllers0": "pci.0 0x1.0x2"} == placed([device], replace(PC, machine=machine))


def test_consoles_count_down() -> None:
    """So that another one moves no channel; the first has the port that is for consoles alone."""
    machine = msgspec.structs.replace(
        Q35.machine,
        consoles=tuple(Console(type="null", target="virtio") for _ in range(3)),
        channels=tuple(Channel(type="null", target="virtio", name=name) for name in "ab"),
    )

    found = {key: place.number for key, place in virtio_places(machine).items()}

    expected = {"consoles[0]": 0, "consoles[1]": 30, "consoles[2]": 29}
    assert {**expected, "channels[0]": 1, "channels[1]": 2} == found
