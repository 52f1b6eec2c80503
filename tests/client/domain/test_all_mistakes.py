# SPDX-License-Identifier: LGPL-2.1-or-later
"""All that is wrong with a document is told at once, and no VM has a name that is none."""

from pathlib import Path
from typing import Final

import pytest

from bpferry.domain.document import read_bytes
from bpferry.errors import BpferryError

XML: Final = "<domain type='kvm'><name>{}</name><memory>65536</memory>{}</domain>"


WANTED: Final = ("start", "target", "count")
"""What a range of users needs."""


def errors_of(text: str, name: str = "vm.toml") -> list[BpferryError]:
    """Return all that *text* is answered with."""
    with pytest.raises(BpferryError) as caught:
        read_bytes(text.encode(), Path(f"/{name}"))
    return [caught.value, *caught.value.others]


def test_texts_and_contradictions() -> None:
    """What is wrong with texts and between fields is told together."""
    found = errors_of(
        'name = "a/b"\nmemory = "64 MiB"\nkernel = "/a\\u0001"\n'
        '[[cards]]\ntype = "user"\ntap = "t0"\n'
    )

    assert {"kernel", "name", "cards[0].tap"} == {error.element for error in found}


def test_domain_document() -> None:
    """Mistakes are told after what is not supported, with all of both."""
    inner = "<uuid>x</uuid><vcpu>2</vcpu><os><initrd>&#x9;a&#x9;b</initrd></os><spaceship/>"

    found = errors_of(XML.format("a/b", inner), "vm.xml")

    told = [(error.status, error.element) for error in found]
    assert (3, "/domain/spaceship") in told
    assert told[-2:] == [(2, "/domain/os/initrd"), (2, "/domain/name")]


def test_a_value_that_the_vm_needs_hides_nothing_behind_it() -> None:
    """What is refused and what is wrong after it are told too, each where it is."""
    found = errors_of(
        "<domain type='kvm'>\n<memory>zz</memory>\n<vcpu>yy</vcpu>\n<devices>\n"
        "<disk type='volume'/>\n<memory model='dimm'><target><size>x</size><node>y</node></target>"
        "</memory>\n</devices>\n</domain>",
        "vm.xml",
    )

    assert [
        (3, "/domain/devices/disk/@type"),
        (2, "/domain/memory"),
        (2, "/domain/vcpu"),
        (2, "/domain/devices/memory/target/size"),
        (2, "/domain/devices/memory/target/node"),
    ] == [(error.status, error.element) for error in found]


def test_all_that_is_missing_is_told() -> None:
    """And nothing is missing whose value is only wrong."""
    ids = "<filesystem><target dir='x'/><idmap><uid {}/></idmap></filesystem>"

    found, wrong = (
        errors_of(XML.format("a", f"<devices>{ids.format(uid)}</devices>"), "vm.xml")
        for uid in ("", "start='x'")
    )

    uid = "/domain/devices/filesystem/idmap/uid/"
    assert [error.element for error in found] == [f"{uid}@{name}" for name in WANTED]
    assert [error.element for error in wrong] == [f"{uid}@{name}" for name in WANTED]
    assert "is 'x'" in wrong[0].message


@pytest.mark.parametrize("name", ["", "../../x", "/", "a/b", "a\\nb"])
def test_name_that_no_vm_can_have(name: str) -> None:
    """It is refused with its place: names of folders, sockets and locks are made of it."""
    (error,) = errors_of(f'name = "{name}"\nmemory = "64 MiB"\n')

    assert error.element == "name"
    assert error.message.startswith("'/vm.toml':1: 'name'")


@pytest.mark.parametrize("name", ["web", "..", ".x", "my vm", "é"])
def test_name_that_a_vm_can_have(name: str) -> None:
    """Anything else goes, as under libvirt."""
    assert read_bytes(XML.format(name, "").encode(), Path("/vm.xml")).machine.name == name
