# SPDX-License-Identifier: LGPL-2.1-or-later
"""Threads for the work of disks, and where threads run."""

from typing import Annotated

import msgspec

from bpferry.domain.binding import At, Placed, Table

Threads = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Amount = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
ThreadId = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]


class ThreadPool(Table, frozen=True, kw_only=True):
    """How many helper threads the main loop has."""

    pool_min: Placed[Threads | None, At("@thread_pool_min")] = None
    pool_max: Placed[Threads | None, At("@thread_pool_max")] = None


class IoThread(Table, frozen=True, kw_only=True):
    """One thread for the work of disks."""

    id: Placed[ThreadId, At("@id")]
    pool_min: Placed[Threads | None, At("@thread_pool_min")] = None
    pool_max: Placed[Threads | None, At("@thread_pool_max")] = None
    poll_max: Placed[Amount | None, At("poll/@max")] = None
    """The longest time of busy polling, in nanoseconds."""
    poll_grow: Placed[Amount | None, At("poll/@grow")] = None
    poll_shrink: Placed[Amount | None, At("poll/@shrink")] = None
