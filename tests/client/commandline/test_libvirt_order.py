# SPDX-License-Identifier: LGPL-2.1-or-later
"""Places on PCI in libvirt's order, from which guests that move here have the names of cards."""

import msgspec
import pytest
from msgspec.structs import replace

from bpferry.commandline.buses.libvirt_order import ORDER, ORDER_OF_GIVEN
from bpferry.commandline.buses.placement import place_devices
from bpferry.commandline.context import Context
from bpferry.commandline.parts import Device, Slot
from bpferry.domain.model.base import Address
from bpferry.domain.model.controllers import Controller
from bpferry.domain.model.machine import Machine
from tests.client.commandline.placing import (
    PC,
    Q35,
    VIRT,
    as_libvirt,
    controller,
    old,
    pci,
    placed,
    refused,
    virtio,
)

LIBVIRT_PC, LIBVIRT_Q35, LIBVIRT_VIRT = as_libvirt(PC), as_libvirt(Q35), as_libvirt(VIRT)


def video(address: str) -> Device:
    """Return the card that the firmware draws on, which is usually at *address*."""
    return msgspec.structs.replace(old("videos"), usual=(address,))


def test_cards_come_before_disks() -> None:
    """It does not matter in which order the command line has them."""
    context = as_libvirt(Q35, disks=("vda", "vdb"))
    devices = [virtio("disks", 0), virtio("disks", 1), virtio("cards", 0), virtio("filesystems")]

    found = placed(devices, context)

    assert ("pci.1 0x0", "pci.2 0x0", "pci.3 0x0", "pci.4 0x0") == tuple(
        found[name] for name in ("filesystems0", "cards0", "disks0", "disks1")
    )


@pytest.mark.parametrize("context", [PC, Q35, VIRT], ids=["pc", "q35", "virt"])
@pytest.mark.parametrize("family", ["disks", "rngs", "vsock", "watchdogs", "controllers"])
def test_what_comes_later_moves_no_card(context: Context, family: str) -> None:
    """A guest's interfaces keep their names when it gets another disk."""
    here = as_libvirt(
        context,
        disks=("vda", "vdb"),
        controllers=(Controller(type="scsi", index=0), Controller(type="scsi", index=1)),
    )
    devices = [virtio("cards", 0), virtio("cards", 1), virtio(family, 0)]

    before, after = placed(devices, here), placed([*devices, virtio(family, 1)], here)

    assert [before["cards0"], before["cards1"]] == [after["cards0"], after["cards1"]]


def test_disks_go_by_their_targets() -> None:
    """They are sorted when the document is read, and vdb follows vda."""
    context = as_libvirt(Q35, disks=("vdb", "vda"))

    found = placed([virtio("disks", 0), virtio("disks", 1)], context)

    assert ("pci.2 0x0", "pci.1 0x0") == (found["disks0"], found["disks1"])


def test_controllers_go_by_type_and_index() -> None:
    """Those of a type are together, where the first of it is."""
    controllers = (
        Controller(type="scsi", index=1),
        Controller(type="virtio-serial", index=0),
        Controller(type="scsi", index=0),
    )
    devices = [virtio("controllers", number) for number in range(3)]

    found = placed(devices, as_libvirt(Q35, controllers=controllers))

    expected = ["pci.2 0x0", "pci.3 0x0", "pci.1 0x0"]
    assert expected == [found[f"controllers{number}"] for number in range(3)]


def test_one_port_stays_free() -> None:
    """It is for what is plugged in, if the document leaves the ports to us."""
    found = placed([virtio("cards")], LIBVIRT_Q35)

    assert {"pci.1": "pcie.0 0x1", "pci.2": "pcie.0 0x1.0x1", "cards0": "pci.1 0x0"} == found


def test_ports_of_the_document_are_enough() -> None:
    """Then none is added, and none is kept free."""
    found = placed([controller("pcie-root-port", 1), virtio("cards")], LIBVIRT_Q35)

    assert {"pci.1": "pcie.0 0x1", "cards0": "pci.1 0x0"} == found


def test_empty_root_needs_no_port() -> None:
    """Nothing that needs a port brings none along."""
    assert {"videos0": "pcie.0 0x1"} == placed([video("1")], LIBVIRT_Q35)


