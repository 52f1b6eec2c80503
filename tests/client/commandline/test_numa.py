# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guest's NUMA nodes on the command line, and where their memory comes from."""

import json

import pytest

from bpferry.commandline.context import Context
from bpferry.commandline.parts import Remark
from tests.client.commandline.system_parts import all_parts, context_of, of_kind, values
from tests.client.refusals import refusal_of

CELL = "<cell id='{}' {} memory='{}' unit='MiB'/>"

HMAT = """\
<vcpu>2</vcpu>
<cpu><numa>
  <cell id='0' cpus='0-1' memory='32' unit='MiB'>
    <cache level='1' associativity='{}' policy='{}'>
      <size value='10' unit='KiB'/><line value='8' unit='B'/>
    </cache>
  </cell>
  <cell id='1' memory='32' unit='MiB'/>
  <interconnects>
    <latency initiator='0' target='0' type='access' value='5'/>
    <latency initiator='0' target='0' cache='1' type='read' value='10'/>
    <bandwidth initiator='0' target='1' type='write' value='200' unit='MiB'/>
  </interconnects>
</numa></cpu>"""


def cells(*inner: str, vcpus: int = 4) -> str:
    """Return processors with nodes."""
    return f"<vcpu>{vcpus}</vcpu><cpu><numa>{''.join(inner)}</numa></cpu>"


def sizes(context: Context) -> dict[str, int]:
    """Return how much memory each node has, in MiB."""
    objects = [json.loads(value or "") for value in values(context, "-object")]
    return {found["id"]: found["size"] // 2**20 for found in objects}


def test_order_of_the_document_does_not_count() -> None:
    """Nodes are in the order of their numbers, each with its own memory, pages and places."""
    context = context_of(
        cells(CELL.format(1, "cpus='2-3'", 48), CELL.format(0, "cpus='0-1'", 32))
        + "<numatune><memnode cellid='1' mode='strict' nodeset='3'/></numatune>"
    )

    assert {"ram-node0": 32, "ram-node1": 48} == sizes(context)
    assert [
        "node,nodeid=0,cpus=0-1,memdev=ram-node0",
        "node,nodeid=1,cpus=2-3,memdev=ram-node1",
    ] == values(context, "-numa")
    assert '"host-nodes":[3]' in (values(context, "-object")[1] or "")


def test_number_of_a_node_is_its_place_where_none_is_said() -> None:
    """A document may leave the numbers out."""
    cell = "<cell cpus='{}' memory='32' unit='MiB'/>"

    assert ["0", "1"] == [
        (value or "").split(",")[1].removeprefix("nodeid=")
        for value in values(context_of(cells(cell.format("0"), cell.format("1-3"))), "-numa")
    ]


def test_processors_of_no_node_belong_to_the_first() -> None:
    """Those that no node names are node 0's, as in libvirt."""
    context = context_of(
        cells(CELL.format(1, "cpus='1'", 32), CELL.format(0, "cpus='2'", 32), vcpus=5)
    )

    assert "node,nodeid=0,cpus=0,cpus=2-4,memdev=ram-node0" == values(context, "-numa")[0]


@pytest.mark.parametrize(
    ("inner", "key"),
    [
        ((CELL.format(0, "cpus='0'", 32), CELL.format(0, "cpus='1'", 32)), "cpu.numa[1].id"),
        ((CELL.format(0, "cpus='0'", 32), CELL.format(2, "cpus='1'", 32)), "cpu.numa[1].id"),
        ((CELL.format(0, "cpus='0'", 32), CELL.format(1, "cpus='0-1'", 32)), "cpu.numa[1].cpus"),
        ((CELL.format(0, "cpus='0-4'", 32),), "cpu.numa[0].cpus"),
        ((CELL.format(0, "cpus='0-3'", 0),), "cpu.numa[0].memory"),
    ],
)
def test_impossible_nodes(inner: tuple[str, ...], key: str) -> None:
    """Each number and each processor is there once, and each node has memory."""
    assert refusal_of(all_parts, context_of(cells(*inner))).element == key


@pytest.mark.parametrize(
    ("associativity", "policy", "words"),
    [
        ("none", "none", "associativity=none,policy=none"),
        ("direct", "writeback", "associativity=direct,policy=write-back"),
        ("full", "writethrough", "associativity=complex,policy=write-through"),
    ],
)
def test_how_fast_memory_is(associativity: str, policy: str, words: str) -> None:
    """Latencies, bandwidths and caches are said after the nodes, and caches last."""
    context = context_of(HMAT.format(associativity, policy))

    assert "hmat=on" in (values(context, "-machine")[0] or "")
    assert [
        "node,nodeid=0,cpus=0-1,initiator=0,memdev=ram-node0",
        "node,nodeid=1,initiator=0,memdev=ram-node1",
        "hmat-lb,initiator=0,target=0,hierarchy=memory,data-type=access-latency,latency=5",
        "hmat-lb,initiator=0,target=0,hierarchy=first-level,data-type=read-latency,latency=10",
        "hmat-lb,initiator=0,target=1,hierarchy=memory,data-type=write-bandwidth,bandwidth=204800K",
        f"hmat-cache,node-id=0,size=10K,level=1,{words},line=8",
    ] == values(context, "-numa")


@pytest.mark.parametrize(
    ("between", "initiator"),
    [
        ("", 0),
        ("<bandwidth initiator='1' target='2' type='access' value='9'/>", 1),
        (
            (
                "<bandwidth initiator='1' target='2' type='access' value='9'/>"
                "<latency initiator='0' target='2' type='access' value='9'/>"
                "<latency initiator='1' target='2' type='access' value='8'/>"
            ),
            1,
        ),
    ],
)
def test_node_without_processors_has_the_nearest(between: str, initiator: int) -> None:
    """The node that reaches its memory best is its initiator, by latency if that is said."""
    found = context_of(
        cells(
            CELL.format(0, "cpus='0-1'", 32),
            CELL.format(1, "cpus='2-3'", 32),
            CELL.format(2, "", 32),
            "<interconnects><latency initiator='0' target='0' type='access' value='1'/>"
            f"{between}</interconnects>",
        )
    )

    assert f"node,nodeid=2,initiator={initiator},memdev=ram-node2" == values(found, "-numa")[2]


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("initiator='0' target='1'", "initiator='1' target='1'", "cpu.bandwidths[0].initiator"),
        ("initiator='0' target='1'", "initiator='0' target='2'", "cpu.bandwidths[0].target"),
        (
            "</cache>",
            (
                "</cache><cache level='1' associativity='none' policy='none'><size value='1'/>"
                "<line value='1'/></cache>"
            ),
            "cpu.numa[0].caches[1].level",
        ),
    ],
)
def test_impossible_table(old: str, new: str, key: str) -> None:
    """Who looks at memory has processors, what is looked at is there, and a cache is there once."""
    refusal = refusal_of(all_parts, context_of(HMAT.format("none", "none").replace(old, new)))
    assert refusal.element == key


