# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the administrator allows: /etc/bpferry/policy.toml as one frozen value.

This module holds the values and decides who may load; ``file`` reads the file, ``toml_form`` checks
it. Without a file, members of the socket's group may load objects, and no bridge is open to
anybody. A mistake in the file is an error with its line, and then nobody is granted anything.
uid 0 is a user like others: it may do what the file allows "root", or a group that it is in.

    [load]                                  # who may load eBPF objects
    users = ["alice", 1001]                 # names or ids
    groups = ["bpferry"]                    # default: the group of the socket

    [users.alice]                           # who may use which bridges; or [users.1001], or for
                                            # each of many accounts [users."20000-29999"]
    bridges = ["br0", "vm-*"]               # names, with * ? [] as wildcards
    deny = ["vm-7"]                         # not these, even if allowed here or by a group
    queues-per-tap = 8                      # default: that of [quota]
    taps = 4                                # alive at once; default: taps-per-user of [quota]

    [groups.bpferry]                        # the same for each member
    bridges = ["virbr0"]

    [bridges."br0"]                         # how taps are attached; or a pattern such as "vm-*"
    isolated = true                         # taps reach no other isolated port; default: false
    address-lock = true                     # frames from the card's address only; default: false
    addresses = ["52:54:00:00:00:00/24"]    # that cards may be asked for with; see cards
    bpdu-guard = true                       # a BPDU shuts the port down; default: false
    root-block = true                       # never the way to the root bridge; default: false
    multicast-flood = false                 # no multicast but what was joined; default: true
    unicast-flood = false                   # no frames for unknown addresses; default: true
    vlans = [10, "20-30"]                   # only these; by default the first, untagged
    tx-queue-length = 256                   # frames that wait in each queue; default: 512
    bandwidth = { inbound = "1 Gbit/s", outbound = "100 Mbit/s" }   # most to and from each VM
    address = "refuse"                      # a bridge without its own address; default: "set" one

    [networks]                              # names for <source network='default'/>
    default = "virbr0"
    "default/fast" = "br0"                  # for the portgroup "fast"

    [qemu]
    trusted = ["/usr/bin/qemu-system-*", "/usr/libexec/qemu-kvm"]
    bridge-conf = false                     # whether /etc/qemu/bridge.conf counts

    [objects]
    program-types = []                      # allowed for object ids that bpferry does not know

    [quota]
    sets-per-user = 64                      # alive at the same time
    sets-in-total = 1024
    sets-ready = 8                          # loaded ahead at most; 0: none
    without-census = false                  # true: on a kernel without BTF, sets count until reboot
    loads-at-once = 16                      # by one user, before the next line's pace applies
    loads-per-second = 4
    loads-per-second-in-total = 16          # by all users together; those beyond that wait
    taps-per-user = 16                      # alive at the same time
    taps-in-total = 256
    queues-per-tap = 16
    taps-at-once = 16                       # by one user, as for loads
    taps-per-second = 8
    taps-per-second-in-total = 32

    [service]
    idle-exit-seconds = 300

The keys of [bridges] but for ``address`` may be in the table of a user or a group too, where they
count for the bridges that this table opens, in place of what [bridges] says.
"""

from typing import Any, Final, NamedTuple

from bpferry_helper.identity import Peer
from bpferry_helper.policy.cards import Cards
from bpferry_wire.limits import MAX_STATUS_GRANTS
from bpferry_wire.messages import Bandwidth

DEFAULT_TRUSTED: Final = ("/usr/bin/qemu-system-*", "/usr/libexec/qemu-kvm")
"""Debian and most others; RHEL and its derivatives."""

DEFAULT_SETS_PER_USER: Final = 64
DEFAULT_SETS_IN_TOTAL: Final = 1024
"""One set takes 43 KB of kernel memory, charged to the helper's cgroup while somebody holds it:
1,024 sets are 44 MB, well below the unit's MemoryMax=."""

DEFAULT_SETS_READY: Final = 8
"""At most that many are loaded ahead: a large VM has eight cards."""

