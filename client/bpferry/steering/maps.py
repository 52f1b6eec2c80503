# SPDX-License-Identifier: LGPL-2.1-or-later
"""What QEMU wrote into the three maps of a card's set, read through mmap.

    config   u8 redirect; u8 populate_hash; u32 hash_types; u16 indirections_len; u16 default_queue
             packed into 10 bytes, in the host's byte order
    key      u32 of the first four bytes in the host's byte order, then the other 36 as they are
    table    one u16 in the host's byte order every 8 bytes

(tools/ebpf/rss.bpf.c and ebpf/ebpf_rss.c in QEMU 9.0 to 11.1.) The maps begin as zeros, and QEMU
writes them each time the guest's driver sets RSS up. It does not write them when the guest switches
RSS off again, so ``redirect`` says what the guest asked for last, while the program may no longer
be attached; the kernel offers no way to ask.
"""

import mmap
import struct
from typing import Final

from msgspec import Struct

from bpferry.errors import BpferryError
from bpferry.steering.toeplitz import KEY_BYTES, Flow, HashType, queue_for
from bpferry_wire.fds import BorrowedFd, Closing

CONFIG: Final = struct.Struct("=BBIHH")
KEY_WORD: Final = struct.Struct("=I")
TABLE_ENTRY: Final = struct.Struct("=H6x")
TABLE_ENTRIES: Final = 128
"""Entries of the table map (VIRTIO_NET_RSS_MAX_TABLE_LEN)."""

READ_ATTEMPTS: Final = 5
"""QEMU writes the three maps one after the other; a read that overlaps with that is repeated."""


class Steering(Struct, frozen=True):
    """The steering of one card, as the guest's driver asked for it last."""

    redirect: bool
    """Whether the guest has set RSS up at all."""
    hash_types: HashType
    key: bytes
    table: tuple[int, ...]
    """The part of the indirection table that is in use."""
    default_queue: int

    def queue_for(self, flow: Flow) -> int:
        """Return the queue that *flow* goes to."""
        if not self.redirect:
            return self.default_queue
        return queue_for(flow, self.key, self.table, self.hash_types, self.default_queue)

    @property
    def queues(self) -> int:
        """How many different queues the table names."""
        return len(set(self.table))


class SteeringMaps(Closing):
    """The maps of one set, mapped for reading.

    It keeps the maps alive until it is closed, whether their fds are closed or not.
    """

    def __init__(self, config: BorrowedFd, key: BorrowedFd, table: BorrowedFd) -> None:
        """Map one page of each map; the fds are borrowed."""
        self._pages: list[mmap.mmap] = []
        try:
            for fd in (config, key, table):
                self._pages.append(mmap.mmap(fd, mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ))
        except (OSError, ValueError) as error:
            self.close()
            raise BpferryError(f"cannot map an eBPF map into memory: {error}") from error

    def read(self) -> Steering:
        """Return what the maps contain now."""
        raw = self._copy()
        for _ in range(READ_ATTEMPTS):
            again = self._copy()
            if raw == again:
                break
            raw = again
        return decode(*raw)

    def _copy(self) -> tuple[bytes, bytes, bytes]:
        config, key, table = self._pages
        return (
            config[: CONFIG.size],
            key[:KEY_BYTES],
            table[: TABLE_ENTRIES * TABLE_ENTRY.size],
        )

    def close(self) -> None:
        """Unmap the maps. Doing so twice does nothing."""
        for page in self._pages:
            page.close()


def write(config: BorrowedFd, key: BorrowedFd, table: BorrowedFd, *, steering: Steering) -> None:
    """Write *steering* into the maps of a set that no QEMU has, as QEMU would.

    Raises:
        BpferryError: a map cannot be mapped.
    """
    try:
        for fd, value in zip((config, key, table), encode(steering), strict=True):
            with mmap.mmap(fd, mmap.PAGESIZE) as page:
                page[: len(value)] = value
    except (OSError, ValueError) as error:
        raise BpferryError(f"cannot map an eBPF map into memory: {error}") from error


def encode(steering: Steering) -> tuple[bytes, bytes, bytes]:
    """Return the values of the three maps that mean *steering*."""
    return (
        CONFIG.pack(
            steering.redirect, 0, steering.hash_types, len(steering.table), steering.default_queue
        ),
        KEY_WORD.pack(int.from_bytes(steering.key[:4])) + steering.key[4:],
        b"".join(TABLE_ENTRY.pack(queue) for queue in steering.table),
    )


def decode(config: bytes, key: bytes, table: bytes) -> Steering:
    """Return the steering that these values of the three maps mean."""
    redirect, _populate_hash, types, length, default = CONFIG.unpack(config)
    (word,) = KEY_WORD.unpack_from(key)
    entries = [entry for (entry,) in TABLE_ENTRY.iter_unpack(table)]
    return Steering(
        redirect=bool(redirect),
        hash_types=HashType(types),
        key=word.to_bytes(4) + key[4:KEY_BYTES],
        table=tuple(entries[: min(length, TABLE_ENTRIES)]),
        default_queue=default,
    )
