# SPDX-License-Identifier: LGPL-2.1-or-later
"""Why well-known parts of a libvirt document are refused, and what to do instead."""

from pathlib import Path

import pytest

from bpferry.domain.document import read_bytes
from bpferry.domain.refused import REFUSED, find_reason
from bpferry.errors import Unsupported

NEEDED = "<name>vm</name><memory unit='MiB'>64</memory><os><type>hvm</type></os>"

WITH_TYPE = {"interface": " type='user'"}
"""Elements that are nothing without an attribute."""


def document_with(path: str) -> str:
    """Return a document that has, beside what every one needs, only what stands at *path*."""
    where, _, attribute = path.partition("/@")
    _, _, *tags = where.split("/")
    opened = [f"<{tag}{WITH_TYPE.get(tag, '')}>" for tag in tags]
    if attribute:
        opened[-1] = opened[-1].replace(">", f" {attribute}='x'>")
    closed = [f"</{tag}>" for tag in reversed(tags)]
    return f"<domain type='kvm'>{NEEDED}{''.join(opened)}{''.join(closed)}</domain>"


@pytest.mark.parametrize("path", REFUSED)
def test_refusal_says_why(path: str) -> None:
    """What people have in their documents is refused with a reason and a way out."""
    with pytest.raises(Unsupported) as caught:
        read_bytes(document_with(path).encode(), Path("/vms/vm.xml"))

    assert (path, REFUSED[path][1]) == (caught.value.element, caught.value.hint)
    assert REFUSED[path][0] in caught.value.message


def test_reason_counts_for_what_stands_below() -> None:
    """A part of what is listed has the same reason; what is not listed has none."""
    assert REFUSED["/domain/devices/interface/vlan"] == find_reason(
        "/domain/devices/interface/vlan/tag/@id"
    )
    assert find_reason("/domain/devices/interface/source") is None