def test_ports_share_slots() -> None:
    """Eight root ports are the functions of one slot, of which the first says so."""
    devices = [video("1"), *(virtio("rngs", number) for number in range(8))]

    ports = place_devices(devices, LIBVIRT_Q35).bridges

    assert [("0x2", True), ("0x2.0x1", None)] == [
        (port.properties["addr"], port.properties["multifunction"]) for port in ports[:2]
    ]
    assert "0x3" == ports[8].properties["addr"]
    assert (2 << 3 | 1, 2) == tuple(ports[1].properties[name] for name in ("port", "chassis"))


def test_conventional_device_brings_a_bridge() -> None:
    """The bridge has the first port, since ports and bridges are placed before all else."""
    found = placed([virtio("cards"), old("cards", 1), old("sounds")], LIBVIRT_Q35)

    assert ("pci.1 0x0", "pci.2 0x0") == (found["pci.3"], found["cards0"])
    assert ("pci.3 0x1", "pci.3 0x2") == (found["cards1"], found["sounds0"])


def test_qemu_without_that_bridge() -> None:
    """An older one stands in for it, with another bridge behind it that can be plugged into."""
    known = msgspec.structs.replace(Q35.capabilities, devices={})

    result = place_devices([old("sounds")], replace(LIBVIRT_Q35, capabilities=known))

    assert ["i82801b11-bridge", "pci-bridge"] == [one.driver for one in result.bridges[:2]]
    assert "pci.2" == result.by_id["sounds0"].properties["bus"]


def test_pc_counts_up() -> None:
    """Behind the chipset and the graphics card."""
    devices = [old("sounds"), virtio("balloon"), virtio("cards"), video("2")]

    found = placed(devices, LIBVIRT_PC)

    expected = {"videos0": "pci.0 0x2", "cards0": "pci.0 0x3", "sounds0": "pci.0 0x4"}
    assert {**expected, "balloon0": "pci.0 0x5"} == found


def test_full_bus_gets_a_bridge() -> None:
    """The bridge comes first, so that it is on the root bus; one slot stays free for one."""
    found = placed([virtio("rngs", number) for number in range(29)], LIBVIRT_PC)
    more = placed([virtio("rngs", number) for number in range(30)], LIBVIRT_PC)

    assert "pci.1" not in found
    assert ("pci.0 0x2", "pci.0 0x3") == (more["pci.1"], more["rngs0"])
    assert "pci.1 0x1" == more["rngs29"]


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (virtio("rngs", 0, pci(5, 0)), ["pcie-root-port"] * 5),
        (old("sounds", 0, pci(3, 1)), ["pcie-root-port", "pcie-pci-bridge", "pci-bridge"]),
    ],
)
def test_bus_without_a_controller(device: Device, expected: list[str]) -> None:
    """It is there if a device is on it, and what it is depends on the device."""
    bridges = place_devices([device], LIBVIRT_Q35).bridges

    assert expected == [bridge.driver for bridge in bridges[: len(expected)]]


def test_bus_alone_is_an_address() -> None:
    """Its slot is 0 then."""
    found = placed([virtio("rngs", 0, Address(type="pci", bus=5)), virtio("cards")], LIBVIRT_Q35)

    assert ("pci.5 0x0", "pci.1 0x0") == (found["rngs0"], found["cards0"])


def test_first_conventional_bus_is_one_further() -> None:
    """A device cannot be on a port's bus, so that it goes behind the bridge on that port."""
    found = placed([old("sounds", 0, pci(1, 4))], LIBVIRT_Q35)

    assert {"sounds0": "pci.2 0x4", "pci.2": "pci.1 0x0"} == {
        name: found[name] for name in ("sounds0", "pci.2")
    }


def test_gap_between_controllers_is_filled() -> None:
    """With a port or bridge for each bus number."""
    found = placed([controller("pci-bridge", 2)], LIBVIRT_PC)

    assert {"pci.1": "pci.0 0x2", "pci.2": "pci.0 0x3"} == found


def test_usual_place_is_given_up() -> None:
    """For the document's choice; then the graphics card comes first of all others."""
    found = placed([virtio("rngs", 0, pci(0, 2)), virtio("cards"), video("2")], LIBVIRT_PC)

    assert ("pci.0 0x3", "pci.0 0x4") == (found["videos0"], found["cards0"])


