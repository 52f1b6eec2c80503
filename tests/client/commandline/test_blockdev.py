# SPDX-License-Identifier: LGPL-2.1-or-later
"""The block nodes behind disks: files, formats, what is below them, and the network."""

import msgspec
import pytest

from bpferry.commandline.parts import Option
from bpferry.errors import Unsupported
from tests.client.commandline.disk_parts import QEMU, nodes, parts_of
from tests.client.refusals import refusal_of


def disk(source: str, inside: str = "", kind: str = "file", device: str = "disk") -> str:
    """Return the XML of a disk on virtio, or of a CD drive on sata."""
    target = "dev='sda' bus='sata'" if device == "cdrom" else "dev='vda' bus='virtio'"
    return f"<disk type='{kind}' device='{device}'>{source}<target {target}/>{inside}</disk>"


FILE = "<source file='/a'/>"
QCOW2 = "<driver type='qcow2'/>"
BELOW = {"auto-read-only": True, "discard": "unmap"}


def test_raw_file_is_one_node() -> None:
    """A raw image needs no node for its format."""
    assert [
        {"driver": "file", "filename": "/a", "node-name": "vda-storage", "read-only": False}
    ] == nodes(parts_of(disk(FILE)))


def test_format_is_above_the_file() -> None:
    """The format's node says whether the guest writes; the file is opened as that needs."""
    assert [
        {"driver": "file", "filename": "/a", "node-name": "vda-storage", **BELOW},
        {"node-name": "vda-format", "read-only": False, "driver": "qcow2", "file": "vda-storage"},
    ] == nodes(parts_of(disk(FILE, QCOW2)))


@pytest.mark.parametrize(
    ("theirs", "ours"), [("vhd", "vhdx"), ("ploop", "parallels"), ("vmdk", "vmdk"), ("vdi", "vdi")]
)
def test_format_by_qemus_name(theirs: str, ours: str) -> None:
    """Libvirt and QEMU call two formats differently."""
    found = nodes(parts_of(disk(FILE, f"<driver type='{theirs}'/>")))

    assert ours == found[-1]["driver"]


DEVICES = [
    ("/dev/sdz", "disk", "host_device"),
    ("/dev/sr0", "disk", "host_device"),
    ("/dev/sr0", "cdrom", "host_cdrom"),
    ("/dev/cdrom", "cdrom", "host_cdrom"),
    ("/dev/vg/iso", "cdrom", "host_device"),
]


@pytest.mark.parametrize(("path", "device", "driver"), DEVICES)
def test_host_device(path: str, device: str, driver: str) -> None:
    """A device of the host is opened as what it is."""
    found = nodes(parts_of(disk(f"<source dev='{path}'/>", kind="block", device=device)))

    assert [(driver, path)] == [(one["driver"], one["filename"]) for one in found]


def test_cdrom_is_read_only() -> None:
    """A CD is, whatever the document says."""
    assert nodes(parts_of(disk(FILE, device="cdrom")))[0]["read-only"] is True


def test_empty_drive_has_no_node() -> None:
    """There is nothing behind a CD drive without a source."""
    assert nodes(parts_of(disk("", device="cdrom"))) == []


CHAIN = f"""{QCOW2}<backingStore type='file'><format type='qcow2'/><source file='/b'/>
<backingStore type='block'><format type='raw'/><source dev='/dev/c'/><backingStore/></backingStore>
</backingStore>"""


def test_backing_chain() -> None:
    """Each image names the one below it; the ones below are only read."""
    found = nodes(parts_of(disk(FILE, CHAIN)))

    assert [
        ("vda-2-storage", None, True),
        ("vda-1-storage", None, None),
        ("vda-1-format", "vda-2-storage", True),
        ("vda-storage", None, None),
        ("vda-format", "vda-1-format", False),
    ] == [(one["node-name"], one.get("backing"), one.get("read-only")) for one in found]


def test_end_of_the_chain() -> None:
    """An empty element says that there is nothing below, whatever the image's header says."""
    found = nodes(parts_of(disk(FILE, f"{QCOW2}<backingStore/>")))[-1]

    assert "backing" in found
    assert found["backing"] is None


def test_header_counts_without_a_chain() -> None:
    """Where a document says nothing of what is below, the image's header does."""
    assert "backing" not in nodes(parts_of(disk(FILE, QCOW2)))[-1]


