# SPDX-License-Identifier: LGPL-2.1-or-later
"""SHA-256, and what is made with a hash, without OpenSSL.

hashlib, hmac and uuid.uuid5() load OpenSSL, which takes a start 5 to 10 ms and a supervisor 1 MiB.
Python has these two hashes itself, and its module ``random`` takes a third one for this reason.
"""

import uuid
from typing import Final

try:
    from _sha1 import sha1

    try:
        from _sha2 import sha256 as _sha256  # Python 3.12
    except ImportError:
        from _sha256 import sha256 as _sha256
except ImportError:
    # A Python that was built without them.
    from hashlib import sha1
    from hashlib import sha256 as _sha256

BLOCK_BYTES: Final = 64
"""What SHA-256 takes at a time (FIPS 180-4)."""

INNER, OUTER = 0x36, 0x5C
"""What the bytes of a key are combined with (RFC 2104, section 2)."""


def sha256(data: bytes) -> bytes:
    """Return the digest of *data*."""
    digest: bytes = _sha256(data).digest()
    return digest


def keyed_sha256(key: bytes, data: bytes) -> bytes:
    """Return HMAC-SHA-256 of *data* (RFC 2104) with a *key* of at most 64 bytes."""
    assert len(key) <= BLOCK_BYTES  # noqa: S101 - a longer one would have to be hashed first
    block = key.ljust(BLOCK_BYTES, b"\0")
    inner = sha256(bytes(byte ^ INNER for byte in block) + data)
    return sha256(bytes(byte ^ OUTER for byte in block) + inner)


def uuid5(namespace: uuid.UUID, name: str) -> uuid.UUID:
    """Return the same as ``uuid.uuid5`` (RFC 9562, section 5.5)."""
    digest = sha1(namespace.bytes + name.encode()).digest()  # noqa: S324 - as the RFC says
    return uuid.UUID(bytes=digest[:16], version=5)
