# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a document means without saying it."""

import pytest

from bpferry.commandline.context import Context, Folders
from bpferry.domain.model.accelerator import Accelerator
from bpferry.domain.model.machine import Machine
from bpferry.errors import Unsupported
from tests.client.commandline.disk_parts import QEMU, read
from tests.client.commandline.sound import completed
from tests.client.support import OWNER

Found = list[tuple[str, int | None, str | None]]


def machine_of(devices: str, family: str) -> Machine:
    """Return the machine of a document with what its devices need."""
    bare = Context(
        machine=read(devices),
        capabilities=QEMU,
        accelerator=Accelerator.TCG,
        plans={},
        owner=OWNER,
        folders=Folders(runtime="/run/vm", state="/state/vm"),
        fd=str,
        machine_type=family,
    )
    return completed(bare).machine


def controllers(devices: str, family: str = "q35") -> Found:
    """Return the controllers of a document, with those that it does not name."""
    machine = machine_of(devices, family)
    return [(one.type, one.index, one.model) for one in machine.controllers]


USB = ("usb", 0, "qemu-xhci")

MACHINES = [
    ("q35", [USB]),
    ("pc", [("usb", 0, "piix3-uhci")]),
    ("virt", []),
    ("isapc", []),
    ("microvm", []),
]


@pytest.mark.parametrize(("family", "expected"), MACHINES)
def test_usb_controller(family: str, expected: Found) -> None:
    """PCs have a USB controller, as under libvirt."""
    assert expected == controllers("", family)


def test_no_usb_controller() -> None:
    """A document can say that there is none."""
    assert [("usb", 0, "none")] == controllers("<controller type='usb' model='none'/>")


def test_usb_device_without_usb_is_refused() -> None:
    """Then nothing can be on it."""
    devices = "<controller type='usb' model='none'/><input type='tablet' bus='usb'/>"
    with pytest.raises(Unsupported) as caught:
        machine_of(devices, "q35")

    assert "inputs[0]" == caught.value.element


def test_usb_device_brings_a_controller() -> None:
    """On a machine that has none, a USB device brings one with it."""
    assert [USB] == controllers("<input type='tablet' bus='usb'/>", "virt")


def target(name: str, bus: str) -> str:
    """Return a disk by its target."""
    return f"<disk type='file'><source file='/a'/><target dev='{name}' bus='{bus}'/></disk>"


NEEDED = [
    (target("sdh", "scsi"), [("scsi", 0, None), ("scsi", 1, None)]),
    (target("sda", "sata"), [("sata", 0, None)]),
    (target("vda", "virtio"), []),
    ("<channel type='null'><target type='virtio' name='n'/></channel>",
     [("virtio-serial", 0, None)]),
    ("<console type='null'><target type='virtio'/></console>", [("virtio-serial", 0, None)]),
    ("<smartcard mode='passthrough' type='spicevmc'/>", [("ccid", 0, None)]),
]  # fmt: skip


@pytest.mark.parametrize(("devices", "expected"), NEEDED)
def test_device_brings_its_controllers(devices: str, expected: Found) -> None:
    """Each controller that a place names is there, and those before it."""
    assert [USB, *expected] == controllers(devices)


def test_given_controller_is_not_doubled() -> None:
    """What the document has stays the only one."""
    devices = "<controller type='scsi' model='virtio-scsi'/>" + target("sda", "scsi")

    assert [("scsi", 0, "virtio-scsi"), USB] == controllers(devices)


def test_free_choice_is_virtio_scsi() -> None:
    """Where a description leaves the bus to us and it is SCSI, the controller is virtio's."""
    native = 'machine-type = "virt"\n[[disks]]\ndevice = "cdrom"\nfile = "c.iso"\n'

    assert [("scsi", 0, "virtio-scsi")] == controllers(native, "virt")


def test_indexes_are_the_next_ones() -> None:
    """A controller without an index is the next of its type."""
    devices = (
        "<controller type='scsi'/><controller type='scsi' index='0'/><controller type='scsi'/>"
    )

    assert [1, 0, 2] == [index for kind, index, _ in controllers(devices) if kind == "scsi"]


BALLOONS = [("q35", "virtio"), ("pc", "virtio"), ("virt", None), ("microvm", None)]


@pytest.mark.parametrize(("family", "model"), BALLOONS)
def test_balloon(family: str, model: str | None) -> None:
    """PCs have a balloon unless the document says that there is none."""
    balloon = machine_of("", family).balloon

    assert model == (balloon.model if balloon else None)


def test_no_balloon() -> None:
    """A document can say that there is none."""
    balloon = machine_of("<memballoon model='none'/>", "q35").balloon

    assert balloon is not None
    assert balloon.model == "none"
