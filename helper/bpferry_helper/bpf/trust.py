# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds an object by its digest in a QEMU that root installed.

QEMU carries its eBPF objects verbatim among its read-only data: an ELF file of type ET_REL for
EM_BPF, whose length its own header tells. So the helper need not believe anybody about an object:
it looks through the binaries that policy trusts and compares digests.

Trusted is what root alone can change: a regular file of root's that nobody else may write, in
folders of which the same is true, all the way up. That is checked on what was opened, never on a
name, and symbolic links are not followed: whoever trusts a link's target can name it.

The index of what was found where is a hint that saves reading some hundred MB again. It is never
believed: the bytes are read anew each time, from a file that was checked anew, and hashed.

An object that was found once is also kept in the state folder, so that a card can be hot-plugged
into a QEMU that still runs after its package was upgraded. Known hole: that folder is believed as
much as the helper itself, since only the helper's user can write there. ``systemctl clean
--what=state bpferry-bpf`` forgets it.
"""

import errno
import fnmatch
import os
import stat
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final, NamedTuple

import msgpack

from bpferry_helper.digest import sha256
from bpferry_helper.errors import HelperError, RequestError
from bpferry_helper.log import INFO, WARNING, log
from bpferry_helper.state import StateFolder
from bpferry_wire.errors import Code
from bpferry_wire.fds import OwnedFd

MAX_OBJECT_BYTES: Final = 1_048_576
"""One eBPF object. "rss" has 20,208 bytes; libbpf and the kernel take far more."""

MAX_OBJECTS_PER_BINARY: Final = 32
MAX_BINARIES: Final = 256
"""Debian's whole QEMU has 60 system emulators."""

MAX_REMEMBERED: Final = 64
"""Objects kept in the state folder: one for each QEMU release that a long-lived host has seen."""

CHUNK_BYTES: Final = 1_048_576
"""Read at a time while scanning. Not mmap(2): a file that shrinks meanwhile would be a SIGBUS."""

ELF_MAGIC: Final = b"\x7fELF"
ELF_HEADER: Final = struct.Struct("=4s5B7xHHIQQQIHHHHHH")
"""Elf64_Ehdr of elf(5)."""

ELFCLASS64: Final = 2
ELFDATA: Final = 1 if sys.byteorder == "little" else 2
ET_REL: Final = 1
EM_BPF: Final = 247
"""elf.h. The kernel takes programs of the host's byte order only."""

INDEX_FILE: Final = "index.msgpack"
INDEX_FORMAT: Final = 1

