# SPDX-License-Identifier: LGPL-2.1-or-later
"""The requests and replies as frozen values. ``packets`` turns them into bytes and back."""

from typing import NamedTuple

from bpferry_wire.errors import Code


class Hello(NamedTuple):
    """Who are you, and who am I to you?"""


class Quota(NamedTuple):
    """How much do I hold, and how much may I hold?"""


class Status(NamedTuple):
    """Who holds what? Answered to uid 0 only."""


class Load(NamedTuple):
    """Load the eBPF object of this id and digest, and hand its programs and maps over."""

    object_id: str
    digest: bytes
    """SHA-256 of the ELF file, 32 bytes."""


class Can(NamedTuple):
    """Would you do this for me? Nothing is made."""

    request: Load


Request = Hello | Quota | Status | Load | Can


class Caller(NamedTuple):
    """The client as the helper sees it."""

    uid: int
    gids: tuple[int, ...]
    """The first MAX_GIDS_SHOWN of them."""
    gid_count: int


class HelloReply(NamedTuple):
    """What the helper is."""

    service: str
    version: str
    caller: Caller
    max_request_bytes: int
    max_fds: int


class QuotaReply(NamedTuple):
    """Sets that the caller holds and may hold, and the same for everybody together."""

    held: int
    allowed: int
    held_by_all: int
    allowed_to_all: int
    counted_by: str
    """``kernel`` if the kernel was asked what is alive; ``connections`` where it cannot say."""


class CanReply(NamedTuple):
    """Whether it is allowed, and what decides."""

    allowed: bool
    because: str


class Grant(NamedTuple):
    """One set that is alive, and to whom it was given."""

    uid: int
    pid: int
    """The process that asked. It may be gone, or another one by now: for a person to read."""
    object_id: str
    age_s: int


class StatusReply(NamedTuple):
    """All grants that are alive, oldest first."""

    grants: tuple[Grant, ...]
    counted_by: str


class FdDescription(NamedTuple):
    """What one fd of a reply is. The sizes of a program are 0."""

    name: str
    kind: str
    """``program`` or ``map``."""
    type: int
    """BPF_PROG_TYPE_* or BPF_MAP_TYPE_* of linux/bpf.h."""
    key_size: int = 0
    """Bytes."""
    value_size: int = 0
    """Bytes."""
    entries: int = 0
    flags: int = 0
    """BPF_F_* of linux/bpf.h."""


class LoadReply(NamedTuple):
    """The fds that came with this packet, in their order: programs, then maps."""

    fds: tuple[FdDescription, ...]


class ErrorReply(NamedTuple):
    """The request was not fulfilled."""

    code: Code
    message: str
    hint: str = ""


Reply = HelloReply | QuotaReply | CanReply | StatusReply | LoadReply
