# SPDX-License-Identifier: LGPL-2.1-or-later
"""Memory on the command line."""

import json

import pytest

from bpferry.commandline.context import Context
from bpferry.commandline.parts import Command, Device, Folder, Remark
from tests.client.commandline.system_parts import FOLDERS, all_parts, context_of, of_kind, values
from tests.client.refusals import refusal_of

MIB = 2**20

NUMA = """
<vcpu>4</vcpu>
<cpu><numa>
  <cell id='0' cpus='0-1' memory='32' unit='MiB'>{distances}</cell>
  <cell id='1' cpus='2,3' memory='32' unit='MiB' memAccess='shared'/>
</numa></cpu>"""

ROOM = "<memory unit='MiB'>128</memory><maxMemory slots='4' unit='GiB'>1</maxMemory>"


def objects(context: Context) -> list[dict[str, object]]:
    """Return what is behind the memory."""
    found = [json.loads(value or "") for value in values(context, "-object")]
    return [single for single in found if single["qom-type"].startswith("memory")]


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        ("<memory>219100</memory>", "size=219136k"),
        ("<memory unit='MiB'>64</memory>", "size=65536k"),
        ("<memory unit='bytes'>1</memory>", "size=1024k"),
        (ROOM, "size=131072k,slots=4,maxmem=1048576k"),
    ],
)
def test_size(memory: str, expected: str) -> None:
    """Memory is whole MiB, rounded up as libvirt does."""
    assert [expected] == values(context_of(memory=memory), "-m")


def test_main_memory_has_the_name_that_the_machine_wants() -> None:
    """The object of a machine without nodes is called as QEMU calls it."""
    context = context_of()

    assert objects(context) == [
        {"qom-type": "memory-backend-ram", "id": "pc.ram", "size": 64 * MIB}
    ]
    assert "memory-backend=pc.ram" in (values(context, "-machine")[0] or "")


@pytest.mark.parametrize(
    ("backing", "expected"),
    [
        ("<source type='memfd'/>", {"qom-type": "memory-backend-memfd"}),
        ("<access mode='shared'/>", {"qom-type": "memory-backend-memfd", "share": True}),
        ("<access mode='private'/>", {"qom-type": "memory-backend-ram", "share": False}),
        (
            "<hugepages/>",
            {"qom-type": "memory-backend-memfd", "hugetlb": True, "prealloc": True},
        ),
        (
            "<hugepages><page size='2' unit='MiB'/></hugepages>",
            {
                "qom-type": "memory-backend-memfd",
                "hugetlb": True,
                "hugetlbsize": 2 * MIB,
                "prealloc": True,
            },
        ),
        ("<hugepages><page size='4'/></hugepages>", {"qom-type": "memory-backend-ram"}),
        (
            "<allocation mode='immediate' threads='2'/>",
            {"qom-type": "memory-backend-ram", "prealloc": True, "prealloc-threads": 2},
        ),
        ("<allocation mode='ondemand'/>", {"qom-type": "memory-backend-ram"}),
        (
            "<source type='file'/><discard/>",
            {
                "qom-type": "memory-backend-file",
                "mem-path": f"{FOLDERS.state}/memory",
                "discard-data": True,
            },
        ),
    ],
)
def test_backing(backing: str, expected: dict[str, object]) -> None:
    """Where memory comes from is said to QEMU; huge pages need no mounted file system."""
    context = context_of(f"<memoryBacking>{backing}</memoryBacking>")

    assert [{"id": "pc.ram", "size": 64 * MIB, **expected}] == objects(context)


def test_contents_of_nodes() -> None:
    """A node or a module says itself whether its file may be forgotten."""
    cell = "<cell id='0' cpus='0' memory='64' unit='MiB' discard='no'/>"
    module = (
        "<memory model='dimm' discard='yes'><target><size unit='MiB'>64</size></target></memory>"
    )
    context = context_of(
        f"<cpu><numa>{cell}</numa></cpu>"
        "<memoryBacking><source type='file'/><discard/></memoryBacking>",
        memory=ROOM,
        devices=module,
    )

    assert [False, True] == [found["discard-data"] for found in objects(context)]


def test_folder_of_files() -> None:
    """The folder of memory in files is made."""
    context = context_of("<memoryBacking><source type='file'/></memoryBacking>")

    assert of_kind(context, Folder) == [Folder(f"{FOLDERS.state}/memory", "memory-backing.source")]


def test_locked_and_unshared() -> None:
    """Memory can be locked, and kept out of the merging of equal pages."""
    context = context_of("<memoryBacking><locked/><nosharepages/></memoryBacking>")

    assert ["mem-lock=on"] == values(context, "-overcommit")
    assert "mem-merge=off" in (values(context, "-machine")[0] or "")


