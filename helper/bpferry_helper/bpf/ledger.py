# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who was given which set, and which sets are still alive.

A set is written down before it is handed over, and struck off when the kernel says that its maps
are gone. So the ledger errs in one direction only: if the helper is killed in between, it counts
one set too many until the next census, never one too few.

Known hole: a grant is a bearer token. Its holder may pass it on, and nobody can revoke it. It
counts for the user who asked for it, as long as anybody holds it.
"""

import errno
import os
import struct
import time
from collections import Counter
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple, Protocol

import msgpack

from bpferry_helper.bpf.census import CensusUnavailable
from bpferry_helper.bpf.state import MAX_FILE_BYTES, StateFolder
from bpferry_helper.clock import now_s
from bpferry_helper.errors import HelperError, RequestError
from bpferry_helper.log import WARNING, log
from bpferry_helper.quota import Places
from bpferry_wire.errors import Code
from bpferry_wire.fds import OwnedFd
from bpferry_wire.messages import Grant

LEDGER_FILE: Final = "ledger.msgpack"
LEDGER_FORMAT: Final = 1
CAN_TELL: Final = "kernel-can-tell"
"""In the file: in this boot the kernel has told which maps are alive. To ask it for the first time
takes 25 ms, which a helper that is started for a client need not spend again before its answer."""

BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"

MANY_ENTRIES: Final = 64
"""Above this, writing the entries costs more than asking which are alive: 0.6 ms. So many are added
to the file before it is written anew."""

SLOW_S: Final = 0.02
SLOW_FOR_S: Final = 60.0
"""If it took the loop so long to add an entry, the disk is busy: workers write them for a while.
Usually it takes 0.02 ms, and the kernel writes to the disk later."""

FEWER_HINT: Final = "stop a VM, or ask the administrator to raise [quota] sets-per-user"

RESTART_HINT: Final = (
    "this kernel cannot tell which sets are still in use, so each counts until the host restarts; "
    "or ask the administrator to raise [quota] sets-per-user"
)

NO_CENSUS: Final = (
    "no set is granted, unless the policy has [quota] without-census = true; then each set counts "
    "until the host restarts"
)

WHO: Final = struct.Struct(">BBIBIBB")
WHEN: Final = struct.Struct(">BQBH")
MAP: Final = struct.Struct(">BI")
"""The parts of an entry in msgpack, see ``packed``."""

BY_KERNEL: Final = "kernel"
BY_GRANTS: Final = "grants"


class Entry(NamedTuple):
    """A set that was handed over."""

    uid: int
    pid: int
    object_id: str
    granted_s: int
    """CLOCK_BOOTTIME, which cannot be set."""
    map_ids: tuple[int, ...]
    vm: str = ""
    """What the client called its VM. Entries of earlier helpers end before it."""


class Living(Protocol):
    """Tells which maps are alive: Census, or a fake in a test."""

    def alive(self) -> frozenset[int]:
        """Return their ids.

        Raises:
            CensusUnavailable: it never can.
            HelperError: it cannot this time.
        """


class Count(NamedTuple):
    """How many sets one user holds, how many all users hold, and how we know."""

    held: int
    held_by_all: int
    counted_by: str


class Ledger:
    """The entries of this boot. Safe to use from several threads."""

    def __init__(self, state: StateFolder, living: Living) -> None:
        """Read what an earlier process left in *state*; *living* tells which maps are alive."""
        self._state = state
        self._living = living
        self._counted_by = BY_KERNEL
        self._places = Places("sets", FEWER_HINT, self._owners, self._strike_off_the_dead)
        self._lock = self._places.changed
        self._boot_id = _boot_id()
        self._file = OwnedFd(-1)
        """The ledger, open to add to it, once somebody got a set that was ready."""
        self._addable = 0
        """How many entries may be added before the file is written anew."""
        self._add_again = 0.0
        """When entries may be added: later if the disk is busy."""
        self._has_asked, entries = _read(state, self._boot_id)
        """Whether the kernel was asked in this boot, so that we know if it can tell."""
        self._keep(entries)

    def check_countable(self, *, without_census: bool) -> None:
        """Raise RequestError if no set may be granted because nothing tells when one is gone.

        Policy can allow it (*without_census*); then each set counts until the host restarts.
        """
        with self._lock:
            if not self._has_asked:
                self._strike_off_the_dead()
            if self._counted_by == BY_GRANTS and not without_census:
                raise RequestError(
                    Code.REFUSED,
                    "this kernel cannot tell which sets are still in use (it has no BTF), so a "
                    "quota could not be kept",
                    "the administrator can set [quota] without-census = true; then each set counts "
                    "until the host restarts",
                )

    def reserve(
        self, uid: int, per_user: int, in_total: int, *, without_census: bool
    ) -> AbstractContextManager[int]:
        """Reserve a place for one more set of *uid* while it is being loaded; see ``Places``.

        Raises:
            RequestError: quota, if policy does not allow another; refused, see check_countable.
        """
        self.check_countable(without_census=without_census)
        return self._places.reserve(uid, per_user, in_total)

    def record(self, entry: Entry, place: int) -> None:
        """Write down *entry*, which is about to be handed over, in the reserved *place*.

        Raises:
            RequestError: it cannot be written down, so it must not be handed over.
        """
        with self._lock:
            if len(self._entries) >= MANY_ENTRIES:
                self._strike_off_the_dead()
            entries = [*self._entries, entry]
            can_tell = self._has_asked and self._counted_by == BY_KERNEL
            try:
                _write(self._state, self._boot_id, entries, can_tell=can_tell)
            except OSError as error:
                raise RequestError(
                    Code.FAILED,
                    f"cannot write the ledger of grants: {error.strerror}",
                    "free some space where the helper keeps its state (/var/lib)",
                ) from error
            self._keep(entries)
            self._file.close()
            self._addable = MANY_ENTRIES if can_tell else 0
            # Now, or the set would count twice until its place is given up.
            self._places.give_up(place)

    def record_at_once(self, entry: Entry, per_user: int, in_total: int) -> bool:
        """Write down *entry* if that takes no place, no census and no wait; return whether it did.

        False says nothing about the quota: a worker has to look.
        """
        if not self._lock.acquire(blocking=False):
            return False
        try:
            may_have = self._held[entry.uid] + self._places.coming(entry.uid) < per_user
            may_be = len(self._entries) + self._places.coming() < in_total
            now = time.monotonic()
            if not (self._addable and may_have and may_be and now >= self._add_again):
                return False
            self._add(entry)
            if time.monotonic() - now > SLOW_S:
                self._add_again = time.monotonic() + SLOW_FOR_S
        except OSError:
            self._addable = 0
            return False
        finally:
            self._lock.release()
        return True

    def spare_places(self, in_total: int) -> int:
        """Return how many sets there may be beside those that are granted or being loaded."""
        with self._lock:
            return in_total - len(self._entries) - self._places.coming()

    def _add(self, entry: Entry) -> None:
        """Write *entry* at the end of the file."""
        if not self._file.is_open:
            self._file = self._state.open_to_add(LEDGER_FILE)
        raw = packed(entry)
        written = os.write(self._file.borrow(), raw)
        if written < len(raw):
            os.ftruncate(self._file.borrow(), os.fstat(self._file.borrow()).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._addable -= 1
        self._entries.append(entry)
        self._held[entry.uid] += 1

    def _keep(self, entries: list[Entry]) -> None:
        self._entries, self._held = entries, Counter(entry.uid for entry in entries)

    def count(self, uid: int) -> Count:
        """Count what is alive now."""
        with self._lock:
            self._strike_off_the_dead()
            return Count(self._owners().count(uid), len(self._entries), self._counted_by)

    def grants(self) -> tuple[tuple[Grant, ...], str]:
        """Return all grants that are alive, oldest first, and how we know."""
        with self._lock:
            self._strike_off_the_dead()
            now = now_s()
            listed = (Grant(*e[:3], now - e.granted_s, vm=e.vm) for e in self._entries)
            return tuple(listed), self._counted_by

    def _owners(self) -> list[int]:
        return [entry.uid for entry in self._entries]

    def _strike_off_the_dead(self) -> None:
        if self._counted_by == BY_GRANTS:
            return
        try:
            alive = self._living.alive()
        except CensusUnavailable as error:
            # Logged once: after this, nobody asks again.
            log(WARNING, f"{error}: {NO_CENSUS}")
            self._has_asked, self._counted_by = True, BY_GRANTS
            self._places.hint = RESTART_HINT
            return
        except HelperError as error:
            log(WARNING, f"counting every set that was ever granted: {error}, ignoring")
            return
        self._has_asked = True
        # A set is alive while anybody holds one of its maps. Ids are allocated cyclically
        # (kernel/bpf/syscall.c, bpf_map_alloc_id), so an id is not reused for a long time.
        self._keep([e for e in self._entries if alive.intersection(e.map_ids)])


def packed(entry: Entry) -> bytes:
    """Return *entry* in msgpack, ten times as fast as msgpack's Python code: a client waits.

    array 6: uint 32, uint 32, str 8, uint 64, array 16 of uint 32, str 8.
    """
    name, ids, vm = entry.object_id.encode(), entry.map_ids, entry.vm.encode()
    who = WHO.pack(0x96, 0xCE, entry.uid, 0xCE, entry.pid, 0xD9, len(name))
    when = WHEN.pack(0xCF, entry.granted_s, 0xDC, len(ids))
    maps = (MAP.pack(0xCE, number) for number in ids)
    return b"".join((who, name, when, *maps, b"\xd9", bytes([len(vm)]), vm))


def _boot_id() -> str:
    with open(BOOT_ID, encoding="ascii") as file:
        return file.read().strip()


def _read(state: StateFolder, boot_id: str) -> tuple[bool, list[Entry]]:
    """Return whether the kernel could tell which maps are alive, and the entries of this boot.

    Those of an earlier boot are about maps that are gone, and perhaps about another kernel. A set
    whose entry is cut off at the end was not handed over.
    """
    raw = state.read(LEDGER_FILE)
    if raw is None:
        return False, []
    unpacker = msgpack.Unpacker(max_buffer_size=MAX_FILE_BYTES)
    unpacker.feed(raw)
    try:
        stored: dict[str, Any] = next(unpacker, {})
        if (stored["format"], stored["boot_id"]) != (LEDGER_FORMAT, boot_id):
            return False, []
        return stored.get(CAN_TELL) is True, [
            Entry(int(uid), int(pid), str(name), int(then), tuple(map(int, ids)), *map(str, vm))
            for uid, pid, name, then, ids, *vm in (*stored["entries"], *unpacker)
        ]
    except (ValueError, TypeError, KeyError, OverflowError, msgpack.UnpackException):
        log(WARNING, f"'{LEDGER_FILE}' in the state folder is broken; starting a new one, ignoring")
        return False, []


def _write(state: StateFolder, boot_id: str, entries: list[Entry], *, can_tell: bool) -> None:
    stored = {
        "format": LEDGER_FORMAT,
        "boot_id": boot_id,
        CAN_TELL: can_tell,
        "entries": [tuple(entry) for entry in entries],
    }
    state.write(LEDGER_FILE, msgpack.packb(stored))