DEFAULT_LOADS_AT_ONCE: Final = 16
DEFAULT_LOADS_PER_SECOND: Final = 4
DEFAULT_LOADS_PER_SECOND_IN_TOTAL: Final = 16
"""One load takes 70 ms of CPU time: a user at this pace takes 28 % of one CPU, and all users
together take a little more than one."""

DEFAULT_TAPS_PER_USER: Final = 16
"""As many as systemd-nsresourced allows (nsresourcework.c)."""

DEFAULT_TAPS_IN_TOTAL: Final = 256
"""A bridge has at most 1,023 ports (less than BR_MAX_PORTS, net/bridge/br_private.h), and not all
are for us."""

DEFAULT_QUEUES_PER_TAP: Final = 16
DEFAULT_TAPS_AT_ONCE: Final = 16
DEFAULT_TAPS_PER_SECOND: Final = 8
DEFAULT_TAPS_PER_SECOND_IN_TOTAL: Final = 32
"""Each tap costs the host an RCU grace period with the RTNL lock held."""

DEFAULT_TX_QUEUE_LENGTH: Final = 512
"""Frames, half of what the kernel gives a tap (DEFAULT_TX_QUEUE_LEN, net/pkt_sched.h). Until it is
read, one of 64 KiB takes that much of the kernel's memory: 512 are 32 MiB for each queue; 1,000
were 62 MB. As measured, a burst of 512 frames gets through whole; with 256, 28 % of it are lost."""

DEFAULT_IDLE_EXIT_S: Final = 300

MAX_SETS_READY: Final = 64
"""The unit's LimitNOFILE= is for clients: these are 256 of its 8,192 fds."""

MAX_SETS: Final = MAX_STATUS_GRANTS
"""A policy cannot allow more in total than ``status`` can list."""

LIMIT_MODULES: Final = {
    "inbound": ("sch_tbf",),
    "outbound": ("sch_ingress", "cls_matchall", "act_police"),
}
"""For the directions of a bandwidth: the kernel's modules, which it loads itself."""

NO_FILE: Final = "no policy file"


class Rule(NamedTuple):
    """What one user, each user of a range, or each member of a group, may do with bridges."""

    key: str
    """Its table in the file: "users.alice" or "groups.bpferry"."""
    is_group: bool
    ids: range
    """A gid, a uid, or several uids, each of which is an account of its own. None, if the account
    is unknown here."""
    bridges: tuple[str, ...]
    """Names; wildcards as in fnmatch."""
    queues_per_tap: int | None = None
    taps: int | None = None
    deny: tuple[str, ...] = ()
    """Like bridges; overrides every rule that allows. Only in the rule of a user."""
    port: dict[str, Any] = {}  # noqa: RUF012 - a NamedTuple's default; nobody writes to it
    """Fields of Port that count for it in place of the bridge's."""


class Port(NamedTuple):
    """How taps are attached to the bridges that *pattern* matches."""

    key: str = ""
    pattern: str = "*"
    isolated: bool = False
    """The port reaches no other isolated port (IFLA_BRPORT_ISOLATED)."""
    address_lock: bool = False
    """Only frames from the card's own address pass (IFLA_BRPORT_LOCKED, Linux 5.16)."""
    addresses: Cards = ()
    """The MAC addresses that may be asked for; if there are none, it depends on address_lock."""
    bpdu_guard: bool = False
    """A BPDU that comes in switches the port off (IFLA_BRPORT_GUARD)."""
    root_block: bool = False
    """The port never leads to the root of the spanning tree (IFLA_BRPORT_PROTECT)."""
    multicast_flood: bool = True
    """Multicasts that nobody behind it joined go out to it (IFLA_BRPORT_MCAST_FLOOD)."""
    unicast_flood: bool = True
    """Frames for an address that the bridge does not know go out to it."""
    vlans: tuple[range, ...] = ()
    """The VLANs that a port may be in: those asked for, or else the first, untagged."""
    tx_queue_length: int = DEFAULT_TX_QUEUE_LENGTH
    """Frames that wait in each queue until somebody reads them."""
    bandwidth: Bandwidth = Bandwidth()
    """The most that a tap may have; it has that if nothing less is asked for."""
    refuse_unset_address: bool = False
    """True: refuse a bridge without an address of its own. False: set its present one."""