def test_nodes() -> None:
    """Each node has an object and its processors; their sum is the memory."""
    context = context_of(NUMA.format(distances=""), memory="<memory unit='GiB'>1</memory>")

    assert ["size=65536k"] == values(context, "-m")
    assert [
        "node,nodeid=0,cpus=0-1,memdev=ram-node0",
        "node,nodeid=1,cpus=2-3,memdev=ram-node1",
    ] == values(context, "-numa")
    assert [None, True] == [found.get("share") for found in objects(context)]
    assert "memory-backend" not in (values(context, "-machine")[0] or "")


def test_nodes_alone() -> None:
    """A document may leave the sum of its nodes to its reader."""
    assert ["size=65536k"] == values(context_of(NUMA.format(distances=""), memory=""), "-m")
    assert refusal_of(all_parts, context_of(memory="")).element == "memory"


def test_balloon_of_nodes() -> None:
    """What the guest gives up is held against the sum of its nodes."""
    memory = "<memory unit='MiB'>32</memory><currentMemory unit='MiB'>32</currentMemory>"

    (found,) = of_kind(context_of(NUMA.format(distances=""), memory=memory), Command)

    assert found == Command("balloon", {"value": 32 * MIB}, "current-memory")


def test_memory_that_cannot_be_given_up() -> None:
    """A guest without a balloon keeps all of its memory, as in libvirt, and the user is told."""
    memory = "<memory unit='MiB'>64</memory><currentMemory unit='MiB'>32</currentMemory>"
    context = context_of(memory=memory, devices="<memballoon model='none'/>")

    assert ["current-memory"] == [remark.key for remark in of_kind(context, Remark)]
    assert [] == of_kind(context, Command)


def test_distances() -> None:
    """One distance that is said makes all of them be said, the way back included."""
    context = context_of(
        NUMA.format(distances="<distances><sibling id='1' value='31'/></distances>")
    )

    assert [
        "dist,src=0,dst=0,val=10",
        "dist,src=0,dst=1,val=31",
        "dist,src=1,dst=0,val=31",
        "dist,src=1,dst=1,val=10",
    ] == values(context, "-numa")[2:]


def test_pages_of_nodes() -> None:
    """Pages that name a node are for that node, others for the rest."""
    backing = "<hugepages><page size='2' unit='MiB'/><page size='1' unit='GiB' nodeset='1'/>"
    context = context_of(
        NUMA.format(distances="") + f"<memoryBacking>{backing}</hugepages></memoryBacking>"
    )

    assert [2 * MIB, 1024 * MIB] == [found["hugetlbsize"] for found in objects(context)]


def test_pages_of_other_nodes() -> None:
    """A node that no pages are for has none."""
    backing = "<hugepages><page size='2' unit='MiB' nodeset='1'/></hugepages>"
    context = context_of(NUMA.format(distances="") + f"<memoryBacking>{backing}</memoryBacking>")

    assert [None, True] == [found.get("hugetlb") for found in objects(context)]


def test_host_nodes() -> None:
    """Nodes of the host are for the whole memory, or for single nodes of the guest."""
    tune = (
        "<numatune><memory mode='interleave' nodeset='0-2,^1'/>"
        "<memnode cellid='1' mode='strict' nodeset='3'/></numatune>"
    )
    context = context_of(NUMA.format(distances="") + tune)

    assert [([0, 2], "interleave"), ([3], "bind")] == [
        (found["host-nodes"], found["policy"]) for found in objects(context)
    ]


def device(context: Context) -> Device:
    """Return the only module of memory."""
    (found,) = (part for part in of_kind(context, Device) if part.id == "memory0")
    return found


@pytest.mark.parametrize(
    ("module", "driver", "backend", "properties"),
    [
        (
            (
                "<memory model='dimm'><target><size unit='MiB'>63</size><node>0</node></target>"
                "<address type='dimm' slot='2' base='0x100000000'/></memory>"
            ),
            "pc-dimm",
            {"qom-type": "memory-backend-ram", "size": 64 * MIB},
            {"node": 0, "slot": 2, "addr": 0x100000000},
        ),
        (
            (
                "<memory model='nvdimm'><source><path>/tmp/nv</path></source>"
                "<target><size unit='MiB'>64</size><label><size unit='KiB'>128</size></label>"
                "</target></memory>"
            ),
            "nvdimm",
            {
                "qom-type": "memory-backend-file",
                "mem-path": "/tmp/nv",
                "prealloc": True,
                "size": 64 * MIB,
            },
            {"label-size": 128 * 1024},
        ),
        (
            (
                "<memory model='virtio-mem'><target><size unit='MiB'>64</size>"
                "<block unit='MiB'>2</block><requested unit='MiB'>32</requested></target></memory>"
            ),
            "virtio-mem-pci",
            {"qom-type": "memory-backend-ram", "size": 64 * MIB, "reserve": False},
            {"block-size": 2 * MIB, "requested-size": 32 * MIB},
        ),
        (
            (
                "<memory model='virtio-pmem'><source><path>/tmp/p</path></source>"
                "<target><size unit='MiB'>64</size></target></memory>"
            ),
            "virtio-pmem-pci",
            {
                "qom-type": "memory-backend-file",
                "mem-path": "/tmp/p",
                "share": True,
                "size": 64 * MIB,
            },
            {},
        ),
    ],
)
def test_modules(
    module: str, driver: str, backend: dict[str, object], properties: dict[str, object]
) -> None:
    """Each kind of module is a device with an object behind it."""
    context = context_of(memory=ROOM, devices=module)

    found = device(context)

    assert found.driver == driver
    assert {"id": "memmemory0", **backend} in objects(context)
    said = {key: value for key, value in found.properties.items() if value is not None}
    assert said == {"memdev": "memmemory0", **properties}


