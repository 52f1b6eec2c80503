# SPDX-License-Identifier: LGPL-2.1-or-later
"""The digest is SHA-256."""

import hashlib

import pytest

from bpferry_helper.bpf.digest import sha256


@pytest.mark.parametrize("length", [0, 1, 55, 56, 64, 20_208])
def test_the_digest_is_sha_256(length: int) -> None:
    """The same as hashlib's, which is not loaded by the helper."""
    data = bytes(n % 251 for n in range(length))

    assert hashlib.sha256(data).digest() == sha256(data)
