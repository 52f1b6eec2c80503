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

Policy = Literal["strict", "preferred", "interleave", "restrictive"]
"""How memory is taken from the host's nodes, for QEMU to do itself (mbind(2)).

``restrictive`` needs a cgroup, which libvirt's session mode does not have either.
"""


class Sibling(Table, frozen=True, kw_only=True):
    """How far another node is."""

    id: Annotated[Node, At("@id")]
    value: Annotated[Annotated[int, msgspec.Meta(ge=10, le=255)], At("@value")]


class NumaCache(Table, frozen=True, kw_only=True):
    """A cache on the memory's side of a node."""

    level: Annotated[Literal[1, 2, 3], At("@level")]
    associativity: Annotated[Literal["none", "direct", "full"], At("@associativity")]
    policy: Annotated[Literal["none", "writeback", "writethrough"], At("@policy")]
    size: Annotated[int, At("size/@value", Form.SIZE)]
    """Bytes."""
    line: Annotated[int, At("line/@value", Form.SIZE, unit="bytes")]
    """Bytes of one line."""


class Latency(Table, frozen=True, kw_only=True):
    """How long processors of one node wait for memory of another."""

    initiator: Annotated[Node, At("@initiator")]
    target: Annotated[Node, At("@target")]
    cache: Annotated[Literal[0, 1, 2, 3], At("@cache")] = 0
    """The level of the cache that is meant, or 0 for memory itself."""
    type: Annotated[Literal["access", "read", "write"], At("@type")]
    value: Annotated[Annotated[int, msgspec.Meta(ge=1, le=2**48)], At("@value")]
    """Nanoseconds."""


class Bandwidth(Table, frozen=True, kw_only=True):
    """How many bytes per second go between processors of one node and memory of another."""

    initiator: Annotated[Node, At("@initiator")]
    target: Annotated[Node, At("@target")]
    cache: Annotated[Literal[0, 1, 2, 3], At("@cache")] = 0
    type: Annotated[Literal["access", "read", "write"], At("@type")]
    value: Annotated[int, At("@value", Form.SIZE)]
    """Bytes per second."""


class NumaCell(Table, frozen=True, kw_only=True):
    """One node of the guest."""

    id: Annotated[Node | None, At("@id")] = None
    cpus: Annotated[NumberSet | None, At("@cpus")] = None
    memory: Annotated[int, At("@memory", Form.SIZE)]
    """Bytes."""
    access: Annotated[Literal["shared", "private"] | None, At("@memAccess")] = None
    discard: Annotated[bool | None, At("@discard", Form.YES_NO)] = None
    distances: Annotated[tuple[Sibling, ...], At("distances/sibling")] = ()
    caches: Annotated[tuple[NumaCache, ...], At("cache")] = ()


class NodeMemory(Table, frozen=True, kw_only=True):
    """Where the memory of one node of the guest comes from."""

    cell: Annotated[Node, At("@cellid")]
    mode: Annotated[Policy, At("@mode", always=True)] = "strict"
    nodes: Annotated[NumberSet, At("@nodeset")]


class NumaTune(Table, frozen=True, kw_only=True):
    """Where the guest's memory comes from."""

    mode: Annotated[Policy, At("memory/@mode")] = "strict"
    placement: Annotated[Literal["static", "auto"], At("memory/@placement")] = "static"
    """With ``auto``, the kernel chooses the nodes."""
    nodes: Annotated[NumberSet | None, At("memory/@nodeset")] = None
    cells: Annotated[tuple[NodeMemory, ...], At("memnode")] = ()