NO_RESOURCES: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""Says nothing about the file that was to be opened."""

WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


class Untrusted(HelperError):  # noqa: N818
    """A file or one of its folders could have been changed by somebody else than root."""


class Embedded(NamedTuple):
    """One eBPF object inside a binary. Offset and length are in bytes."""

    digest: bytes
    offset: int
    length: int


class Binary(NamedTuple):
    """An opened and checked file. Whoever holds this owns the fd."""

    path: str
    fd: OwnedFd
    key: str
    """What changes whenever the file does."""
    size: int


def open_trusted(path: str) -> Binary:
    """Open the absolute *path* if root alone could have changed it.

    Raises:
        Untrusted: with the part of the path that is not root's alone.
        OSError: it cannot be opened.
    """
    _, *folders, name = path.split("/")
    folder = OwnedFd(os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    try:
        _check_root_alone(folder, "/")
        seen = ""
        for part in folders:
            seen += f"/{part}"
            flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            inner = OwnedFd(os.open(part, flags, dir_fd=folder.borrow()))
            folder.close()
            folder = inner
            _check_root_alone(folder, seen)
        # O_NONBLOCK: opening a FIFO must not wait for its writer.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        file = OwnedFd(os.open(name, flags, dir_fd=folder.borrow()))
    finally:
        folder.close()
    try:
        return _checked_binary(path, file)
    except BaseException:
        file.close()
        raise


def _checked_binary(path: str, file: OwnedFd) -> Binary:
    info = _check_root_alone(file, path)
    if not stat.S_ISREG(info.st_mode):
        raise Untrusted(f"'{path}' is not a regular file")
    key = f"{info.st_dev}:{info.st_ino}:{info.st_size}:{info.st_mtime_ns}:{info.st_ctime_ns}"
    return Binary(path, file, key, info.st_size)


def _check_root_alone(fd: OwnedFd, path: str) -> os.stat_result:
    # A POSIX ACL that lets somebody else write shows in the group bits (acl(5), the mask entry).
    info = os.fstat(fd.borrow())
    if info.st_uid != 0:
        raise Untrusted(f"'{path}' does not belong to root")
    if info.st_mode & WRITABLE_BY_OTHERS:
        raise Untrusted(f"'{path}' may be written by others than root")
    return info


def scan(binary: Binary) -> list[Embedded]:
    """Return every eBPF object in *binary*, by reading all of it."""
    found: list[Embedded] = []
    for offset in _magic_offsets(binary):
        length = _object_length(binary, offset)
        if length:
            elf = os.pread(binary.fd.borrow(), length, offset)
            found.append(Embedded(sha256(elf), offset, length))
        if len(found) == MAX_OBJECTS_PER_BINARY:
            break
    return found


def _magic_offsets(binary: Binary) -> Iterator[int]:
    """Yield where an ELF header may start. Chunks overlap, so that none is cut in two."""
    base = 0
    while base < binary.size:
        chunk = os.pread(binary.fd.borrow(), CHUNK_BYTES + len(ELF_MAGIC) - 1, base)
        at = chunk.find(ELF_MAGIC)
        while at >= 0:
            yield base + at
            at = chunk.find(ELF_MAGIC, at + 1)
        base += CHUNK_BYTES


def _object_length(binary: Binary, offset: int) -> int:
    """Return the length of the eBPF object at *offset*, or 0 if there is none.

    The section headers are the last thing in an object file as compilers write it.
    """
    raw = os.pread(binary.fd.borrow(), ELF_HEADER.size, offset)
    if len(raw) < ELF_HEADER.size:
        return 0
    header = ELF_HEADER.unpack(raw)
    bits, order = header[1:3]
    kind, machine = header[6:8]
    if (bits, order, kind, machine) != (ELFCLASS64, ELFDATA, ET_REL, EM_BPF):
        return 0
    section_offset, entry_size, entries = header[11], header[16], header[17]
    length = int(section_offset + entry_size * entries)
    whole = ELF_HEADER.size < length <= min(MAX_OBJECT_BYTES, binary.size - offset)
    return length if whole else 0


class TrustedObjects:
    """The objects of all trusted binaries, and those found earlier."""

    def __init__(self, state: StateFolder) -> None:
        """Keep the index and what was found in *state*."""
        self._state = state
        self._index = _read_index(state)
        self._distrusted: set[str] = set()

    def find(self, digest: bytes, patterns: Iterable[str]) -> bytes:
        """Return the object whose SHA-256 is *digest*.

        Raises:
            RequestError: no trusted binary has it, and none had it before.
        """
        try:
            found = self._find_in_binaries(digest, patterns)
        except OSError as error:
            # Not "unknown": it may well be there, and the client may remember what we say.
            raise RequestError(
                Code.FAILED,
                f"cannot look through the trusted binaries: {error.strerror}",
                "try again, or raise LimitNOFILE= or MemoryMax= in the unit",
            ) from error
        if found is not None:
            return found
        remembered = self._state.read(_file_name(digest))
        if remembered is not None and sha256(remembered) == digest:
            return remembered
        raise RequestError(
            Code.UNKNOWN_OBJECT,
            f"no trusted QEMU carries the object {digest.hex()[:16]}",
            "the QEMU must be installed by root, where the policy's [qemu] trusted looks "
            f"({', '.join(patterns)})",
        )

    def _find_in_binaries(self, digest: bytes, patterns: Iterable[str]) -> bytes | None:
        for binary in self._binaries(patterns):
            with binary.fd:
                for embedded in self._objects(binary):
                    elf = _read(binary, embedded) if embedded.digest == digest else None
                    if elf is not None:
                        self._remember(digest, elf)
                        return elf
        return None

    def _binaries(self, patterns: Iterable[str]) -> Iterator[Binary]:
        """Yield each trusted binary once; whoever takes it closes it."""
        for path in _matches(patterns):
            try:
                yield open_trusted(path)
            except (Untrusted, OSError) as error:
                if isinstance(error, OSError) and error.errno in NO_RESOURCES:
                    raise
                self._say_once(path, error)

    def _say_once(self, path: str, error: Untrusted | OSError) -> None:
        if path in self._distrusted:
            return
        self._distrusted.add(path)
        if isinstance(error, OSError) and error.errno == errno.ELOOP:
            # Distributions have such links beside their targets, which are looked into.
            log(INFO, f"not following the symbolic link '{path}'")
        else:
            log(WARNING, f"not looking into '{path}': {error}, ignoring")

    def _objects(self, binary: Binary) -> list[Embedded]:
        found = self._index.get(binary.key)
        if found is None:
            found = scan(binary)
            log(INFO, f"'{binary.path}' carries {len(found)} eBPF objects")
            # A new dict, never a changed one: another worker may be reading the old one.
            newest = list(self._index.items())[-MAX_BINARIES + 1 :]
            self._index = index = {**dict(newest), binary.key: found}
            _write_index(self._state, index)
        return found

    def _remember(self, digest: bytes, elf: bytes) -> None:
        name = _file_name(digest)
        if self._state.read(name) == elf:
            return
        try:
            self._state.write(name, elf)
            for old in self._state.names("object-")[:-MAX_REMEMBERED]:
                self._state.remove(old)
        except OSError as error:
            log(WARNING, f"cannot keep the object {digest.hex()[:16]}: {error}, ignoring")


def _file_name(digest: bytes) -> str:
    return f"object-{digest.hex()}"


def _matches(patterns: Iterable[str]) -> Iterator[str]:
    """Yield the paths that the patterns name, each once. Only the last part has wildcards."""
    seen: set[str] = set()
    for pattern in patterns:
        folder, _, name = pattern.rpartition("/")
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            for found in sorted(fnmatch.filter(os.listdir(folder or "/"), name))[:MAX_BINARIES]:
                path = f"{folder}/{found}"
                if path not in seen:
                    seen.add(path)
                    yield path


def _read(binary: Binary, embedded: Embedded) -> bytes | None:
    """Return the bytes of *embedded* as they are now, or None if they are no longer those."""
    elf = os.pread(binary.fd.borrow(), embedded.length, embedded.offset)
    return elf if sha256(elf) == embedded.digest else None


def _read_index(state: StateFolder) -> dict[str, list[Embedded]]:
    """Return the index as it was written, or an empty one: losing it costs time only."""
    raw = state.read(INDEX_FILE)
    if raw is None:
        return {}
    try:
        stored = msgpack.unpackb(raw)
        if stored["format"] != INDEX_FORMAT:
            return {}
        return {
            str(key): [Embedded(bytes(d), int(o), int(n)) for d, o, n in found]
            for key, found in stored["binaries"].items()
        }
    except (ValueError, TypeError, KeyError, AttributeError, msgpack.UnpackException):
        log(WARNING, f"'{INDEX_FILE}' in the state folder is broken; looking again, ignoring")
        return {}


def _write_index(state: StateFolder, index: dict[str, list[Embedded]]) -> None:
    try:
        state.write(INDEX_FILE, msgpack.packb({"format": INDEX_FORMAT, "binaries": index}))
    except OSError as error:
        log(WARNING, f"cannot keep the index of objects: {error}, ignoring")
