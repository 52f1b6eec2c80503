# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disks, CD drives and floppies in a real QEMU, and what is behind them."""

import struct
from pathlib import Path
from typing import cast

import pytest

from bpferry.errors import NotReady
from tests.devices.running import Running, domain, running

pytestmark = pytest.mark.qemu

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def _images(tmp_path: Path) -> None:
    """Make the raw images that the documents name: a.img, b.img and c.iso."""
    for name in ("a.img", "b.img", "c.iso"):
        (tmp_path / name).write_bytes(bytes(4 * MIB))


def disk(bus: str, target: str, device: str = "disk", inside: str = "", file: str = "a.img") -> str:
    """Return the XML of one disk from a file."""
    return (
        f"<disk type='file' device='{device}'><source file='{file}'/>"
        f"<target dev='{target}' bus='{bus}'/>{inside}</disk>"
    )


KINDS = [
    ("q35", disk("virtio", "vda"), "virtio-disk0", "virtio-blk-pci"),
    ("q35", disk("sata", "sda"), "sata0-0-0", "ide-hd"),
    ("q35", disk("sata", "sdb", "cdrom"), "sata0-0-1", "ide-cd"),
    ("q35", disk("sata", "sdg"), "sata1-0-0", "ide-hd"),
    ("q35", disk("usb", "sda"), "usb-disk0", "usb-storage"),
    ("q35", disk("fdc", "fda", "floppy"), "fdc0-0-0", "floppy"),
    ("q35", disk("scsi", "sda"), "scsi0-0-0", "scsi-hd"),
    ("pc", disk("ide", "hda"), "ide0-0-0", "ide-hd"),
    ("pc", disk("ide", "hdc", "cdrom"), "ide0-1-0", "ide-cd"),
    ("pc", disk("sata", "sda"), "sata0-0-0", "ide-hd"),
    ("pc", disk("fdc", "fdb", "floppy"), "fdc0-0-1", "floppy"),
    ("pc", disk("usb", "sdb"), "usb-disk1", "usb-storage"),
    ("isapc", disk("ide", "hdd"), "ide0-1-1", "ide-hd"),
    ("microvm", disk("virtio", "vda"), "virtio-disk0", "virtio-blk-device"),
]  # fmt: skip


@pytest.mark.parametrize(("machine", "devices", "device_id", "driver"), KINDS)
def test_disk_is_there(
    machine: str, devices: str, device_id: str, driver: str, tmp_path: Path
) -> None:
    """QEMU has made the drive, under the name that it has on the command line."""
    with running(domain(devices, machine=machine), tmp_path) as vm:
        assert driver == vm.qom_type(device_id)


SCSI_MODELS = [
    ("lsilogic", "lsi53c895a", "scsi0-0-3", 3),
    ("virtio-scsi", "virtio-scsi-pci", "scsi0-0-0-3", 0),
    ("virtio-transitional", "virtio-scsi-pci-transitional", "scsi0-0-0-3", 0),
    ("lsisas1068", "mptsas1068", "scsi0-0-0-0", 0),
    ("lsisas1078", "megasas", "scsi0-0-0-0", 0),
    ("vmpvscsi", "pvscsi", "scsi0-0-0-0", 0),
    ("am53c974", "am53c974", "scsi0-0-3", 3),
    ("dc390", "dc390", "scsi0-0-3", 3),
]


@pytest.mark.parametrize(("model", "driver", "device_id", "number"), SCSI_MODELS)
def test_scsi_disk_sits_on_each_controller(
    model: str, driver: str, device_id: str, number: int, tmp_path: Path
) -> None:
    """Each model of SCSI controller finds a disk by the number that the document gives it."""
    unit = device_id[-1]
    address = f"<address type='drive' controller='0' bus='0' target='0' unit='{unit}'/>"
    controller = f"<controller type='scsi' index='0' model='{model}'/>"
    devices = controller + disk("scsi", "sda", inside=address)
    with running(domain(devices, machine="pc"), tmp_path) as vm:
        found = (vm.qom_type("scsi0"), vm.property_of(device_id, "scsi-id"))

    assert (driver, number) == found


