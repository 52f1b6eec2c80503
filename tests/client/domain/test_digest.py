# SPDX-License-Identifier: LGPL-2.1-or-later
"""Our hashes are those of hashlib, hmac and uuid."""

import hashlib
import hmac
import uuid

from hypothesis import given
from hypothesis import strategies as st

from bpferry.domain.digest import keyed_sha256, sha256, uuid5


@given(st.binary(max_size=300))
def test_digest_is_that_of_hashlib(data: bytes) -> None:
    """Also of nothing, and of more than one block."""
    assert sha256(data) == hashlib.sha256(data).digest()


@given(st.binary(max_size=64), st.binary(max_size=300))
def test_keyed_digest_is_that_of_hmac(key: bytes, data: bytes) -> None:
    """With each length of a key that needs no hash of its own."""
    assert keyed_sha256(key, data) == hmac.digest(key, data, "sha256")


@given(st.uuids(), st.text())
def test_named_uuid_is_that_of_uuid(namespace: uuid.UUID, name: str) -> None:
    """So that a VM keeps its UUID."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return
    assert uuid5(namespace, name) == uuid.uuid5(namespace, name)
