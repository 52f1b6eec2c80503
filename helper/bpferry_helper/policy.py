# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the administrator allows: /etc/bpferry/policy.toml as one frozen value.

No file is a policy too: members of the socket's group may load objects. A file that cannot be used
is an error with its line, and then nothing is granted to anybody. The file must be root's and
writable by nobody else, or it is not used.

    [load]                                  # who may load eBPF objects
    users = ["alice", 1001]                 # names or ids
    groups = ["kvm"]                        # default: the group of the socket

    [qemu]
    trusted = ["/usr/bin/qemu-system-*", "/usr/libexec/qemu-kvm"]

    [objects]
    program-types = []                      # allowed for object ids that bpferry does not know

    [quota]
    sets-per-user = 64                      # alive at the same time
    sets-in-total = 1024
    loads-at-once = 16                      # by one user, before the next line's pace applies
    loads-per-second = 4

    [service]
    idle-exit-seconds = 300
"""

import os
import stat
import time
from typing import Final, NamedTuple

from bpferry_helper.errors import PolicyError
from bpferry_helper.identity import Peer
from bpferry_wire.fds import OwnedFd
from bpferry_wire.limits import MAX_STATUS_GRANTS

POLICY_PATH: Final = "/etc/bpferry/policy.toml"

MAX_POLICY_BYTES: Final = 65_536
"""A policy of some hundred users fits; anything larger is a mistake."""

DEFAULT_TRUSTED: Final = ("/usr/bin/qemu-system-*", "/usr/libexec/qemu-kvm")
"""Debian and most others; RHEL and its kin."""

DEFAULT_SETS_PER_USER: Final = 64
DEFAULT_SETS_IN_TOTAL: Final = 1024
"""One set is 43 KB of kernel memory, charged to the helper's cgroup for as long as somebody holds
it: 1,024 are 44 MB, well under the unit's MemoryMax=."""

DEFAULT_LOADS_AT_ONCE: Final = 16
DEFAULT_LOADS_PER_SECOND: Final = 4
"""One load costs 70 ms of one processor: a user at this pace takes 28 % of one."""

DEFAULT_IDLE_EXIT_S: Final = 300

MAX_SETS: Final = MAX_STATUS_GRANTS
"""A policy may not allow more in total than ``status`` can list."""

RETRY_S: Final = 1.0
"""For how long a mistake is believed of a file that has not changed."""

NO_FILE: Final = "no policy file"


class Policy(NamedTuple):
    """The administrator's word. ``lines`` says where each key was written."""

    path: str
    users: frozenset[int]
    groups: frozenset[int]
    trusted: tuple[str, ...] = DEFAULT_TRUSTED
    program_types: frozenset[int] = frozenset()
    sets_per_user: int = DEFAULT_SETS_PER_USER
    sets_in_total: int = DEFAULT_SETS_IN_TOTAL
    loads_at_once: int = DEFAULT_LOADS_AT_ONCE
    loads_per_second: int = DEFAULT_LOADS_PER_SECOND
    idle_exit_s: int = DEFAULT_IDLE_EXIT_S
    lines: dict[str, int] = {}  # noqa: RUF012 - a NamedTuple's default; nobody writes to it

    def where(self, key: str) -> str:
        """Return file and line of *key* such as "load.groups", or that it is the default."""
        if key in self.lines:
            return f"{self.path}:{self.lines[key]} ({key})"
        return f"the default of '{key}'"


class Decision(NamedTuple):
    """Whether it is allowed, and the line that decided."""

    allowed: bool
    because: str


def may_load(policy: Policy, peer: Peer) -> Decision:
    """Decide whether *peer* may load objects at all."""
    if peer.uid == 0:
        return Decision(allowed=True, because="uid 0 can load programs without asking")
    if peer.uid in policy.users:
        return Decision(allowed=True, because=f"{policy.where('load.users')} names uid {peer.uid}")
    shared = policy.groups & peer.gids
    if shared:
        because = f"{policy.where('load.groups')} names group {min(shared)}, which you are in"
        return Decision(allowed=True, because=because)
    key = "load.users" if "load.users" in policy.lines else "load.groups"
    return Decision(allowed=False, because=f"{policy.where(key)} names neither you nor your groups")


class PolicyFile:
    """The policy as it stands in the file now: read again whenever the file has changed."""

    def __init__(self, path: str, socket_gid: int) -> None:
        """Watch *path*; *socket_gid* is the group that may load where no file says otherwise."""
        self._path = path
        self._socket_gid = socket_gid
        self._seen: tuple[int, ...] | None = None
        self._read_at = 0.0
        self._answer: Policy | PolicyError | None = None

    def current(self) -> Policy:
        """Return the policy in force.

        Raises:
            PolicyError: the file cannot be used.
        """
        seen = self._identity()
        if self._answer is None or seen != self._seen or self._may_be_better():
            self._seen, self._read_at = seen, time.monotonic()
            self._answer = self._read()
        if isinstance(self._answer, PolicyError):
            raise self._answer
        return self._answer

    def _may_be_better(self) -> bool:
        """Say whether a mistake may have gone by itself: a user was added, an fd became free."""
        old = time.monotonic() - self._read_at >= RETRY_S
        return old and isinstance(self._answer, PolicyError)

    def _identity(self) -> tuple[int, ...]:
        try:
            info = os.stat(self._path)
        except OSError as error:
            return (error.errno or 0,)
        return (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)

    def _read(self) -> Policy | PolicyError:
        try:
            return read_policy(self._path, self._socket_gid)
        except PolicyError as error:
            return error


def read_policy(path: str, socket_gid: int) -> Policy:
    """Read and check *path*; where there is no file, return the default.

    Raises:
        PolicyError: with the line of the first mistake.
    """
    try:
        text = _read_text(path)
    except FileNotFoundError:
        return Policy(NO_FILE, users=frozenset(), groups=frozenset({socket_gid}))
    except OSError as error:
        raise PolicyError(path, 0, f"cannot be read: {error.strerror}") from error
    # Imported late: most hosts have no policy file, and tomllib costs 10 ms of the start.
    from bpferry_helper.policy_file import parse_policy  # noqa: PLC0415

    return parse_policy(path, text, socket_gid)


def _read_text(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    # open() and not os.fdopen(), which would leave the fd of a directory open.
    with OwnedFd(fd), open(fd, "rb", closefd=False) as file:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise PolicyError(path, 0, "is not a regular file")
        if info.st_uid != 0 or info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PolicyError(path, 0, "must belong to root and be writable by nobody else")
        raw = file.read(MAX_POLICY_BYTES + 1)
    if len(raw) > MAX_POLICY_BYTES:
        raise PolicyError(path, 0, f"is longer than {MAX_POLICY_BYTES} bytes")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise PolicyError(path, line, "is not UTF-8") from error
