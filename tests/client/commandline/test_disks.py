# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disks as the guest sees them: where they sit, what they are called, what they can do."""

import msgspec
import pytest

from bpferry.commandline.parts import Option, Slot
from tests.client.commandline.disk_parts import (
    QEMU,
    device,
    parts_of,
    properties,
)
from tests.client.refusals import refusal_of


def disk(target: str, bus: str, inside: str = "", device: str = "disk") -> str:
    """Return the XML of one disk from a file."""
    return (
        f"<disk type='file' device='{device}'><source file='/a'/>"
        f"<target dev='{target}' bus='{bus}'/>{inside}</disk>"
    )


PLACES = [
    ("pc", "hda", "ide", "ide0-0-0", {"bus": "ide.0", "unit": 0}),
    ("pc", "hdd", "ide", "ide0-1-1", {"bus": "ide.1", "unit": 1}),
    ("q35", "sda", "sata", "sata0-0-0", {"bus": "ide.0"}),
    ("q35", "sdg", "sata", "sata1-0-0", {"bus": "sata1.0"}),
    ("pc", "sdb", "sata", "sata0-0-1", {"bus": "sata0.1"}),
    ("q35", "sda", "scsi", "scsi0-0-0", {"bus": "scsi0.0", "scsi-id": 0}),
    ("q35", "sdi", "scsi", "scsi1-0-1", {"bus": "scsi1.0", "scsi-id": 1}),
    ("q35", "vdab", "virtio", "virtio-disk27", {}),
    ("q35", "sdc", "usb", "usb-disk2", {}),
]  # fmt: skip


@pytest.mark.parametrize(("machine", "target", "bus", "device_id", "place"), PLACES)
def test_place_comes_from_the_target(
    machine: str, target: str, bus: str, device_id: str, place: dict[str, object]
) -> None:
    """The letters of a target's name stand for a place, as in libvirt."""
    found = properties(parts_of(disk(target, bus), machine), device_id)

    assert place == {name: found[name] for name in place}


def test_lun_of_an_iscsi_server() -> None:
    """The guest may send it any SCSI command: these need no privilege on the way to a server."""
    source = "<source protocol='iscsi' name='iqn.x/2'><host name='h.example'/></source>"
    parts = parts_of(
        VIRTIO_SCSI.replace("'1'", "'0'")
        + f"<disk type='network' device='lun'>{source}<target dev='sda' bus='scsi'/></disk>"
    )

    assert "scsi-block" == device(parts, "scsi0-0-0-0").driver


def test_serial_number_with_spaces() -> None:
    """Those around it are part of it, as in libvirt."""
    parts = parts_of(disk("hda", "ide", "<serial>  WD-WMAP9A966149</serial>"), "pc")

    assert "  WD-WMAP9A966149" == properties(parts, "ide0-0-0")["serial"]


VIRTIO_SCSI = "<controller type='scsi' index='1' model='virtio-scsi'/>"
ADDRESS = "<address type='drive' controller='1' bus='0' target='4' unit='5'/>"


def test_given_place_on_virtio_scsi() -> None:
    """A disk of virtio-scsi has channel, target and unit."""
    parts = parts_of(VIRTIO_SCSI + disk("sda", "scsi", ADDRESS))
    found = properties(parts, "scsi1-0-4-5")

    assert ("scsi1.0", 0, 4, 5) == tuple(
        found[name] for name in ("bus", "channel", "scsi-id", "lun")
    )


def test_users_alias_is_the_id() -> None:
    """An alias that the user chose is the id of the device."""
    parts = parts_of(disk("vda", "virtio", "<alias name='ua-root'/>"))

    assert "virtio-blk-pci" == device(parts, "ua-root").driver


BUSES = [
    ("vda", "disk", "q35", "virtio-blk-pci"),
    ("sda", "disk", "q35", "scsi-hd"),
    ("hda", "disk", "pc", "ide-hd"),
    ("fda", "floppy", "pc", "floppy"),
]


@pytest.mark.parametrize(("target", "kind", "machine", "driver"), BUSES)
def test_bus_comes_from_the_target(target: str, kind: str, machine: str, driver: str) -> None:
    """Where no bus is given, the beginning of the target's name stands for one."""
    document = disk(target, "x", device=kind).replace(" bus='x'", "")

    assert driver in [getattr(part, "driver", "") for part in parts_of(document, machine)]


CDS = [("q35", "ide-cd", "sata0-0-0"), ("pc", "ide-cd", "ide0-0-0"), ("virt", "scsi-cd", None)]


@pytest.mark.parametrize(("machine", "driver", "device_id"), CDS)
def test_native_cd_drive_suits_the_machine(
    machine: str, driver: str, device_id: str | None
) -> None:
    """A CD drive without a bus goes where the machine has one."""
    text = f'machine-type = "{machine}"\n[[disks]]\nfile = "c.iso"\ndevice = "cdrom"\n'
    parts = parts_of(text, machine)

    assert driver == device(parts, device_id or "scsi0-0-0-0").driver


def test_native_targets_follow_the_list() -> None:
    """Targets that are left out are the next that are free."""
    parts = parts_of('[[disks]]\nfile = "a"\n[[disks]]\nfile = "b"\ntarget = "vda"\n')

    assert "vdb-storage" == properties(parts, "virtio-disk1")["drive"]


