# SPDX-License-Identifier: LGPL-2.1-or-later
"""Why well-known parts of a libvirt document are refused, and what to do instead."""

import re
from pathlib import Path
from typing import Final

import pytest

from bpferry.domain.document import read_bytes
from bpferry.domain.global_quota import ALL_TOGETHER, VAIN
from bpferry.domain.patterns import Patterns
from bpferry.domain.refused import REFUSED, find_reason, find_reason_of_value
from bpferry.errors import Unsupported

NEEDED = "<name>vm</name><memory unit='MiB'>64</memory>"

EXAMPLES: Final = {
    "/domain/devices/*/boot": "/domain/devices/disk/boot",
    "/**/dataStore": "/source/dataStore",
    "/nvram/source/*": "/nvram/source/auth",
    "/domain/devices/*/": "/domain/devices/sound/",
    "/**": "/backingStore",
    "/domain/os/init*": "/domain/os/initarg",
    "/space_*": "/space_hard_limit",
    "/qemu:*/@qemu:*": "/qemu:arg/@qemu:value",
}
"""What is put for the stars of a pattern."""

STEP: Final = re.compile(r"/(@?[\w:.-]+)(?:\[(@?[\w.]+)='([^']*)'\])?")


def document_with(pattern: str) -> str:
    """Return a document that has, beside what every one needs, only what *pattern* means."""
    path = pattern
    for stars, example in EXAMPLES.items():
        path = path.replace(stars, example)
    steps = STEP.findall(path.removeprefix("/domain"))
    opened, closed, kind = "", "", " type='kvm'"
    for name, condition, word in steps:
        if name == "@type" and not opened:
            kind = " type='spaceship'"
        elif name.startswith("@"):
            opened = f"{opened[:-1]} {name[1:]}='spaceship'>"
        else:
            attribute = f" {condition[1:]}='{word}'" if condition.startswith("@") else ""
            text = word if condition == "." else ""
            opened += f"<{name}{attribute}>{text}"
            closed = f"</{name}>{closed}"
    if not steps[-1][0].startswith("@") and not steps[-1][1]:
        opened += "spaceship"
    space = " xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"
    return f"<domain{kind}{space}>{NEEDED}{opened}{closed}</domain>"


@pytest.mark.parametrize("pattern", REFUSED)
def test_refusal_says_why(pattern: str) -> None:
    """What people have in their documents is refused with a reason and a way out."""
    with pytest.raises(Unsupported) as caught:
        read_bytes(document_with(pattern).encode(), Path("/vms/vm.xml"))

    told = [(one.message, one.hint) for one in (caught.value, *caught.value.others)]
    reason, hint = REFUSED[pattern]
    # Without a value of its own, this document has no limits.
    hint = VAIN if ALL_TOGETHER in hint else hint
    assert any(f" is not supported: {reason}" in message and hint == out for message, out in told)


def test_reasons_are_plain_clauses_and_hints_say_what_to_do() -> None:
    """A reason goes on after a colon; a hint begins with a verb, and neither ends a sentence."""
    for reason, hint in REFUSED.values():
        assert not reason.endswith(".")
        assert not hint.endswith(".")
        assert len(reason.split()) > 3
        assert hint[0].islower()


def test_reason_counts_for_what_is_below() -> None:
    """A part of what is listed has the same reason; what is not listed has none."""
    assert REFUSED["/domain/devices/interface/coalesce"] == find_reason(
        "/domain/devices/interface/coalesce/rx/frames/@max"
    )
    assert find_reason("/domain/devices/interface/source") is None


def test_reason_of_an_element_by_its_attribute() -> None:
    """Each kind of device of the host has its own way out."""
    kinds = {
        kind: find_reason("/domain/devices/hostdev", {"mode": "subsystem", "type": kind})
        for kind in ("net", "scsi", "spaceship")
    }

    assert REFUSED["/domain/devices/hostdev[@type='net']"] == kinds["net"]
    assert REFUSED["/domain/devices/hostdev[@type='scsi']"] == kinds["scsi"]
    assert kinds["spaceship"] is None


def test_reason_of_a_word_is_only_for_that_word() -> None:
    """A slip of the pen is not taken for something that is known not to work."""
    path = "/domain/devices/interface/@type"

    assert REFUSED["/domain/devices/interface[@type='direct']"] == find_reason_of_value(
        path, "direct"
    )
    assert find_reason_of_value(path, "birdge") is None


def test_words_that_are_possible_come_with_the_reason() -> None:
    """One may be what the user needs."""
    raw = f"<domain type='kvm'>{NEEDED}<devices><disk type='volume'/></devices></domain>"

    with pytest.raises(Unsupported) as caught:
        read_bytes(raw.encode(), Path("/vms/vm.xml"))

    assert caught.value.message == (
        "'/vms/vm.xml':1: '/domain/devices/disk/@type' is 'volume', which is not supported: only "
        "libvirt knows its storage pools; possible values: file, block, network, dir, vhostuser"
    )
    assert "virsh vol-path" in caught.value.hint


def test_a_word_that_is_near_is_named() -> None:
    """As for elements and attributes."""
    raw = f"<domain type='kvm'>{NEEDED}<devices><interface type='birdge'/></devices></domain>"

    with pytest.raises(Unsupported) as caught:
        read_bytes(raw.encode(), Path("/vms/vm.xml"))

    assert caught.value.hint.startswith(
        "did you mean 'bridge'? otherwise write what is possible, or "
    )


def test_patterns() -> None:
    """One star is a part of one step, two are steps; the pattern without a star counts first."""
    patterns = Patterns(("/a/*/c", "/a/b/c", "/a/**/z", "/x"))

    assert ["/a/b/c", "/a/*/c", None] == [
        patterns.find(path) for path in ("/a/b/c", "/a/q/c", "/a/c")
    ]
    assert ["/a/**/z", "/a/**/z", None] == [
        patterns.find(path) for path in ("/a/q/z", "/a/q/r/z", "/a/z")
    ]
    assert ["/x", "/x", None] == [patterns.find_around(path) for path in ("/x", "/x/y/@z", "/y/x")]
