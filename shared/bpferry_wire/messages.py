# SPDX-License-Identifier: LGPL-2.1-or-later
"""The requests and replies as frozen values. ``packets`` turns them into bytes and back."""

from bpferry_wire.errors import Code
from bpferry_wire.frozen import Frozen


class Hello(Frozen):
    """Who are you, and who am I to you?"""


class Quota(Frozen):
    """How much do I hold, and how much may I hold?"""


class Status(Frozen):
    """Who holds what? Answered to uid 0 only."""


class Load(Frozen):
    """Load the eBPF object with this id and digest, and hand over its programs and maps."""

    object_id: str
    digest: bytes
    """SHA-256 of the ELF file, 32 bytes."""
    vm: str = ""
    """What the client calls its VM, clean (``vm_names``); empty if it does not say. For people."""


class Rate(Frozen):
    """What may pass in one direction."""

    average: int
    """Bytes per second over time."""
    peak: int | None = None
    """Bytes per second during a burst; None for any."""
    burst: int | None = None
    """Bytes that may pass faster than the average; None for the helper's choice."""


class Bandwidth(Frozen):
    """The limits of a card; None for no limit."""

    inbound: Rate | None = None
    """To the VM."""
    outbound: Rate | None = None
    """From the VM."""


class Tap(Frozen):
    """Make a tap on a bridge and hand over its queues."""

    source: str
    """Name of a bridge, or of a network that the policy maps to one."""
    is_network: bool
    queues: int
    """From 1 to MAX_QUEUES; one fd each."""
    mtu: int | None = None
    """The guest's MTU in bytes; the request fails if the bridge's is smaller."""
    mac: bytes | None = None
    """The card's address, MAC_BYTES; required if policy ties each port to its address."""
    isolated: bool = False
    """Do not let the port reach other isolated ports of the bridge."""
    vlan: int | None = None
    """The VLAN of the port, untagged, from MIN_VLAN to MAX_VLAN; None for the policy's choice, or
    for none if there are tagged ones."""
    tagged: tuple[int, ...] = ()
    """VLANs whose frames have a tag, also in the guest: at most MAX_TAGGED_VLANS, ascending. Not
    for a tap that stays."""
    bandwidth: Bandwidth = Bandwidth()
    """Limits; those of the policy apply where none is requested."""
    vm: str = ""
    """As in ``Load``."""


class Create(Frozen):
    """Make a tap that stays and belongs to the caller; no fd is handed over."""

    tap: Tap


class ListTaps(Frozen):
    """Which taps are mine?"""


class Delete(Frozen):
    """Delete a tap of mine that was created to stay."""

    interface: str


class Can(Frozen):
    """Would you do this for me? Nothing is made."""

    request: Load | Tap | Create


Request = Hello | Quota | Status | Load | Tap | Create | ListTaps | Delete | Can


class Caller(Frozen):
    """The client as the helper sees it."""

    uid: int
    gids: tuple[int, ...]
    """The first MAX_GIDS_SHOWN of them."""
    gid_count: int


class HelloReply(Frozen):
    """What the helper is."""

    service: str
    version: str
    caller: Caller
    max_request_bytes: int
    max_fds: int


class QuotaReply(Frozen):
    """Sets or taps that the caller holds and may hold, and the same for everybody together."""

    held: int
    allowed: int
    held_by_all: int
    allowed_to_all: int
    counted_by: str
    """``kernel`` if the kernel was asked what is alive; ``grants`` if it cannot tell."""


class CanReply(Frozen):
    """Whether it is allowed, and what decides."""

    allowed: bool
    because: str
    code: str = ""
    """Of the error that the request itself would be answered with; empty if it is allowed."""


class Grant(Frozen):
    """A set or tap that is alive, and who was given it."""

    uid: int
    pid: int
    """The process that asked. It may be gone, or its number reused: only for people to read."""
    name: str
    """The id of the object, or the interface of the tap."""
    age_s: int
    inbound: int = 0
    """For a tap: its limit to the VM in bytes per second; 0 if there is none."""
    outbound: int = 0
    """The same from the VM."""
    bridge: str = ""
    """For a tap: the bridge that it is on now; empty if on none."""
    vm: str = ""
    """What the client called its VM; empty if it did not say."""


class StatusReply(Frozen):
    """All grants that are alive, oldest first."""

    grants: tuple[Grant, ...]
    counted_by: str
    ready: int = 0
    """Sets that are loaded ahead, and nobody's yet."""


class FdDescription(Frozen):
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


class LoadReply(Frozen):
    """The fds that came with this packet, in their order: programs, then maps."""

    fds: tuple[FdDescription, ...]


class TapReply(Frozen):
    """The tap that was made. With ``tap``, one fd for each queue came in the same packet."""

    interface: str
    bridge: str
    mtu: int
    """Bytes; the bridge's."""


class OwnTap(Frozen):
    """One tap of the caller that is alive."""

    interface: str
    bridge: str
    """Empty if somebody removed it from its bridge."""
    queues: int
    """Queues that are open now."""
    made_with: int
    """Queues that it was made with; 0 if unknown."""
    stays: bool
    """It was made by ``create``, and stays until it is deleted."""
    closed: bool
    """The policy no longer allows it, so it carries no traffic."""
    inbound: int = 0
    """Its limit to the VM in bytes per second; 0 if there is none."""
    outbound: int = 0
    """The same from the VM."""


class ListReply(Frozen):
    """The caller's taps, by name."""

    taps: tuple[OwnTap, ...]


class DeleteReply(Frozen):
    """The tap is gone."""

    interface: str


class ErrorReply(Frozen):
    """The request was refused or failed."""

    code: Code
    message: str
    hint: str = ""


Reply = (
    HelloReply
    | QuotaReply
    | CanReply
    | StatusReply
    | LoadReply
    | TapReply
    | ListReply
    | DeleteReply
)
