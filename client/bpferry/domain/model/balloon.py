# SPDX-License-Identifier: LGPL-2.1-or-later
"""The memory balloon, which most VMs have."""

from typing import Annotated, Literal

import msgspec

from bpferry.domain.binding import At, Form, Placed
from bpferry.domain.model.base import VirtioDevice


class Balloon(VirtioDevice, frozen=True, kw_only=True):
    """The memory balloon; libvirt adds one if a document has none."""

    model: Placed[
        Literal["virtio", "virtio-transitional", "virtio-non-transitional", "none"],
        At("@model", always=True),
    ] = "virtio"
    auto_deflate: Placed[bool | None, At("@autodeflate", Form.ON_OFF)] = None
    """Give memory back to the guest before it has to kill a process."""
    free_page_reporting: Placed[bool | None, At("@freePageReporting", Form.ON_OFF)] = None
    """Whether memory that the guest does not use goes back to the host."""
    stats_period: Placed[
        Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None, At("stats/@period")
    ] = None
    """How often the guest is asked how it uses its memory, in seconds."""