def node_of(vm: Running, device_id: str) -> dict[str, object]:
    """Return what QEMU says about the medium of a drive, as query-block has it."""
    found = cast("list[dict[str, object]]", vm.execute("query-block"))
    mine = next(one for one in found if device_id in str(one.get("qdev", "")).split("/"))
    return cast("dict[str, object]", mine.get("inserted", {}))


def test_medium_is_the_file_of_the_document(tmp_path: Path) -> None:
    """The topmost node of a raw image opens the file itself."""
    with running(domain(disk("virtio", "vda")), tmp_path) as vm:
        assert str(tmp_path / "a.img") == node_of(vm, "virtio-disk0")["file"]


def test_cdrom_is_read_only(tmp_path: Path) -> None:
    """A CD is not writable to, whether the document says so or not."""
    with running(domain(disk("sata", "sda", "cdrom", file="c.iso")), tmp_path) as vm:
        assert node_of(vm, "sata0-0-0")["ro"] is True


def test_empty_drive_has_no_medium(tmp_path: Path) -> None:
    """A CD drive without a source is there, and empty."""
    empty = "<disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>"
    with running(domain(empty), tmp_path) as vm:
        assert node_of(vm, "sata0-0-0") == {}


CACHES = [
    ("none", {"writeback": True, "direct": True, "no-flush": False}),
    ("writeback", {"writeback": True, "direct": False, "no-flush": False}),
    ("writethrough", {"writeback": False, "direct": False, "no-flush": False}),
    ("directsync", {"writeback": False, "direct": True, "no-flush": False}),
    ("unsafe", {"writeback": True, "direct": False, "no-flush": True}),
]


@pytest.mark.parametrize(("mode", "flags"), CACHES)
def test_cache_mode(mode: str, flags: dict[str, bool], tmp_path: Path) -> None:
    """Each cache mode is what docs/formatdomain says of it."""
    devices = disk("virtio", "vda", inside=f"<driver cache='{mode}'/>")
    with running(domain(devices), tmp_path) as vm:
        assert flags == node_of(vm, "virtio-disk0")["cache"]


def test_formats_and_backing_chain(tmp_path: Path) -> None:
    """The images below are those of the document, also where the top one's header names none."""
    write_qcow2(tmp_path / "top.qcow2")
    write_qcow2(tmp_path / "middle.qcow2")
    chain = (
        "<driver type='qcow2'/><backingStore type='file'><format type='qcow2'/>"
        "<source file='middle.qcow2'/><backingStore type='file'><format type='raw'/>"
        "<source file='a.img'/><backingStore/></backingStore></backingStore>"
    )
    with running(domain(disk("virtio", "vda", inside=chain, file="top.qcow2")), tmp_path) as vm:
        nodes = nodes_of(vm)

    assert ["vda-1-format", "vda-1-storage", "vda-2-storage", "vda-format", "vda-storage"] == nodes


def test_part_of_a_file(tmp_path: Path) -> None:
    """With a slice, the guest sees a part of the file."""
    inside = "<slices><slice type='storage' offset='1048576' size='2097152'/></slices>"
    document = (
        f"<disk type='file' device='disk'><source file='a.img'>{inside}</source>"
        "<target dev='vda' bus='virtio'/></disk>"
    )
    with running(domain(document), tmp_path) as vm:
        image = cast("dict[str, int]", node_of(vm, "virtio-disk0")["image"])

    assert 2 * MIB == image["virtual-size"]


def test_throttled_disks_share_a_group(tmp_path: Path) -> None:
    """Two disks of one group have the same throttle group behind them."""
    limits = (
        "<iotune><total_bytes_sec>1000000</total_bytes_sec><group_name>slow</group_name></iotune>"
    )
    other = "<iotune><group_name>slow</group_name></iotune>"
    devices = disk("virtio", "vda", inside=limits) + disk("sata", "sda", inside=other, file="b.img")
    with running(domain(devices), tmp_path) as vm:
        found = cast(
            "dict[str, int]", vm.execute("qom-get", path="/objects/throttle0", property="limits")
        )
        drivers = [node_of(vm, name)["drv"] for name in ("virtio-disk0", "sata0-0-0")]

    assert 1000000 == found["bps-total"]
    assert ["throttle", "throttle"] == drivers


