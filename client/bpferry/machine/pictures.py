# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pictures: PPM as QEMU writes it, and PNG as everything else reads it.

PPM    P6 WIDTH HEIGHT 255 and one white space, then three bytes for each point
PNG    8 bytes, then parts: u32 length, name, data, u32 CRC-32 of name and data (RFC 2083)
"""

import re
import struct
import zlib
from typing import Final

from bpferry.errors import BpferryError

PPM: Final = re.compile(rb"P6\s(?P<width>\d{1,5})\s(?P<height>\d{1,5})\s255\s")

PNG: Final = b"\x89PNG\r\n\x1a\n"
HEADER: Final = struct.Struct(">IIBBBBB")
TRUE_COLOUR: Final = 2
"""Three values for each point, of 8 bits each."""

UNFILTERED: Final = b"\0"
"""The byte before each line that says that it is as it is."""


def png_of(ppm: bytes) -> bytes:
    """Return the picture *ppm* as PNG.

    Raises:
        BpferryError: it is none.
    """
    head = PPM.match(ppm)
    if head is None:
        raise BpferryError("QEMU's picture of the screen is not valid")
    width, height = int(head["width"]), int(head["height"])
    line, points = width * 3, memoryview(ppm)[head.end() :]
    if not line or len(points) != line * height:
        raise BpferryError("QEMU's picture of the screen is not complete")
    lines = b"".join(
        UNFILTERED + bytes(points[start : start + line]) for start in range(0, len(points), line)
    )
    size = HEADER.pack(width, height, 8, TRUE_COLOUR, 0, 0, 0)
    parts = (b"IHDR", size), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")
    return PNG + b"".join(_part(name, data) for name, data in parts)


def _part(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
