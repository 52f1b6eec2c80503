# SPDX-License-Identifier: LGPL-2.1-or-later
"""SHA-256, from the C code that CPython itself carries.

hashlib would give the same, through OpenSSL: 4 MB of library, and the largest one by far, in a
process that holds a privilege and needs one function. The module has been called _sha2 since 3.12.
"""

try:
    from _sha2 import sha256 as _sha256
except ModuleNotFoundError:
    from _sha256 import sha256 as _sha256


def sha256(data: bytes) -> bytes:
    """Return the digest of *data*, 32 bytes."""
    digest: bytes = _sha256(data).digest()
    return digest