def test_machine_without_the_table() -> None:
    """A machine that cannot tell the guest how fast memory is refuses to be asked."""
    refusal = refusal_of(all_parts, context_of(HMAT.format("none", "none"), machine="microvm"))
    assert refusal.element == "cpu.numa"


@pytest.mark.parametrize("nodes", ["", "nodeset='0-1'"])
def test_nodes_that_libvirt_asks_about(nodes: str) -> None:
    """Where numad would choose the nodes, the kernel does, and the user is told."""
    context = context_of(
        f"<numatune><memory mode='interleave' placement='auto' {nodes}/></numatune>"
    )

    (remark,) = of_kind(context, Remark)
    assert remark.key == "numa-tune.placement"
    assert "host-nodes" not in (values(context, "-object")[0] or "")


def test_policy_of_a_control_group() -> None:
    """What libvirt leaves to a control group is not said to QEMU, and the user is told."""
    context = context_of(
        cells(CELL.format(0, "cpus='0-3'", 32))
        + "<numatune><memory mode='restrictive' nodeset='0'/>"
        "<memnode cellid='0' mode='restrictive' nodeset='3'/></numatune>",
        memory="<memory unit='MiB'>32</memory>",
    )

    (remark,) = of_kind(context, Remark)
    assert remark.key == "numa-tune.mode"
    assert "host-nodes" not in (values(context, "-object")[0] or "")


def test_policy_of_a_control_group_is_that_of_all() -> None:
    """A node cannot have it alone."""
    tune = "<numatune><memnode cellid='0' mode='restrictive' nodeset='3'/></numatune>"

    refusal = refusal_of(all_parts, context_of(cells(CELL.format(0, "", 32)) + tune))
    assert refusal.element == "numa-tune.cells[0].mode"


def test_node_is_rounded_up_to_a_whole_mib() -> None:
    """As in libvirt."""
    odd = CELL.replace("MiB", "KiB")
    context = context_of(
        cells(odd.format(0, "cpus='0-1'", 109550), odd.format(1, "cpus='2-3'", 109550)),
        memory="<memory unit='KiB'>219100</memory>",
    )

    assert {"ram-node0": 107, "ram-node1": 107} == sizes(context)
    assert ["size=219136k"] == values(context, "-m")
    assert [] == of_kind(context, Remark)


def test_odd_nodes_that_are_not_the_memory_are_refused() -> None:
    """Which of the two is meant cannot be told."""
    odd = CELL.replace("MiB", "KiB")
    text = cells(odd.format(0, "cpus='0-3'", 109550))

    error = refusal_of(all_parts, context_of(text, memory="<memory unit='GiB'>2</memory>"))

    assert ("memory", True) == (error.element, "neither this nor a whole" in error.message)


def test_sum_of_the_nodes_counts() -> None:
    """As in libvirt, and its user is told where <memory> says otherwise."""
    context = context_of(
        cells(CELL.format(0, "cpus='0-3'", 32)), memory="<memory unit='GiB'>2</memory>"
    )

    assert ["size=32768k"] == values(context, "-m")
    assert [
        Remark(
            "the VM gets 32 MiB, the sum of its NUMA nodes and modules, and not 2048 MiB",
            "write 32 MiB here",
            "memory",
        )
    ] == of_kind(context, Remark)
