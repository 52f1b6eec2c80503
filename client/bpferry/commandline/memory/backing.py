# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where memory comes from: the objects behind the guest's memory.

Huge pages come from memfd_create(2), which needs no mounted file system and no privilege; libvirt
maps files in /dev/hugepages. Memory that processes share without a file comes from memfd as well.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec import Struct

from bpferry.commandline.context import Context, mistaken
from bpferry.commandline.memory.nodes import nodes_of
from bpferry.commandline.numbers import parse_numbers
from bpferry.domain.model.memory import MemoryBacking
from bpferry.domain.model.numa import NodeMemory, NumaCell, NumaTune
from bpferry.domain.names import Named, listed

if TYPE_CHECKING:
    from bpferry.domain.model.memory import HugePage, HugePages

POLICIES = {"strict": "bind", "preferred": "preferred", "interleave": "interleave"}
"""QEMU's words (QAPI HostMemPolicy)."""

RESTRICTIVE = "restrictive"
"""The policy that libvirt leaves to a cgroup."""

USUAL_PAGE = 4096
"""A page of this size is not a huge page; true for x86 and most other hosts."""


class Block(Struct, frozen=True):
    """One piece of memory of the guest."""

    id: str
    key: str
    size: int
    """Bytes."""
    node: int | None = None
    """The guest's node that it belongs to."""
    access: str | None = None
    page_size: int | None = None
    """The size of huge pages that this block asks for itself."""
    host_nodes: str | None = None
    file: str | None = None
    """The file that it is in, whatever the rest of the memory is."""
    discard: bool | None = None
    """Whether a file's contents may be discarded at the end; other memory always is."""
    preallocate: bool | None = None
    """None to use the VM's memory setting."""


def memory_object(context: Context, block: Block) -> dict[str, object]:
    """Return the object behind *block*, as JSON for ``-object``."""
    backing = context.machine.memory_backing or MemoryBacking()
    huge, page_size = _pages(backing, block)
    access = access_of(context, block)
    found: dict[str, object] = {"id": block.id, "size": block.size}
    found["prealloc"] = _preallocates(backing, block, huge=huge) or None
    if found["prealloc"]:
        found["prealloc-threads"] = backing.allocation_threads
    found |= _placement(context, block)
    if access is not None:
        found["share"] = access == "shared"
    if block.file is not None:
        return {"qom-type": "memory-backend-file", **found, "mem-path": block.file}
    found |= _source(context, block, huge=huge, page_size=page_size)
    return {"qom-type": _kind(backing, access, huge=huge), **found}


def access_of(context: Context, block: Block) -> str | None:
    """Return who sees what the guest writes to *block*; it, its node or the VM says so."""
    cell, backing = _cell_of(context, block), context.machine.memory_backing
    of_node = cell.access if cell else None
    return block.access or of_node or (backing.access if backing else None)


def _cell_of(context: Context, block: Block) -> NumaCell | None:
    """Return the node of the guest that *block* belongs to, if any."""
    nodes = nodes_of(context.machine)
    if block.node is None or block.node >= len(nodes):
        return None
    return nodes[block.node].cell


def is_preallocated(context: Context, block: Block) -> bool:
    """Say whether *block* would be allocated at the start, like the VM's other memory."""
    backing = context.machine.memory_backing or MemoryBacking()
    huge, _ = _pages(backing, block)
    return _preallocates(backing, block, huge=huge)


def folder_of(context: Context) -> str:
    """Return the folder for memory that is kept in files."""
    return f"{context.folders.state}/memory"


def _kind(backing: MemoryBacking, access: str | None, *, huge: bool) -> str:
    if huge or backing.source == "memfd" or (backing.source is None and access == "shared"):
        return "memory-backend-memfd"
    return "memory-backend-file" if backing.source == "file" else "memory-backend-ram"


def _source(
    context: Context, block: Block, *, huge: bool, page_size: int | None
) -> dict[str, object]:
    backing = context.machine.memory_backing or MemoryBacking()
    if huge:
        return {"hugetlb": True, "hugetlbsize": page_size}
    if backing.source == "file":
        return {"mem-path": folder_of(context), "discard-data": _discards(context, block)}
    return {}


def _discards(context: Context, block: Block) -> bool | None:
    """Return what *block*, its node or the VM says about its contents."""
    cell, backing = _cell_of(context, block), context.machine.memory_backing
    if block.discard is not None:
        return block.discard
    if cell is not None and cell.discard is not None:
        return cell.discard
    return True if backing and backing.discard else None


def _preallocates(backing: MemoryBacking, block: Block, *, huge: bool) -> bool:
    if block.preallocate is not None:
        return block.preallocate
    if huge and backing.allocation == "ondemand":
        raise mistaken(
            "memory-backing.allocation",
            "huge pages are allocated at the start",
            "leave the allocation out, or write 'immediate'",
        )
    return huge or backing.allocation == "immediate"


def _pages(backing: MemoryBacking, block: Block) -> tuple[bool, int | None]:
    """Return whether *block* has huge pages, and of which size if one is named."""
    if block.file is not None:
        return False, None
    if block.page_size is not None:
        return block.page_size != USUAL_PAGE, block.page_size
    if backing.huge_pages is None:
        return False, None
    page = _page_of(backing.huge_pages, block.node)
    if page is None and backing.huge_pages.pages:
        return False, None
    if backing.source == "anonymous":
        raise mistaken(
            "memory-backing.source",
            "huge pages cannot come from anonymous memory",
            "leave the source out, or the huge pages",
        )
    if page is None:
        return True, None
    return page.size != USUAL_PAGE, page.size


def _page_of(huge: "HugePages", node: int | None) -> "HugePage | None":
    """Return the pages for *node*: those that name it, or those that name none."""
    general = None
    for page in pages_of(huge):
        nodes = page.value.nodes
        if nodes is None:
            general = page.value
        elif node in parse_numbers(nodes, f"{page.key}.nodes"):
            return page.value
    return general


def pages_of(huge: "HugePages | None") -> "Iterator[Named[HugePage]]":
    """Yield the kinds of huge pages that the VM's memory uses."""
    return listed(huge.pages if huge else (), "memory-backing.huge-pages.pages")


def cells_of(tune: NumaTune | None) -> Iterator[Named[NodeMemory]]:
    """Yield the host nodes that single nodes of the guest are bound to."""
    return listed(tune.cells if tune else (), "numa-tune.cells")


def _placement(context: Context, block: Block) -> dict[str, object]:
    """Return the host's nodes that *block* comes from, and how."""
    mode, nodes, key = _tuned(context, block)
    if block.host_nodes is not None:
        nodes, key = block.host_nodes, f"{block.key}.host-nodes"
    if nodes is None or mode == RESTRICTIVE:
        return {}
    return {"host-nodes": list(parse_numbers(nodes, key)), "policy": POLICIES[mode]}


def _tuned(context: Context, block: Block) -> tuple[str, str | None, str]:
    """Return the policy, the host's nodes if any, and the key that names them."""
    tune = context.machine.numa_tune
    if tune is None or tune.placement == "auto":
        return "strict" if tune is None else tune.mode, None, ""
    for cell in cells_of(tune):
        if cell.value.cell == block.node:
            return cell.value.mode, cell.value.nodes, f"{cell.key}.nodes"
    return tune.mode, tune.nodes, "numa-tune.nodes"
