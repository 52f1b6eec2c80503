# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds an object by its digest in a QEMU that root installed.

QEMU carries its objects verbatim, so the helper need not take anybody's word for an object. It goes
through the binaries that policy names and that only root could have changed (``binary``), and looks
for an object with the requested digest (``embedded``).

The index of what was found where only saves reading some hundred MB again. It is never trusted:
the file is checked each time, and the bytes are read and hashed again.

An object is also kept in the state folder once found, so that a card can be hot-plugged into a QEMU
that is still running after its package was upgraded. Debian's package starts ``keep_all`` whenever
a QEMU is installed: the object is then kept even if no card has needed it before.

Known hole: that folder is trusted as much as the helper itself, since only the helper's user can
write there. ``systemctl clean --what=state bpferry-bpf`` empties it.
"""

import errno
import fnmatch
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from threading import Lock
from typing import Final

import msgpack

from bpferry_helper.bpf.binary import Binary, Untrusted, open_trusted
from bpferry_helper.bpf.digest import sha256
from bpferry_helper.bpf.embedded import Embedded, scan
from bpferry_helper.bpf.state import StateFolder
from bpferry_helper.errors import NO_RESOURCES, RequestError
from bpferry_helper.log import INFO, WARNING, log
from bpferry_wire.errors import Code

MAX_BINARIES: Final = 256
"""All of Debian's QEMU packages together have 60 system emulators."""

MAX_REMEMBERED: Final = 64
"""Objects kept in the state folder: one per QEMU release that a long-lived host has seen."""


INDEX_FILE: Final = "index.msgpack"
INDEX_FORMAT: Final = 1


class TrustedObjects:
    """The objects of all trusted binaries, and those found earlier."""

    def __init__(self, state: StateFolder) -> None:
        """Keep the index and what was found in *state*."""
        self._state = state
        self._index = _read_index(state)
        self._distrusted: set[str] = set()
        self._searching = Lock()

    def find(self, digest: bytes, patterns: Iterable[str]) -> bytes:
        """Return the object whose SHA-256 is *digest*.

        Raises:
            RequestError: no trusted binary has it, and none had it earlier.
        """
        try:
            found = self._find_in_binaries(digest, patterns)
        except OSError as error:
            # Not "unknown": it may well be there, and the client may cache our answer.
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

    def is_carried(self, digest: bytes, patterns: Iterable[str]) -> bool:
        """Return whether a trusted binary has the object now; True if that cannot be told."""
        try:
            for binary in self._binaries(patterns):
                with binary.fd:
                    if any(embedded.digest == digest for embedded in self._objects(binary)):
                        return True
        except OSError:
            return True
        return False

    def keep_all(self, patterns: Iterable[str]) -> int:
        """Keep the objects of all trusted binaries in the state folder; return how many there are.

        Raises:
            OSError: there is too little memory, or too few fds.
        """
        kept = set()
        for binary in self._binaries(patterns):
            with binary.fd:
                for embedded in self._objects(binary):
                    elf = None if embedded.digest in kept else _read(binary, embedded)
                    if elf is not None:
                        self._remember(embedded.digest, elf)
                        kept.add(embedded.digest)
        return len(kept)

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
        """Yield each trusted binary once; the caller closes it."""
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
            # Distributions put such links next to their targets, which are searched.
            log(INFO, f"not following the symbolic link '{path}'")
        else:
            log(WARNING, f"not looking into '{path}': {error}, ignoring")

    def _objects(self, binary: Binary) -> list[Embedded]:
        found = self._index.get(binary.key)
        if found is not None:
            return found
        # One worker searches; another that needs the same waits for it. The index is written after
        # each binary, so that a helper that is stopped meanwhile can continue from there.
        with self._searching:
            found = self._index.get(binary.key)
            if found is not None:
                return found
            found = scan(binary)
            log(INFO, f"'{binary.path}' carries {len(found)} eBPF objects")
            # A new dict: another worker may be reading the old one.
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
    """Yield the paths that the patterns match, each once. Only the last part has wildcards."""
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
    """Return the bytes of *embedded*, or None if they have changed."""
    elf = os.pread(binary.fd.borrow(), embedded.length, embedded.offset)
    return elf if sha256(elf) == embedded.digest else None


def _read_index(state: StateFolder) -> dict[str, list[Embedded]]:
    """Return the saved index, or an empty one: losing it only costs time."""
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
