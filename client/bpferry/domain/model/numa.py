# SPDX-License-Identifier: LGPL-2.1-or-later
"""NUMA: the guest's nodes, and the host's nodes that their memory comes from."""

from typing import Annotated, Final, Literal

import msgspec

from bpferry.domain.binding import At, Form, Table

MAX_NODES: Final = 128
"""MAX_NODES of include/sysemu/numa.h in QEMU 10.0."""

Node = Annotated[int, msgspec.Meta(ge=0, lt=MAX_NODES)]

NumberSet = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^([0-9]{1,6}(-[0-9]{1,6})?|\^[0-9]{1,6})(,([0-9]{1,6}(-[0-9]{1,6})?|\^[0-9]{1,6}))*$",
        description="numbers such as 0-3,^1,8",
    ),
]
"""Numbers of processors or nodes, such as ``0-3,^1,8``."""

Policy = Literal["strict", "preferred", "interleave"]
"""How memory is taken from the host's nodes, for QEMU to do itself (mbind(2))."""


class Sibling(Table, frozen=True, kw_only=True):
    """How far another node is."""

    id: Annotated[Node, At("@id")]
    value: Annotated[Annotated[int, msgspec.Meta(ge=10, le=255)], At("@value")]


class NumaCell(Table, frozen=True, kw_only=True):
    """One node of the guest."""

    id: Annotated[Node | None, At("@id")] = None
    cpus: Annotated[NumberSet | None, At("@cpus")] = None
    memory: Annotated[int, At("@memory", Form.SIZE)]
    """Bytes."""
    access: Annotated[Literal["shared", "private"] | None, At("@memAccess")] = None
    discard: Annotated[bool | None, At("@discard", Form.YES_NO)] = None
    distances: Annotated[tuple[Sibling, ...], At("distances/sibling")] = ()


class NodeMemory(Table, frozen=True, kw_only=True):
    """Where the memory of one node of the guest comes from."""

    cell: Annotated[Node, At("@cellid")]
    mode: Annotated[Policy, At("@mode", always=True)] = "strict"
    nodes: Annotated[NumberSet, At("@nodeset")]


class NumaTune(Table, frozen=True, kw_only=True):
    """Where the guest's memory comes from."""

    mode: Annotated[Policy, At("memory/@mode")] = "strict"
    placement: Annotated[Literal["static"], At("memory/@placement")] = "static"
    nodes: Annotated[NumberSet | None, At("memory/@nodeset")] = None
    cells: Annotated[tuple[NodeMemory, ...], At("memnode")] = ()