def in_words(vlans: tuple[range, ...]) -> str:
    """Return *vlans* as the policy writes them."""
    return ", ".join(f"{some[0]}-{some[-1]}" if len(some) > 1 else str(some[0]) for some in vlans)


class Policy(NamedTuple):
    """What the administrator allows. ``lines`` says where each key was written."""

    path: str
    users: frozenset[int]
    groups: frozenset[int]
    trusted: tuple[str, ...] = DEFAULT_TRUSTED
    program_types: frozenset[int] = frozenset()
    sets_per_user: int = DEFAULT_SETS_PER_USER
    sets_in_total: int = DEFAULT_SETS_IN_TOTAL
    sets_ready: int = DEFAULT_SETS_READY
    without_census: bool = False
    """Grant sets also where the kernel cannot tell which are alive; each counts until a restart."""
    loads_at_once: int = DEFAULT_LOADS_AT_ONCE
    loads_per_second: int = DEFAULT_LOADS_PER_SECOND
    loads_per_second_in_total: int = DEFAULT_LOADS_PER_SECOND_IN_TOTAL
    rules: tuple[Rule, ...] = ()
    """Of users, then of groups, each in the file's order, but rules of one user before ranges, and
    smaller ranges before larger ones."""
    ports: tuple[Port, ...] = ()
    """In the file's order."""
    networks: dict[str, str] = {}  # noqa: RUF012 - a NamedTuple's default; nobody writes to it
    bridge_conf: bool = False
    """/etc/qemu/bridge.conf counts."""
    taps_per_user: int = DEFAULT_TAPS_PER_USER
    taps_in_total: int = DEFAULT_TAPS_IN_TOTAL
    queues_per_tap: int = DEFAULT_QUEUES_PER_TAP
    taps_at_once: int = DEFAULT_TAPS_AT_ONCE
    taps_per_second: int = DEFAULT_TAPS_PER_SECOND
    taps_per_second_in_total: int = DEFAULT_TAPS_PER_SECOND_IN_TOTAL
    idle_exit_s: int = DEFAULT_IDLE_EXIT_S
    group_names: dict[int, str] = {}  # noqa: RUF012 - a NamedTuple's default; nobody writes to it
    """Of the groups that it names, as far as they have one; for people."""
    lines: dict[str, int] = {}  # noqa: RUF012 - a NamedTuple's default; nobody writes to it
    unknown: tuple[tuple[str, Rule], ...] = ()
    """Names and rules of users and groups that this host does not have now. They were deleted, or a
    name service is not reachable. Skipped, what a user's rule denies would be allowed."""
    warnings: tuple[str, ...] = ()
    """What was skipped, each with its line: accounts that this host does not have."""

    def where(self, key: str) -> str:
        """Return file and line of *key*, such as "load.groups", or that it is the default."""
        if key in self.lines:
            return f"{self.path}:{self.lines[key]} ({key})"
        return f"the default of '{key}'"


class Decision(NamedTuple):
    """Whether something is allowed, and the line that decided."""

    allowed: bool
    because: str


def may_load(policy: Policy, peer: Peer) -> Decision:
    """Decide whether *peer* may load objects at all."""
    if peer.uid in policy.users:
        return Decision(allowed=True, because=f"{policy.where('load.users')} names uid {peer.uid}")
    shared = policy.groups & peer.gids
    if shared:
        gid = min(shared)
        name = f" ({policy.group_names[gid]})" if gid in policy.group_names else ""
        because = f"{policy.where('load.groups')} names group {gid}{name}, which you are in"
        return Decision(allowed=True, because=because)
    key = "load.users" if "load.users" in policy.lines else "load.groups"
    return Decision(allowed=False, because=f"{policy.where(key)} names neither you nor your groups")
