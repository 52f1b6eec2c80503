# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which maps are alive, according to a BPF iterator (map_ids.bpf.c).

With it a quota counts what a user really holds, even after this helper was restarted, and even if
the fds were passed on to QEMU and the process that asked is gone. Loading the iterator takes 12 ms,
once; each query takes 50 us. A kernel without BTF cannot load it: then every query raises
``CensusUnavailable``, and the ledger grants nothing, or counts all that it ever granted.
"""

import os
import struct
from threading import Lock
from typing import Final

from bpferry_helper.bpf.libbpf import LibbpfError, last_error, library
from bpferry_helper.errors import NO_RESOURCES, HelperError
from bpferry_wire.fds import OwnedFd

OBJECT: Final = os.path.join(os.path.dirname(__file__), "map_ids.bpf.o")
PROGRAM: Final = b"list_map_ids"

ID: Final = struct.Struct("=I")
"""What the iterator writes for each map: one __u32."""

READ_BYTES: Final = 65_536


class CensusUnavailable(HelperError):  # noqa: N818
    """This kernel cannot tell which maps are alive."""


class Census:
    """Asks the kernel. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._link: OwnedFd | None = None
        self._unavailable: CensusUnavailable | None = None

    def alive(self) -> frozenset[int]:
        """Return the ids of all maps that are alive on this host.

        Raises:
            CensusUnavailable: this kernel cannot tell; the answer never changes.
            LibbpfError: out of fds or memory; the next call may work.
        """
        with self._lock:
            if self._unavailable is not None:
                raise self._unavailable
            if self._link is None:
                self._link = self._attach_once()
            return _read_ids(self._link)

    def _attach_once(self) -> OwnedFd:
        try:
            return _attach()
        except LibbpfError as error:
            if error.errno in NO_RESOURCES:
                raise
            self._unavailable = CensusUnavailable(f"this kernel cannot list its BPF maps ({error})")
            raise self._unavailable from error


def _attach() -> OwnedFd:
    """Load the iterator and return a link to it. The object is not needed after that."""
    lib = library()
    with open(OBJECT, "rb") as file:
        elf = file.read()
    obj = lib.bpf_object__open_mem(elf, len(elf), None)
    if not obj:
        raise last_error("libbpf cannot open 'map_ids.bpf.o'")
    try:
        if lib.bpf_object__load(obj) != 0:
            raise last_error("cannot load 'map_ids.bpf.o'")
        program = lib.bpf_object__find_program_by_name(obj, PROGRAM)
        link = lib.bpf_program__attach_iter(program, None)
        if not link:
            raise last_error("cannot attach 'map_ids.bpf.o'")
        try:
            return OwnedFd(os.dup(lib.bpf_link__fd(link)))
        except OSError as error:
            raise LibbpfError("cannot copy the iterator's fd", error.errno or 0) from error
        finally:
            lib.bpf_link__destroy(link)
    finally:
        lib.bpf_object__close(obj)


def _read_ids(link: OwnedFd) -> frozenset[int]:
    number = library().bpf_iter_create(link.borrow())
    if number < 0:
        raise last_error("cannot start the iterator over BPF maps")
    with OwnedFd(number) as iterator:
        raw = bytearray()
        try:
            while chunk := os.read(iterator.borrow(), READ_BYTES):
                raw += chunk
        except OSError as error:
            raise LibbpfError("cannot read the ids of BPF maps", error.errno or 0) from error
    return frozenset(map_id for (map_id,) in ID.iter_unpack(raw))