def group(index: int, usual: tuple[str, ...] = ()) -> list[Device]:
    """Return USB 2 with a companion, as a document's controllers 0 and 1 of that index."""
    first = 2 * index
    return [
        Device("ich9-usb-ehci1", f"ehci{index}", f"controllers[{first}]", {}, Slot.CONVENTIONAL,
               group=f"usb{index}", function=7),
        Device("ich9-usb-uhci1", f"uhci{index}", f"controllers[{first + 1}]", {},
               Slot.CONVENTIONAL, usual=usual, group=f"usb{index}"),
    ]  # fmt: skip


USB2 = tuple(
    Controller(type="usb", index=index, model=model, first_port=port)
    for index in range(2)
    for model, port in (("ich9-ehci1", None), ("ich9-uhci1", 0))
)


def test_usb_group_shares_a_slot() -> None:
    """The first finds a slot, and the others are its functions."""
    found = placed([*group(0), virtio("cards")], as_libvirt(PC, controllers=USB2))

    assert {"cards0": "pci.0 0x2", "ehci0": "pci.0 0x3.0x7", "uhci0": "pci.0 0x3"} == found


def test_usb_groups_are_where_intel_has_them() -> None:
    """On q35, the first two have slots of their own."""
    usual = ("1d", "1a")
    context = as_libvirt(Q35, controllers=USB2)

    found = placed([*group(0, usual), *group(1, usual)], context)

    expected = {"uhci0": "pcie.0 0x1d", "ehci0": "pcie.0 0x1d.0x7"}
    assert {**expected, "uhci1": "pcie.0 0x1a", "ehci1": "pcie.0 0x1a.0x7"} == found


def test_switch_finds_its_port() -> None:
    """A switch goes behind the first port that nothing is behind, its own ports behind it."""
    devices = [
        controller("pcie-root-port", 1),
        controller("pcie-root-port", 2),
        controller("x3130-upstream", 3),
        controller("xio3130-downstream", 4),
        virtio("cards", 0, pci(1, 0)),
    ]
    found = placed(devices, LIBVIRT_Q35)

    assert ("pci.2 0x0", "pci.3 0x0") == (found["pci.3"], found["pci.4"])


@pytest.mark.parametrize("driver", ["pcie-pci-bridge", "x3130-upstream"])
def test_bridge_without_a_port_brings_one(driver: str) -> None:
    """Its own number is lower, so that it comes after the port all the same."""
    found = placed([controller(driver, 1)], LIBVIRT_Q35)

    assert {"pci.2": "pcie.0 0x1", "pci.1": "pci.2 0x0"} == found


def test_integrated_device_is_on_the_root_bus() -> None:
    """Whatever else that bus is not for."""
    device = msgspec.structs.replace(old("panics"), slot=Slot.INTEGRATED)

    assert {"panics0": "pcie.0 0x1"} == placed([device], LIBVIRT_VIRT)


@pytest.mark.parametrize(
    "devices",
    [
        [controller("pci-bridge", 1)],
        [controller("xio3130-downstream", 1)],
        [
            msgspec.structs.replace(old("panics", number), slot=Slot.INTEGRATED)
            for number in range(32)
        ],
    ],
)
def test_no_room(devices: list[Device]) -> None:
    """What no bus takes, and for which none can be added, is refused."""
    assert "there is no free PCI slot left for it" == refused(devices, LIBVIRT_Q35)[devices[-1].key]


def test_bus_that_cannot_be_added() -> None:
    """A root port is on the root bus; no bus is added for one."""
    found = refused([controller("pcie-root-port", 4, pci(6, 0))], LIBVIRT_Q35)

    assert ["controllers[4].address.bus"] == list(found)


def test_every_family_has_its_turn() -> None:
    """A family that is not in the order comes last, and that is not an accident."""
    elsewhere = {"hubs", "smart-cards", "redirected-devices", "tpms", "consoles", "channels"}
    plain = {"parallels", "audios", "redirection-rules", "acpi-tables", "firmware-features"}
    lists = {name.replace("_", "-") for name in Machine.__struct_fields__} - elsewhere - plain

    assert set(ORDER) <= lists
    assert set(ORDER_OF_GIVEN) | {"graphics"} == set(ORDER)