def test_copy_on_read(tmp_path: Path) -> None:
    """What is read from the image below is written into the one above."""
    write_qcow2(tmp_path / "top.qcow2")
    inside = "<driver type='qcow2' copy_on_read='on'/>"
    with running(domain(disk("virtio", "vda", inside=inside, file="top.qcow2")), tmp_path) as vm:
        assert "copy-on-read" == node_of(vm, "virtio-disk0")["drv"]


PROPERTIES = [
    ("virtio", "vda", "<serial>abc-1</serial>", "virtio-disk0", "serial", "abc-1"),
    ("virtio", "vda", "<driver queues='3'/>", "virtio-disk0", "num-queues", 3),
    ("virtio", "vda", "<driver queue_size='64'/>", "virtio-disk0", "queue-size", 64),
    ("virtio", "vda", "<driver event_idx='off'/>", "virtio-disk0", "event_idx", False),
    ("virtio", "vda", "<driver error_policy='stop'/>", "virtio-disk0", "rerror", "stop"),
    ("virtio", "vda", "<shareable/>", "virtio-disk0", "share-rw", True),
    ("virtio", "vda", "<driver packed='on' iommu='on'/>", "virtio-disk0", "packed", True),
    ("virtio", "vda", "<boot order='3'/>", "virtio-disk0", "bootindex", 3),
    ("sata", "sda", "<wwn>5000c50015ea71ac</wwn>", "sata0-0-0", "wwn", 0x5000C50015EA71AC),
    ("sata", "sda", "<product>A DISK</product>", "sata0-0-0", "model", "A DISK"),
    ("scsi", "sda", "<vendor>ACME</vendor>", "scsi0-0-0", "vendor", "ACME"),
    ("scsi", "sda", "<serial>s1</serial>", "scsi0-0-0", "device_id", "s1"),
    ("scsi", "sda", "<blockio logical_block_size='4096' physical_block_size='4096'/>",
     "scsi0-0-0", "logical_block_size", 4096),
]  # fmt: skip


@pytest.mark.parametrize(("bus", "target", "inside", "device_id", "name", "value"), PROPERTIES)
def test_property(  # noqa: PLR0917 - a table
    bus: str, target: str, inside: str, device_id: str, name: str, value: object, tmp_path: Path
) -> None:
    """What the document asks for is a property of the device."""
    with running(domain(disk(bus, target, inside=inside)), tmp_path) as vm:
        assert value == vm.property_of(device_id, name)


def test_iothreads_serve_queues(tmp_path: Path) -> None:
    """Each queue has the thread that the document gives it."""
    threads = (
        "<driver queues='2'><iothreads><iothread id='1'><queue id='0'/></iothread>"
        "<iothread id='2'><queue id='1'/></iothread></iothreads></driver>"
    )
    document = domain(disk("virtio", "vda", inside=threads), top="<iothreads>2</iothreads>")
    with running(document, tmp_path) as vm:
        mapping = vm.property_of("virtio-disk0", "iothread-vq-mapping")

    assert [{"iothread": "iothread1", "vqs": [0]}, {"iothread": "iothread2", "vqs": [1]}] == mapping


def test_image_from_an_nbd_server(tmp_path: Path) -> None:
    """QEMU itself opens an export of a server; here the server is another QEMU."""
    socket = tmp_path / "nbd.sock"
    document = (
        "<disk type='network' device='disk'><source protocol='nbd' name='shared'>"
        f"<host transport='unix' socket='{socket}'/></source>"
        "<target dev='vda' bus='virtio'/><readonly/></disk>"
    )
    address = {"type": "unix", "data": {"path": str(socket)}}
    export = {"id": "e", "type": "nbd", "node-name": "vda-storage", "name": "shared"}
    with running(domain(disk("virtio", "vda", inside="<readonly/>")), tmp_path) as server:
        server.execute("nbd-server-start", addr=address)
        server.execute("block-export-add", **export)
        with running(domain(document, name="client"), tmp_path) as vm:
            assert "nbd" == node_of(vm, "virtio-disk0")["drv"]


