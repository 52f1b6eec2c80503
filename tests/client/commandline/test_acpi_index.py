# SPDX-License-Identifier: LGPL-2.1-or-later
"""Numbers by which the guest may name its devices."""

from pathlib import Path

import pytest

from bpferry.domain.document import read_bytes
from bpferry.errors import Unsupported
from bpferry.machine.draft import Draft, draft
from tests.client.support import Record

pytestmark = pytest.mark.qemu

DOCUMENT = """\
<domain type='qemu'><name>x</name><memory unit='MiB'>64</memory>
<os><type machine='{machine}'>hvm</type></os><features><acpi/></features>
<devices>{devices}</devices></domain>"""

DISK = (
    "<disk type='file' device='disk'><source file='/x'/><target dev='{}' bus='{}'/>"
    "<acpi index='{}'/></disk>"
)


def drafted(*devices: str, machine: str = "q35") -> Draft:
    """Return what becomes of a document with *devices*."""
    text = DOCUMENT.format(machine=machine, devices="".join(devices))
    return draft(read_bytes(text.encode(), Path("/vm.xml")), Record())


@pytest.mark.parametrize("machine", ["q35", "pc"])
def test_any_device_on_pci_may_have_one(machine: str) -> None:
    """A card, a disk, a controller, a balloon, sound: the number is a property of each."""
    found = drafted(
        "<interface type='user'><model type='e1000'/><acpi index='1'/></interface>",
        DISK.format("vda", "virtio", 2),
        "<controller type='scsi' index='0' model='virtio-scsi'><acpi index='3'/></controller>",
        "<memballoon model='virtio'><acpi index='4'/></memballoon>",
        "<sound model='ich6'><acpi index='5'/></sound>",
        machine=machine,
    )

    assert {
        "e1000": 1,
        "virtio-blk-pci": 2,
        "virtio-scsi-pci": 3,
        "virtio-balloon-pci": 4,
        "intel-hda": 5,
    } == {
        device.driver: device.properties["acpi-index"]
        for device in found.built.devices
        if "acpi-index" in device.properties
    }


@pytest.mark.parametrize(
    ("devices", "element"),
    [
        ((DISK.format("sda", "usb", 1),), "disk"),
        (("<memballoon model='none'><acpi index='1'/></memballoon>",), "memballoon"),
        ((DISK.format("vda", "virtio", 1), DISK.format("vdb", "virtio", 1)), "disk[2]"),
    ],
)
def test_number_that_cannot_be(devices: tuple[str, ...], element: str) -> None:
    """What is not on PCI has none, and no two devices have the same."""
    with pytest.raises(Unsupported) as caught:
        drafted(*devices)

    assert f"/domain/devices/{element}/acpi/@index" == caught.value.element
