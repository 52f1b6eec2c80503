# SPDX-License-Identifier: LGPL-2.1-or-later
"""SHA-256, from the C code in CPython itself.

hashlib would do the same through OpenSSL: 4 MB, by far the largest library in a privileged process
that needs one function of it. The module is called _sha2 since Python 3.12.
"""

try:
    from _sha2 import sha256 as _sha256
except ModuleNotFoundError:
    from _sha256 import sha256 as _sha256


def sha256(data: bytes) -> bytes:
    """Return the digest of *data* (32 bytes)."""
    digest: bytes = _sha256(data).digest()
    return digest