NATIVE = """\
name = "native"
memory = "64 MiB"
accelerator = "tcg"
machine-type = "q35"

[[disks]]
file = "a.img"

[[disks]]
file = "b.img"
bus = "scsi"

[[disks]]
file = "c.iso"
device = "cdrom"
"""


def test_native_form_needs_no_targets(tmp_path: Path) -> None:
    """Target, bus and place are chosen where a description leaves them out."""
    with running(NATIVE, tmp_path) as vm:
        names = [
            node_of(vm, name)["node-name"] for name in ("virtio-disk0", "scsi0-0-0-0", "sata0-0-1")
        ]

    assert ["vda-storage", "sda-storage", "sdb-storage"] == names


def nodes_of(vm: Running) -> list[str]:
    """Return the names of all block nodes."""
    found = cast("list[dict[str, str]]", vm.execute("query-named-block-nodes", flat=True))
    return sorted(one["node-name"] for one in found)


def write_qcow2(path: Path) -> None:
    """Write an empty image of 4 MiB (docs/interop/qcow2.rst of QEMU, version 2 of the format)."""
    cluster = 65536
    header = struct.pack(
        ">4sIQIIQIIQQIIQ", b"QFI\xfb", 2, 0, 0, 16, 4 * MIB, 0, 1, 3 * cluster, cluster, 1, 0, 0
    )
    table = struct.pack(">Q", 2 * cluster)
    counts = struct.pack(">4H", 1, 1, 1, 1)
    path.write_bytes(b"".join(part.ljust(cluster, b"\0") for part in (header, table, counts, b"")))


def test_groups_of_the_vm_hold_one_above_the_other(tmp_path: Path) -> None:
    """A disk that names two groups of the VM has the limits of both."""
    groups = "".join(
        f"<throttlegroup><group_name>{name}</group_name><{what}>{limit}</{what}></throttlegroup>"
        for name, what, limit in (("a", "total_bytes_sec", 1000000), ("b", "read_iops_sec", 50))
    )
    filters = "<throttlefilters><throttlefilter group='a'/><throttlefilter group='b'/>"
    devices = disk("virtio", "vda", inside=f"{filters}</throttlefilters>")
    top = f"<throttlegroups>{groups}</throttlegroups>"
    with running(domain(devices, top=top), tmp_path) as vm:
        listed = cast("list[dict[str, object]]", vm.execute("query-named-block-nodes"))

    drivers = {str(node["node-name"]): node["drv"] for node in listed}
    assert ["throttle", "throttle", "file"] == [
        drivers[name] for name in ("vda-throttle1", "vda-throttle", "vda-storage")
    ]


def test_two_vms_write_to_a_disk_that_they_share(tmp_path: Path) -> None:
    """A disk that is shareable is opened by both; one that is not is the first VM's alone."""
    shared = disk("virtio", "vda", inside="<shareable/>")
    alone = disk("virtio", "vda")
    with (
        running(domain(shared, name="first"), tmp_path) as first,
        running(domain(shared, name="second"), tmp_path) as second,
    ):
        assert [True, True] == [
            vm.property_of("virtio-disk0", "share-rw") for vm in (first, second)
        ]
    with (
        running(domain(alone, name="first"), tmp_path),
        pytest.raises(NotReady, match="it is locked now by your VM 'first'"),
        running(domain(alone, name="second"), tmp_path),
    ):
        pass


def test_folder_as_a_file_system(tmp_path: Path) -> None:
    """QEMU shows a folder as a disk that is not writable to."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.txt").write_text("hello", encoding="ascii")
    folder = (
        "<disk type='dir' device='disk'><driver type='fat'/><source dir='files'/>"
        "<target dev='sda' bus='usb'/><readonly/></disk>"
    )
    with running(domain(folder), tmp_path) as vm:
        node = node_of(vm, "usb-disk0")

    assert ("raw", True) == (node["drv"], node["ro"])