def test_data_file() -> None:
    """The data of a qcow2 image may be in a file of its own."""
    data = "<dataStore type='file'><format type='raw'/><source file='/d'/></dataStore>"
    found = nodes(parts_of(disk(f"<source file='/a'>{data}</source>", QCOW2)))

    assert ("/d", False) == (found[0]["filename"], found[0]["read-only"])
    assert found[0]["node-name"] == found[-1]["data-file"]


CACHES = [
    ("none", True, False),
    ("writeback", False, False),
    ("writethrough", False, False),
    ("directsync", True, False),
    ("unsafe", False, True),
]


@pytest.mark.parametrize(("mode", "direct", "no_flush"), CACHES)
def test_cache_holds_for_every_node(mode: str, direct: object, no_flush: object) -> None:
    """Each node of a disk caches as the document says."""
    found = nodes(parts_of(disk(FILE, f"<driver type='qcow2' cache='{mode}'/>")))

    assert [{"direct": direct, "no-flush": no_flush}] * 2 == [one["cache"] for one in found]


def test_shared_disk_is_not_cached() -> None:
    """What several VMs write to is not cached on this host."""
    assert {"direct": True, "no-flush": False} == nodes(parts_of(disk(FILE, "<shareable/>")))[0][
        "cache"
    ]


DISCARDS = [
    ("discard='unmap'", "unmap", None),
    ("discard='ignore' detect_zeroes='on'", "ignore", "on"),
    ("discard='unmap' detect_zeroes='unmap'", "unmap", "unmap"),
    ("detect_zeroes='unmap'", None, "on"),
]


@pytest.mark.parametrize(("driver", "discard", "zeroes"), DISCARDS)
def test_discard(driver: str, discard: str | None, zeroes: str | None) -> None:
    """Zeroes are unmapped only where discarded blocks are."""
    found = nodes(parts_of(disk(FILE, f"<driver {driver}/>")))[0]

    assert (discard, zeroes) == (found.get("discard"), found.get("detect-zeroes"))


SERVER = "<host name='h.example'/>"
URLS = [
    ("protocol='http' name='a.iso'", SERVER, "http://h.example:80/a.iso"),
    ("protocol='https' name='/a b.iso' query='x=1&amp;y'", SERVER, "https://h.example:443/a%20b.iso?x=1&y"),
    ("protocol='ftp' name='a'", "<host name='::1' port='2121'/>", "ftp://[::1]:2121/a"),
    ("protocol='ftps' name='d/a?#'", SERVER, "ftps://h.example:990/d/a%3F%23"),
]  # fmt: skip


@pytest.mark.parametrize(("attributes", "host", "url"), URLS)
def test_url(attributes: str, host: str, url: str) -> None:
    """Protocol, server, path and query make a URL."""
    source = f"<source {attributes}>{host}</source>"

    assert url == nodes(parts_of(disk(source, kind="network", device="cdrom")))[0]["url"]


INET = {"host": "h.example", "port": "7"}
HOST = "<host name='h.example' port='7'/>"
NETWORK = [
    ("protocol='nbd'", SERVER,
     {"server": {"type": "inet", "host": "h.example", "port": "10809"}}),
    ("protocol='nbd' name='e'", "<host transport='unix' socket='/s'/>",
     {"server": {"type": "unix", "path": "/s"}, "export": "e"}),
    ("protocol='nbd'", f"{HOST}<reconnect delay='5'/>",
     {"server": {"type": "inet", **INET}, "reconnect-delay": 5}),
    ("protocol='rbd' name='p/i'", f"{HOST}<snapshot name='s'/><config file='/c'/>",
     {"pool": "p", "image": "i", "server": [INET], "snapshot": "s", "conf": "/c"}),
    ("protocol='rbd' name='p/i'", "", {"pool": "p", "image": "i"}),
    ("protocol='iscsi' name='iqn.x/2'", f"{SERVER}<initiator><iqn name='iqn.y'/></initiator>",
     {"portal": "h.example:3260", "target": "iqn.x", "lun": 2, "transport": "tcp",
      "initiator-name": "iqn.y"}),
    ("protocol='iscsi' name='iqn.x'", "<host name='fe80::1' port='7'/>",
     {"portal": "[fe80::1]:7", "target": "iqn.x", "lun": 0, "transport": "tcp"}),
    ("protocol='ssh' name='/a'", f"{SERVER}<identity username='u'/>",
     {"path": "/a", "server": {"host": "h.example", "port": "22"}, "user": "u"}),
    ("protocol='nfs' name='/a'", f"{SERVER}<identity user='+7' group='8'/>",
     {"path": "/a", "server": {"host": "h.example", "type": "inet"}, "user": 7, "group": 8}),
    ("protocol='gluster' name='v/d/i'", f"{HOST}<host transport='unix' socket='/s'/>",
     {"volume": "v", "path": "d/i",
      "server": [{"type": "inet", **INET}, {"type": "unix", "path": "/s"}]}),
]  # fmt: skip


