# SPDX-License-Identifier: LGPL-2.1-or-later
"""The current policy, and the account of each uid, without waiting for a name service.

Names of users and groups may come from a directory service on the network, which may hang. So a
separate thread does everything that looks up names: it reads the policy, at the start and when a
file has changed, and it looks up new uids. Meanwhile the previous policy stays in force.

If the policy has just changed, the loop waits up to SETTLE_S for it to be read, so that a change
applies to the next request, at least if names are in files. Only root can cause that wait: users
can change the files with names, by chfn(1) and gpasswd(1), so those are read again without it.
"""

import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Condition, Thread
from typing import Final, NamedTuple

from bpferry_helper.errors import PolicyError
from bpferry_helper.identity import IdentityError
from bpferry_helper.log import ERROR, WARNING, log
from bpferry_helper.policy.accounts import (
    SUBUID_PATH,
    Subordinates,
    group_name,
    read_subordinates,
    user_name,
)
from bpferry_helper.policy.file import Identity, file_identity, read_policy
from bpferry_helper.policy.rules import DEFAULT_IDLE_EXIT_S, Policy

NAME_FILES: Final = ("/etc/passwd", "/etc/group")
"""The files with names. The policy is read again when one of them changes."""

NAMES_S: Final = 1.0
"""From one reading to the next because of them. Users can change them all the time."""

RETRY_S: Final = 1.0
"""How long to believe a mistake in unchanged files, and that a uid has no name."""

SKIPPED_S: Final = 30.0
"""How long to skip a name in the policy that no file and no name service knew."""

ROOTS_FILES: Final = 2
"""The policy and SUBUID_PATH, which only root changes. They come first among those looked at."""

SETTLE_S: Final = 0.25
"""How long the loop waits for a changed policy. Parsing 64 KiB takes 0.05 s."""

SAME_S: Final = 0.001
"""Who connects and asks is looked up first, then the groups that matter, then the policy: within
this time the files are looked at once for all three."""

LOOK_S: Final = 0.05
"""How often the files are looked at for those who connect."""

BELIEVED_S: Final = 300.0
"""How long to believe that a uid has a name; after that it is looked up again."""

MAX_KNOWN: Final = 4096
"""Uids for which we remember whether they have a name; with more, all are looked up again."""


class _Snapshot(NamedTuple):
    """What one reading of the files found."""

    policy: Policy | PolicyError
    subordinates: Subordinates
    uids: frozenset[int]
    """The uids that the policy names one by one."""
    gids: frozenset[int]
    names: dict[int, str]
    """Of those uids, as far as they have one."""
    ranges: tuple[range, ...] = ()
    """The uids that the policy names together. Their names are not looked up: there may be many."""


class _Known(NamedTuple):
    """The name of a uid, if it has one, and until when to believe that."""

    name: str | None
    until: float