ASKED = [
    ("virtio", "<driver cache='writethrough'/>", "write-cache", "off"),
    ("virtio", "<driver cache='none'/>", "write-cache", "on"),
    ("virtio", "<driver queues='4' queue_size='8'/>", "num-queues", 4),
    ("virtio", "<driver iothread='2'/>", "iothread", "iothread2"),
    ("virtio", "<driver error_policy='enospace'/>", "werror", "enospc"),
    ("virtio", "<driver error_policy='report'/>", "rerror", "report"),
    ("virtio", "<driver error_policy='report' rerror_policy='stop'/>", "rerror", "stop"),
    ("virtio", "<driver iommu='on' page_per_vq='off'/>", "iommu_platform", True),
    ("virtio", "<geometry cyls='2' heads='3' secs='4'/>", "heads", 3),
    ("sata", "<product>P</product>", "model", "P"),
    ("scsi", "<product>P</product>", "product", "P"),
    ("scsi", "<wwn>5000c50015ea71ad</wwn>", "wwn", 0x5000C50015EA71AD),
    ("scsi", "<serial>s</serial>", "device_id", "s"),
    ("usb", "", "removable", False),
]


@pytest.mark.parametrize(("bus", "inside", "name", "value"), ASKED)
def test_property(bus: str, inside: str, name: str, value: object) -> None:
    """What a document asks for is a property of the device."""
    target = "vda" if bus == "virtio" else "sda"
    ids = {"virtio": "virtio-disk0", "sata": "sata0-0-0", "scsi": "scsi0-0-0", "usb": "usb-disk0"}

    parts = parts_of(disk(target, bus, inside), top="<iothreads>2</iothreads>")

    assert value == properties(parts, ids[bus])[name]


REFUSED = [
    ("q35", disk("hda", "ide"), "disks[0].bus"),
    ("virt", disk("fda", "fdc", device="floppy"), "disks[0].bus"),
    ("microvm", disk("sda", "scsi"), "disks[0].bus"),
    ("q35", disk("sda", "virtio", device="cdrom"), "disks[0].bus"),
    ("microvm", disk("vda", "virtio").replace("'file'", "'file' model='virtio-transitional'"),
     "disks[0].model"),
    ("q35", disk("sda", "sata", "<readonly/>"), "disks[0].read-only"),
    ("q35", disk("sda", "sata", "<vendor>V</vendor>"), "disks[0].vendor"),
    ("q35", disk("vda", "virtio", "<wwn>5000c50015ea71ad</wwn>"), "disks[0].wwn"),
    ("q35", disk("sda", "sata", "<driver iommu='on'/>"), "disks[0].iommu"),
    ("q35", disk("vda", "virtio", "<driver iothread='1'/>"), "disks[0].iothread"),
    ("q35", disk("sda", "sata", "<driver queues='2'/>"), "disks[0].queues"),
    ("q35", disk("sda", "scsi", device="lun"), "disks[0].device"),
    ("q35", disk("vda", "virtio") * 2, "disks[1].target"),
    ("q35", disk("sda", "sata") + disk("sdb", "sata", "<address type='drive'/>"), "disks[1]"),
    ("pc", disk("hde", "ide"), "disks[0].target"),
    ("q35", disk("sda", "sata", "<address type='drive' unit='6'/>"), "disks[0].address"),
    ("q35", disk("sda", "sata", "<address type='pci'/>"), "disks[0].address"),
    ("q35", disk("sda", "scsi", "<address type='drive' target='1'/>"),
     "disks[0].address.target"),
]  # fmt: skip


@pytest.mark.parametrize(("machine", "devices", "key"), REFUSED)
def test_misfit_is_refused(machine: str, devices: str, key: str) -> None:
    """A disk that QEMU cannot make like this is refused by its key."""
    assert key == refusal_of(parts_of, devices, machine).element


def test_boot_order_of_a_floppy_is_its_controllers() -> None:
    """A floppy drive boots in the order that its controller is given."""
    floppy = disk("fdb", "fdc", "<boot order='2'/>", device="floppy")

    assert Option("-global", "isa-fdc.bootindexB=2") in parts_of(floppy, "pc")
    assert {"bootindexB": 2} == properties(parts_of(floppy, "q35"), "fdc0")


SHARED = "<memoryBacking><access mode='shared'/></memoryBacking>"
VHOST_USER = """<disk type='vhostuser' device='disk'><source type='unix' path='/run/d,1.sock'>
<reconnect enabled='yes' timeout='3'/></source><target dev='vda' bus='virtio'/></disk>"""
RECONNECTS = [((10, 0, 2), "reconnect-ms=3000"), ((9, 1, 0), "reconnect=3")]


@pytest.mark.parametrize(("version", "again"), RECONNECTS)
def test_disk_of_another_process(version: tuple[int, int, int], again: str) -> None:
    """A vhost-user disk is reached over a socket, again after a while if that fails."""
    qemu = msgspec.structs.replace(QEMU, version=version)
    parts = parts_of(VHOST_USER, top=SHARED, capabilities=qemu)
    socket = f"socket,id=chr-vu-virtio-disk0,path=/run/d,,1.sock,{again}"

    assert Option("-chardev", socket) in parts
    assert "vhost-user-blk-pci" == device(parts, "virtio-disk0").driver
    assert "chr-vu-virtio-disk0" == properties(parts, "virtio-disk0")["chardev"]


def test_disk_of_another_process_needs_shared_memory() -> None:
    """Otherwise that process cannot read what the guest asks for."""
    assert "disks[0]" == refusal_of(parts_of, VHOST_USER).element


SLOTS = [
    ("vda", "virtio", "virtio-disk0", Slot.EXPRESS),
    ("sda", "usb", "usb-disk0", Slot.USB),
    ("sda", "sata", "sata0-0-0", Slot.NONE),
]


@pytest.mark.parametrize(("target", "bus", "device_id", "slot"), SLOTS)
def test_slot(target: str, bus: str, device_id: str, slot: Slot) -> None:
    """Disks on a controller need no place of their own."""
    assert slot is device(parts_of(disk(target, bus)), device_id).slot