@pytest.mark.parametrize(("attributes", "inside", "expected"), NETWORK)
def test_network(attributes: str, inside: str, expected: dict[str, object]) -> None:
    """Each protocol has its own properties."""
    source = f"<source {attributes}>{inside}</source>"
    (found,) = nodes(parts_of(disk(source, kind="network")))
    del found["driver"], found["node-name"], found["read-only"]

    assert expected == found


REFUSED = [
    (disk(FILE, "<backingStore type='file'><format type='raw'/><source file='/b'/></backingStore>"),
     "disks[0].backing"),
    (disk("<source dev='/a'/>"), "disks[0].block-device"),
    (disk(FILE, kind="block"), "disks[0].file"),
    (disk(""), "disks[0].device"),
    (disk(FILE, "<driver type='dmg'/>"), "disks[0].format"),
    (disk(FILE, "<driver discard_no_unref='on'/>"), "disks[0].discard-no-unref"),
    (disk(FILE, "<driver io='native'/>"), "disks[0].io"),
    (disk(FILE, "<driver copy_on_read='on'/><readonly/>"), "disks[0].copy-on-read"),
    (disk(FILE, f"{QCOW2}<shareable/>"), "disks[0].shareable"),
    (disk("<source protocol='nbd'/>", kind="network"), "disks[0]"),
    (disk(f"<source protocol='nbd' query='q'>{SERVER}</source>", kind="network"),
     "disks[0].query"),
    (disk(f"<source protocol='rbd' name='image'>{HOST}</source>", kind="network"),
     "disks[0].name"),
    (disk(f"<source protocol='rbd' name='p/i'>{SERVER}</source>", kind="network"),
     "disks[0].hosts[0]"),
    (disk(f"<source protocol='ssh' name='/a'>{SERVER}</source>", "<driver io='threads'/>",
          "network"), "disks[0].io"),
]  # fmt: skip


@pytest.mark.parametrize(("devices", "key"), REFUSED)
def test_contradiction_is_refused(devices: str, key: str) -> None:
    """What does not fit together is named."""
    assert key == refusal_of(parts_of, devices).element


LIMITS = "<iotune><total_bytes_sec>5</total_bytes_sec><write_iops_sec>6</write_iops_sec></iotune>"


def test_throttled_disk() -> None:
    """The limits are those of a group, which a node above the image asks."""
    parts = parts_of(disk(FILE, LIMITS))
    limits = '{"bps-total":5,"iops-write":6}'
    group = f'{{"qom-type":"throttle-group","id":"throttle0","limits":{limits}}}'

    assert Option("-object", group) in parts
    assert "throttle0" == nodes(parts)[-1]["throttle-group"]


SLOW = "<group_name>slow</group_name>"


def group_of_two(first: str, second: str) -> str:
    """Return two disks with different words inside ``iotune``."""
    two = disk(FILE, f"<iotune>{second}</iotune>").replace("vda", "vdb")
    return disk(FILE, f"<iotune>{first}</iotune>") + two


def test_disks_share_the_limits_of_a_group() -> None:
    """A disk that only names a group has the limits that another one gives it."""
    limits = f"{SLOW}<total_bytes_sec>5</total_bytes_sec>"
    found = nodes(parts_of(group_of_two(SLOW, limits)))

    groups = [one["throttle-group"] for one in found if one["driver"] == "throttle"]

    assert ["throttle1", "throttle1"] == groups


def test_two_limits_for_a_group_are_refused() -> None:
    """A group has one limit of each kind."""
    first, second = (f"{SLOW}<total_bytes_sec>{n}</total_bytes_sec>" for n in (5, 6))

    assert "disks[1].throttle" == refusal_of(parts_of, group_of_two(first, second)).element


