# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which bus and address each device gets, by whatever rules."""

import msgspec
import pytest
from msgspec.structs import replace

from bpferry.commandline.buses.placement import place_devices
from bpferry.commandline.context import Context
from bpferry.commandline.parts import Device
from bpferry.domain.model.base import Address
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

BOTH = {
    "pc": PC, "q35": Q35, "virt": VIRT,
    "pc-libvirt": as_libvirt(PC), "q35-libvirt": as_libvirt(Q35),
    "virt-libvirt": as_libvirt(VIRT),
}  # fmt: skip
BY_RULES = pytest.mark.parametrize("context", BOTH.values(), ids=BOTH)


@BY_RULES
def test_address_of_the_document_is_kept(context: Context) -> None:
    """A given address is taken, and the others go around it."""
    alone = placed([virtio("rngs")], context)["rngs0"]
    bus, slot = alone.split()
    taken = pci(int(bus.partition(".")[2]), int(slot, 16))

    found = placed([virtio("rngs"), virtio("cards", 0, taken)], context)

    assert alone == found["cards0"]
    assert alone != found["rngs0"]


@BY_RULES
def test_address_of_zeros_asks_for_any(context: Context) -> None:
    """It is how libvirt is asked to choose."""
    found = placed([virtio("rngs", 0, pci(0, 0)), virtio("rngs", 1)], context)

    assert placed([virtio("rngs"), virtio("rngs", 1)], context) == found


@BY_RULES
def test_same_devices_same_places(context: Context) -> None:
    """The same devices get the same places each time."""
    devices = [virtio("rngs"), old("sounds"), virtio("rngs", 1, pci(0, 9)), virtio("rngs", 2)]

    assert place_devices(devices, context) == place_devices(devices, context)


@BY_RULES
def test_no_place_is_given_twice(context: Context) -> None:
    """However many devices there are."""
    found = placed([virtio("rngs", number) for number in range(29)], context)

    assert len(found) == len(set(found.values())) >= 29


@BY_RULES
def test_functions_of_one_slot(context: Context) -> None:
    """Where a document puts two devices into one slot, function 0 says that there are more."""
    devices = [virtio("rngs", 0, pci(0, 0x14)), virtio("rngs", 1, pci(0, 0x14, 1))]

    result = place_devices(devices, context)

    assert "0x14.0x1" == result.by_id["rngs1"].properties["addr"]
    assert result.by_id["rngs0"].properties["multifunction"] is True
    assert result.by_id["rngs1"].properties["multifunction"] is None


@BY_RULES
@pytest.mark.parametrize(
    ("devices", "words"),
    [
        ([virtio("rngs", 0, pci(0, 5)), virtio("rngs", 1, pci(0, 5))], "'rngs0' has slot 0x5"),
        ([virtio("rngs", 0, pci(0, 32))], "there is no slot"),
        ([virtio("rngs", 0, pci(0, 3, 8))], "there is no slot"),
        ([virtio("rngs", 0, pci(256, 3))], "the last PCI bus is 255"),
        ([virtio("rngs", 0, Address(type="pci", domain=1, bus=0, slot=3))], "only PCI domain"),
    ],
)
def test_address_that_cannot_be(context: Context, devices: list[Device], words: str) -> None:
    """An address that nothing has, or that somebody has already, is refused, for another one."""
    ((key, message),) = refused(devices, context).items()

    assert f"{devices[-1].key}.address" == key
    assert words in message
    assert {device.id for device in devices} <= set(placed(devices, context))


@pytest.mark.parametrize("context", [PC, as_libvirt(PC)])
def test_place_of_the_chipset_is_taken(context: Context) -> None:
    """What the machine has itself is in nobody's list, and has its places all the same."""
    (message,) = refused([virtio("rngs", 0, pci(0, 1))], context).values()

    assert "'the chipset' has slot 0x1 function 0 of the bus 'pci.0'" == message


def test_machine_without_pci() -> None:
    """On a machine without PCI, a PCI device is refused and a virtio-mmio one is not."""
    bare = replace(Q35, machine_type="microvm")
    mmio = msgspec.structs.replace(virtio("rngs"), driver="virtio-rng-device")

    assert place_devices([mmio], bare).bridges == ()
    assert ["rngs[0]"] == list(refused([virtio("rngs")], bare))
    assert {} == place_devices([virtio("rngs")], bare).by_id


@BY_RULES
def test_address_without_pci_is_refused(context: Context) -> None:
    """Where there is PCI, virtio devices are on it."""
    device = virtio("rngs", 0, Address(type="virtio-mmio"))

    ((key, message),) = refused([device], context).items()

    assert "rngs[0].address.type" == key
    assert message.endswith("has PCI, and puts its devices there")


@BY_RULES
def test_bridges_come_after_what_they_are_on(context: Context) -> None:
    """QEMU makes devices in the order of its command line, and needs the bus to be there."""
    if not context.has_pci_express:
        devices = [controller("pci-bridge", 1), controller("pci-bridge", 2, pci(1, 3))]
    else:
        devices = [
            controller("pcie-pci-bridge", 1),
            controller("pcie-root-port", 2),
            controller("pci-bridge", 3, pci(1, 4)),
            controller("x3130-upstream", 4),
            controller("xio3130-downstream", 5),
        ]
    seen = {"pcie.0", "pci.0"}

    for bridge in place_devices(devices, context).bridges:
        assert bridge.properties["bus"] in seen
        seen.add(bridge.id)


@pytest.mark.parametrize("context", [PC, as_libvirt(PC)])
def test_circle_of_bridges_is_refused(context: Context) -> None:
    """Each behind the other cannot be."""
    devices = [
        controller("pci-bridge", 1, pci(2, 3)),
        controller("pci-bridge", 2, pci(1, 3)),
    ]
    assert {"controllers[2].address": "its bus is behind it"} == refused(devices, context)


@BY_RULES
def test_bridge_that_is_refused_takes_its_bus_along(context: Context) -> None:
    """What the document has on that bus goes somewhere else, if the VM starts without it."""
    devices = [controller("xio3130-downstream", 3), virtio("cards", 0, pci(3, 0))]

    result = place_devices(devices, context)

    assert "controllers[3]" in {error.element for error in result.refusals}
    assert result.by_id["cards0"].properties["bus"] in {"pci.0", *(b.id for b in result.bridges)}


@BY_RULES
def test_numbers_of_ports_follow_from_their_places(context: Context) -> None:
    """The guest sees them; a number of the document stays what it is."""
    if not context.has_pci_express:
        return
    port = msgspec.structs.replace(
        controller("pcie-root-port", 1, pci(0, 0x1E, 2)), properties={"port": 7}
    )
    devices = [controller("pcie-root-port", 2, pci(0, 0x1E)), port]
    found = {bridge.id: bridge for bridge in place_devices(devices, context).bridges}

    assert (0x1E << 3, 7) == tuple(found[name].properties["port"] for name in ("pci.2", "pci.1"))
