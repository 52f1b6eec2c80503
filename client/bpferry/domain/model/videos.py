# SPDX-License-Identifier: LGPL-2.1-or-later
"""The graphics cards of the guest."""

from typing import Annotated, Literal

import msgspec

from bpferry.domain.binding import At, Form, Placed
from bpferry.domain.model.base import VirtioDevice

MAX_MEMORY_KIB = 4 * 1024 * 1024 - 1
"""Memory of one graphics card: libvirt keeps the number of bytes in 32 bits."""

MemoryKib = Annotated[int, msgspec.Meta(ge=0, le=MAX_MEMORY_KIB)]
"""0 means the default."""


class Video(VirtioDevice, frozen=True, kw_only=True):
    """One graphics card. Memory sizes are for QXL, except ``vram_kib``, which VGA has too."""

    model: Placed[
        Literal["vga", "cirrus", "vmvga", "qxl", "virtio", "bochs", "ramfb", "none", None],
        At("model/@type"),
    ] = None
    # "vhostuser" is a process of its own, and "qemu" is QEMU itself.
    backend: Placed[Literal["qemu", "vhostuser", None], At("driver/@name")] = None
    ram_kib: Placed[MemoryKib | None, At("model/@ram")] = None
    vram_kib: Placed[MemoryKib | None, At("model/@vram")] = None
    vram64_kib: Placed[MemoryKib | None, At("model/@vram64")] = None
    vgamem_kib: Placed[MemoryKib | None, At("model/@vgamem")] = None
    heads: Placed[Annotated[int, msgspec.Meta(ge=1, le=65535)] | None, At("model/@heads")] = None
    """Monitors."""
    primary: Placed[bool | None, At("model/@primary", Form.YES_NO)] = None
    """The one that the firmware draws on; by default the first."""
    blob: Placed[bool | None, At("model/@blob", Form.ON_OFF)] = None
    accel3d: Placed[bool | None, At("model/acceleration/@accel3d", Form.YES_NO)] = None
    accel2d: Placed[bool | None, At("model/acceleration/@accel2d", Form.YES_NO)] = None
    render_node: Placed[str | None, At("model/acceleration/@rendernode", Form.FILE)] = None
    """The GPU of the host that draws."""
    width: Placed[
        Annotated[int, msgspec.Meta(ge=1, le=65535)] | None, At("model/resolution/@x")
    ] = None
    """Of the first mode that the guest is offered, in pixels."""
    height: Placed[
        Annotated[int, msgspec.Meta(ge=1, le=65535)] | None, At("model/resolution/@y")
    ] = None
