# SPDX-License-Identifier: LGPL-2.1-or-later
"""Write the archive format that Linux unpacks as its initial file system.

The format is "newc" (Documentation/driver-api/early-userspace/buffer-format.rst in Linux):

    "070701"  13 fields of 8 hexadecimal digits  name NUL  padding to 4  data  padding to 4

and an entry named TRAILER!!! at the end. Owner is always root and every time is 0, so the same
content always gives the same bytes.
"""

import stat
from pathlib import PurePosixPath
from typing import BinaryIO

ALIGNMENT = 4
END = "TRAILER!!!"


class Archive:
    """A newc archive that is written sequentially. Borrows *out*."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._folders: set[PurePosixPath] = {PurePosixPath()}
        self._inode = 0

    def folder(self, name: str) -> None:
        """Add the folder *name* and the folders above it, which Linux does not make itself."""
        path = PurePosixPath(name)
        if path in self._folders:
            return
        self.folder(str(path.parent))
        self._folders.add(path)
        self._entry(name, stat.S_IFDIR | 0o755, b"")

    def file(self, name: str, data: bytes, *, executable: bool = False) -> None:
        """Add the regular file *name*, a path without a leading slash."""
        self.folder(str(PurePosixPath(name).parent))
        self._entry(name, stat.S_IFREG | (0o755 if executable else 0o644), data)

    def finish(self) -> None:
        """Write the end mark; nothing can be added afterwards."""
        self._entry(END, 0, b"")

    def _entry(self, name: str, mode: int, data: bytes) -> None:
        self._inode += 1
        encoded = name.encode() + b"\0"
        # inode, mode, uid, gid, links, time, size, device, special device, name's size, checksum
        fields = (self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        self._out.write(padded(head))
        self._out.write(padded(data))


def padded(data: bytes) -> bytes:
    """Return *data* with zero bytes up to the next multiple of four."""
    return data + bytes(-len(data) % ALIGNMENT)