def test_nvdimm_needs_a_switch() -> None:
    """A machine with an NVDIMM says so."""
    module = (
        "<memory model='nvdimm'><source><path>/nv</path></source>"
        "<target><size unit='MiB'>64</size></target></memory>"
    )
    context = context_of(memory=ROOM, devices=module)

    assert "nvdimm=on" in (values(context, "-machine")[0] or "")


@pytest.mark.parametrize(
    ("top", "memory", "devices", "key"),
    [
        (
            "<memoryBacking><hugepages><page size='2048' nodeset='0'/></hugepages></memoryBacking>",
            "",
            "",
            "memory-backing.huge-pages.pages[0].nodes",
        ),
        (
            "<numatune><memnode cellid='0' mode='strict' nodeset='0'/></numatune>",
            "",
            "",
            "numa-tune.cells[0].cell",
        ),
        (
            "<memoryBacking><hugepages/><allocation mode='ondemand'/></memoryBacking>",
            "",
            "",
            "memory-backing.allocation",
        ),
        (
            "<memoryBacking><hugepages/><source type='anonymous'/></memoryBacking>",
            "",
            "",
            "memory-backing.source",
        ),
        ("", ROOM.replace("GiB", "MiB"), "", "max-memory.size"),
        (
            "",
            "<memory unit='MiB'>128</memory>",
            "<memory model='dimm'><target><size unit='MiB'>64</size></target></memory>",
            "memory-devices[0]",
        ),
        (
            "",
            ROOM,
            "<memory model='nvdimm'><target><size unit='MiB'>64</size></target></memory>",
            "memory-devices[0].file",
        ),
        (
            "",
            ROOM,
            "<memory model='dimm'><target><size unit='MiB'>64</size><readonly/></target></memory>",
            "memory-devices[0].read-only",
        ),
        (
            "",
            ROOM,
            (
                "<memory model='dimm'><target><size unit='MiB'>64</size></target>"
                "<address type='pci' slot='3'/></memory>"
            ),
            "memory-devices[0].address",
        ),
    ],
)
def test_refusals(top: str, memory: str, devices: str, key: str) -> None:
    """What cannot be is refused, with its key."""
    context = context_of(top, memory=memory or "<memory>65536</memory>", devices=devices)

    assert refusal_of(all_parts, context).element == key


def test_no_limit_is_not_a_limit() -> None:
    """Limits that limit nothing are fine."""
    context = context_of("<memtune><hard_limit>9007199254740991</hard_limit></memtune>")

    assert ["size=65536k"] == values(context, "-m")


def test_rounding_moves_no_balloon() -> None:
    """What is rounded up is the guest's to keep."""
    context = context_of(memory="<memory>219100</memory><currentMemory>219100</currentMemory>")

    assert of_kind(context, Command) == []


@pytest.mark.parametrize(("current", "commands"), [(64, []), (65, []), (32, [{"value": 32 * MIB}])])
def test_balloon(current: int, commands: list[dict[str, object]]) -> None:
    """Less memory than there is becomes a request to the balloon."""
    context = context_of(
        memory=f"<memory unit='MiB'>64</memory><currentMemory unit='MiB'>{current}</currentMemory>"
    )

    assert commands == [command.arguments for command in of_kind(context, Command)]


@pytest.mark.parametrize(("current", "said"), [(65537, 1), (65536, 0), (None, 0)])
def test_more_than_all_memory_is_cut_and_said(current: int | None, said: int) -> None:
    """As in libvirt, the guest starts with the memory that there is."""
    inner = "" if current is None else f"<currentMemory>{current}</currentMemory>"
    context = context_of(memory=f"<memory>65536</memory>{inner}")

    remarks = [one for one in all_parts(context) if isinstance(one, Remark)]
    keys = [one.key for one in remarks if "more than the memory of the VM" in one.text]

    assert ["current-memory"] * said == keys