class PolicyFile:
    """The current policy: the file is read again whenever it has changed.

    Everything except the thread's own work is called by the loop.
    """

    def __init__(self, path: str, socket_gid: int) -> None:
        """Watch *path*; *socket_gid* is the group that may load unless a file says otherwise."""
        self.wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        """Readable when a uid has been looked up. Owned by this object and never closed."""
        self._path = path
        self._paths = (path, SUBUID_PATH, *NAME_FILES)
        self._socket_gid = socket_gid
        self._changed = Condition()
        self._jobs: deque[Callable[[], None]] = deque()
        self._seen: tuple[Identity, ...] = ()
        self._read_at = 0.0
        self._settled_by = 0.0
        self._looked_at = 0.0
        self._fresh_for = ""
        """The step of a request that need not look, since the step before it has."""
        self._reads = 0
        """How many readings of the files are still pending."""
        self._snapshot: _Snapshot | None = None
        self._warned: tuple[str, ...] = ()
        self._known: dict[int, _Known] = {}
        self._looked_up: set[int] = set()
        """Uids that the thread is to look up."""
        Thread(target=self._work, name="names", daemon=True).start()
        self._look()

    # -- in the loop

    def current(self) -> Policy:
        """Return the policy in force.

        Raises:
            PolicyError: the file cannot be used.
        """
        policy = self._settled("policy").policy
        if isinstance(policy, PolicyError):
            raise policy
        return policy

    def idle_exit_s(self) -> float:
        """Return after how many idle seconds to exit."""
        snapshot = self._snapshot
        policy = snapshot.policy if snapshot else None
        return policy.idle_exit_s if isinstance(policy, Policy) else DEFAULT_IDLE_EXIT_S

    def groups(self) -> frozenset[int]:
        """Return the gids that the policy names."""
        with suppress(PolicyError):
            return self._settled("groups", then="policy").gids
        return frozenset()

    def whose(self, uid: int) -> int | None:
        """Return the account that *uid* counts as; None while it is being looked up.

        Raises:
            IdentityError: it belongs to no account.
        """
        # Clients may come often: the files are looked at now and then, and before each decision.
        if self._snapshot is None or time.monotonic() - self._looked_at > LOOK_S:
            with suppress(PolicyError):
                self._settled("account", then="groups")
        snapshot = self._snapshot
        if snapshot is None:
            return None
        if uid == 0 or uid in snapshot.uids or any(uid in ids for ids in snapshot.ranges):
            return uid
        owner = snapshot.subordinates.owner(uid)
        if owner is None:
            return self._if_named(uid)
        return owner if self._lookup(owner) else None

    def name(self, uid: int) -> str:
        """Return the name of the account *uid* as far as it is known; else ""."""
        known = self._known.get(uid)
        named = self._snapshot.names if self._snapshot else {}
        return named.get(uid, "") or (known.name if known and known.name else "")

    def take_wake_up(self) -> None:
        """Reset ``wake_fd``."""
        with suppress(BlockingIOError):
            os.eventfd_read(self.wake_fd)

    def _if_named(self, uid: int) -> int | None:
        known = self._lookup(uid)
        if known is None:
            return None
        if not known.name:
            raise IdentityError(
                f"uid {uid} has no name on this host and is nobody's subordinate id (/etc/subuid), "
                "and policy does not name it"
            )
        return uid

    def _lookup(self, uid: int) -> _Known | None:
        """Return what is known of *uid*, or None while it is being looked up."""
        known = self._known.get(uid)
        fresh = known is not None and time.monotonic() < known.until
        if not fresh and uid not in self._looked_up:
            self._looked_up.add(uid)
            self._submit(partial(self._look_up, uid))
        return known if known is not None and (fresh or known.name) else None

    def _settled(self, step: str, then: str = "") -> _Snapshot:
        """Return what is in force, after a short wait if it is being read just now.

        The step of a request that comes *then* need not look at the files again.
        """
        if step != self._fresh_for or time.monotonic() - self._looked_at > SAME_S:
            self._look()
        self._fresh_for = then
        if self._reads:
            with self._changed:
                patience_s = self._settled_by - time.monotonic()
                self._changed.wait_for(lambda: not self._reads, max(0.0, patience_s))
        if self._snapshot is None:
            raise PolicyError(self._path, 0, "is still being read: a name service is slow")
        return self._snapshot

    def _look(self) -> None:
        """Ask the thread to read the files if one of them has changed."""
        self._looked_at = time.monotonic()
        seen = tuple(map(file_identity, self._paths))
        is_by_root = seen[:ROOTS_FILES] != self._seen[:ROOTS_FILES]
        now = time.monotonic()
        if not is_by_root:
            has_names = seen != self._seen and now - self._read_at >= NAMES_S
            if self._reads or not (has_names or self._may_be_better()):
                return
        if is_by_root or self._is_wrong():
            self._settled_by = now + SETTLE_S
        self._seen, self._read_at = seen, now
        with self._changed:
            self._reads += 1
            # Before names that clients need: there may be many, and the change may be a "deny".
            self._jobs.appendleft(self._read)
            self._changed.notify_all()

    def _may_be_better(self) -> bool:
        """Return whether the problem may have gone: a user was added, or an fd is free."""
        believed_s = RETRY_S if self._is_wrong() else SKIPPED_S if self._warned else BELIEVED_S
        return time.monotonic() - self._read_at >= believed_s

    def _is_wrong(self) -> bool:
        return self._snapshot is None or isinstance(self._snapshot.policy, PolicyError)

    def _submit(self, job: Callable[[], None]) -> None:
        with self._changed:
            self._jobs.append(job)
            self._changed.notify_all()

    # -- in the thread

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs)
                job = self._jobs.popleft()
            try:
                job()
            except Exception as error:  # noqa: BLE001 - the thread must outlive any job
                log(ERROR, f"looking up names: {type(error).__name__}: {error}")

    def _read(self) -> None:
        try:
            snapshot = self._take_snapshot()
            self._warn(snapshot.policy)
            self._snapshot = snapshot
            # The old answers are used until each uid has been looked up again.
            self._known = {uid: known._replace(until=0.0) for uid, known in self._known.items()}
        finally:
            with self._changed:
                self._reads -= 1
                self._changed.notify_all()
            os.eventfd_write(self.wake_fd, 1)

    def _take_snapshot(self) -> _Snapshot:
        subordinates = read_subordinates()
        try:
            policy = read_policy(self._path, self._socket_gid)
        except PolicyError as error:
            return _Snapshot(error, subordinates, frozenset(), frozenset(), {})
        of_users = [rule.ids for rule in policy.rules if not rule.is_group]
        uids = policy.users.union(ids[0] for ids in of_users if len(ids) == 1)
        ranges = tuple(ids for ids in of_users if len(ids) > 1)
        gids = policy.groups.union(rule.ids[0] for rule in policy.rules if rule.is_group)
        named = {uid: name for uid in (0, *uids) if (name := user_name(uid))}
        groups = {gid: name for gid in gids if (name := group_name(gid))}
        policy = policy._replace(group_names=groups)
        return _Snapshot(policy, subordinates, uids, gids, named, ranges=ranges)

    def _warn(self, policy: Policy | PolicyError) -> None:
        """Log once what was skipped."""
        warnings = policy.warnings if isinstance(policy, Policy) else ()
        for warning in warnings:
            if warning not in self._warned:
                log(WARNING, f"{warning}, ignoring")
        self._warned = warnings

    def _look_up(self, uid: int) -> None:
        name = user_name(uid)
        until = time.monotonic() + (BELIEVED_S if name else RETRY_S)
        if len(self._known) >= MAX_KNOWN:
            self._known = {}
        self._known[uid] = _Known(name, until)
        self._looked_up.discard(uid)
        os.eventfd_write(self.wake_fd, 1)
