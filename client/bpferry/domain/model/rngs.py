# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sources of random numbers, behind which there may be a character device."""

from typing import Literal

from bpferry.domain.binding import At, Form, Placed
from bpferry.domain.model.base import VirtioDevice
from bpferry.domain.model.characters import BackEnd, Source
from bpferry.domain.model.extras import Count, VirtioModel


class Rng(VirtioDevice, frozen=True, kw_only=True):
    """A source of random numbers for the guest."""

    model: Placed[VirtioModel, At("@model", always=True)] = "virtio"
    backend: Placed[Literal["random", "builtin", "egd"], At("backend/@model")]
    """A file of the host, QEMU's own generator, or a daemon behind a character device.
    """
    file: Placed[str | None, At("backend", Form.FILE)] = None
    """For the back end random; /dev/random if none is named."""
    type: Placed[BackEnd | None, At("backend/@type")] = None
    """The type of the character device; it and the next two are for egd."""
    sources: Placed[tuple[Source, ...], At("backend/source")] = ()
    protocol: Placed[Literal["raw", "telnet", None], At("backend/protocol/@type")] = None
    max_bytes: Placed[Count | None, At("rate/@bytes")] = None
    """Bytes that the guest gets in each period."""
    period: Placed[Count | None, At("rate/@period")] = None
    """Milliseconds; 1000 by default."""
