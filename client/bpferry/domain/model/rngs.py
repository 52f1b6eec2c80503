# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sources of random numbers, behind which there may be a character device."""

from typing import Annotated, Literal

from bpferry.domain.binding import At, Form
from bpferry.domain.model.base import VirtioDevice
from bpferry.domain.model.characters import BackEnd, Source
from bpferry.domain.model.extras import Count, VirtioModel


class Rng(VirtioDevice, frozen=True, kw_only=True):
    """A source of random numbers for the guest."""

    model: Annotated[VirtioModel, At("@model", always=True)] = "virtio"
    backend: Annotated[Literal["random", "builtin", "egd"], At("backend/@model")]
    """A file of the host, QEMU's own generator, or a daemon behind a character device.
    """
    file: Annotated[str | None, At("backend", Form.FILE)] = None
    """For the back end random; /dev/random if none is named."""
    type: Annotated[BackEnd | None, At("backend/@type")] = None
    """The type of the character device; it and the next two are for egd."""
    sources: Annotated[tuple[Source, ...], At("backend/source")] = ()
    protocol: Annotated[Literal["raw", "telnet"] | None, At("backend/protocol/@type")] = None
    max_bytes: Annotated[Count | None, At("rate/@bytes")] = None
    """Bytes that the guest gets in each period."""
    period: Annotated[Count | None, At("rate/@period")] = None
    """Milliseconds; 1000 by default."""
