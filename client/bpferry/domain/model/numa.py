# SPDX-License-Identifier: LGPL-2.1-or-later
"""NUMA: the guest's nodes, and the host's nodes that their memory comes from."""

from typing import Annotated, Final, Literal

import msgspec

from bpferry.domain.binding import At, Form, Placed, Table

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

    id: Placed[Node, At("@id")]
    value: Placed[Annotated[int, msgspec.Meta(ge=10, le=255)], At("@value")]


class NumaCache(Table, frozen=True, kw_only=True):
    """A cache on the memory's side of a node."""

    level: Placed[Literal[1, 2, 3], At("@level")]
    associativity: Placed[Literal["none", "direct", "full"], At("@associativity")]
    policy: Placed[Literal["none", "writeback", "writethrough"], At("@policy")]
    size: Placed[int, At("size/@value", Form.SIZE)]
    """Bytes."""
    line: Placed[int, At("line/@value", Form.SIZE, unit="bytes")]
    """Bytes of one line."""


class Latency(Table, frozen=True, kw_only=True):
    """How long processors of one node wait for memory of another."""

    initiator: Placed[Node, At("@initiator")]
    target: Placed[Node, At("@target")]
    cache: Placed[Literal[0, 1, 2, 3], At("@cache")] = 0
    """The level of the cache that is meant, or 0 for memory itself."""
    type: Placed[Literal["access", "read", "write"], At("@type")]
    value: Placed[Annotated[int, msgspec.Meta(ge=1, le=2**48)], At("@value")]
    """Nanoseconds."""


class Bandwidth(Table, frozen=True, kw_only=True):
    """How many bytes per second go between processors of one node and memory of another."""

    initiator: Placed[Node, At("@initiator")]
    target: Placed[Node, At("@target")]
    cache: Placed[Literal[0, 1, 2, 3], At("@cache")] = 0
    type: Placed[Literal["access", "read", "write"], At("@type")]
    value: Placed[int, At("@value", Form.SIZE)]
    """Bytes per second."""


class NumaCell(Table, frozen=True, kw_only=True):
    """One node of the guest."""

    id: Placed[Node | None, At("@id")] = None
    cpus: Placed[NumberSet | None, At("@cpus")] = None
    memory: Placed[int, At("@memory", Form.SIZE)]
    """Bytes."""
    access: Placed[Literal["shared", "private", None], At("@memAccess")] = None
    discard: Placed[bool | None, At("@discard", Form.YES_NO)] = None
    distances: Placed[tuple[Sibling, ...], At("distances/sibling")] = ()
    caches: Placed[tuple[NumaCache, ...], At("cache")] = ()


class NodeMemory(Table, frozen=True, kw_only=True):
    """Where the memory of one node of the guest comes from."""

    cell: Placed[Node, At("@cellid")]
    mode: Placed[Policy, At("@mode", always=True)] = "strict"
    nodes: Placed[NumberSet, At("@nodeset")]


class NumaTune(Table, frozen=True, kw_only=True):
    """Where the guest's memory comes from."""

    mode: Placed[Policy, At("memory/@mode")] = "strict"
    placement: Placed[Literal["static", "auto"], At("memory/@placement")] = "static"
    """With ``auto``, the kernel chooses the nodes."""
    nodes: Placed[NumberSet | None, At("memory/@nodeset")] = None
    cells: Placed[tuple[NodeMemory, ...], At("memnode")] = ()