def test_limits_of_zero_are_none() -> None:
    """Zero means that there is no limit."""
    none = "<iotune><total_bytes_sec>0</total_bytes_sec></iotune>"

    assert len(nodes(parts_of(disk(FILE, none)))) == 1


def test_group_without_limits_is_refused() -> None:
    """A group that no disk gives limits is not a group."""
    assert (
        "disks[0].throttle.group"
        == refusal_of(parts_of, disk(FILE, "<iotune><group_name>g</group_name></iotune>")).element
    )


FAT = "<driver type='fat'/><readonly/>"


@pytest.mark.parametrize(("target", "floppy"), [("vda", False), ("fda", True)])
def test_folder_as_a_file_system(target: str, floppy: bool) -> None:  # noqa: FBT001
    """A folder is shown as it is when the VM starts, as a disk or on a floppy."""
    one = disk("<source dir='/srv/files'/>", FAT, "dir").replace("'vda'", f"'{target}'")
    if floppy:
        one = one.replace("device='disk'", "device='floppy'").replace("virtio", "fdc")
    below, top = nodes(parts_of(one))

    assert ("vvfat", "/srv/files", floppy, False) == (
        below["driver"],
        below["dir"],
        below["floppy"],
        below["rw"],
    )
    assert ("raw", True, below["node-name"]) == (top["driver"], top["read-only"], top["file"])


@pytest.mark.parametrize(
    ("devices", "key"),
    [
        (disk("<source dir='/x'/>", "<driver type='fat'/>", "dir"), "disks[0]"),
        (disk("<source dir='/x'/>", "<readonly/>", "dir"), "disks[0].format"),
        (disk(FILE, FAT), "disks[0].format"),
        (disk("<source dir='/x'/>"), "disks[0].folder"),
        (disk("", FAT, "dir"), "disks[0].device"),
    ],
)
def test_folder_that_cannot_be_shown(devices: str, key: str) -> None:
    """It is read only, of its own type, and in its own format."""
    assert key == refusal_of(parts_of, devices).element


GROUPS = """\
<throttlegroups>
  <throttlegroup><group_name>slow</group_name><total_bytes_sec>5</total_bytes_sec></throttlegroup>
  <throttlegroup><group_name>free</group_name><total_bytes_sec>0</total_bytes_sec></throttlegroup>
  <throttlegroup><group_name>few</group_name><read_iops_sec>6</read_iops_sec></throttlegroup>
</throttlegroups>"""


def filters(*names: str) -> str:
    """Return the part of a disk that names groups of the VM."""
    inner = "".join(f"<throttlefilter group='{name}'/>" for name in names)
    return f"<throttlefilters>{inner}</throttlefilters>"


def test_groups_of_the_vm() -> None:
    """Each group is an object, and a disk has a node for each that it names and that has limits."""
    parts = parts_of(disk(FILE, filters("few", "free", "slow")), top=GROUPS)
    above = [one for one in nodes(parts) if one["driver"] == "throttle"]

    assert [
        ("vda-throttle", "throttle-group2", "vda-storage"),
        ("vda-throttle1", "throttle-group0", "vda-throttle"),
    ] == [(one["node-name"], one["throttle-group"], one["file"]) for one in above]
    assert [
        '{"qom-type":"throttle-group","id":"throttle-group0","limits":{"bps-total":5}}',
        '{"qom-type":"throttle-group","id":"throttle-group2","limits":{"iops-read":6}}',
    ] == [part.value for part in parts if isinstance(part, Option) and part.name == "-object"]


@pytest.mark.parametrize(
    ("devices", "top", "key"),
    [
        (disk(FILE, filters("nosuch")), GROUPS, "disks[0].throttle-groups[0]"),
        (disk(FILE, filters("slow") + LIMITS), GROUPS, "disks[0].throttle-groups"),
        (disk(FILE), GROUPS.replace("free", "slow"), "throttle-groups[1].name"),
    ],
)
def test_groups_that_cannot_be(devices: str, top: str, key: str) -> None:
    """A group is there once, a disk names those that are there, or has limits of its own."""
    assert key == refusal_of(parts_of, devices, top=top).element


def test_missing_block_driver_is_refused() -> None:
    """A QEMU that was built without a driver is not asked for it."""
    poor = msgspec.structs.replace(QEMU, blockdevs={"file": frozenset()})

    with pytest.raises(Unsupported, match="no block driver 'qcow2'"):
        parts_of(disk(FILE, QCOW2), capabilities=poor)
