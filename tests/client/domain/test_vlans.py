# SPDX-License-Identifier: LGPL-2.1-or-later
"""The VLANs of a card in both forms of a document: without tags, and with them."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from bpferry.domain.document import read_bytes, to_toml, to_xml
from bpferry.domain.model.machine import Machine
from bpferry.errors import BpferryError

XML: Final = """\
<domain type='kvm'><name>vm</name><memory>1048576</memory><os><type>hvm</type></os><devices>
<interface type='bridge'><source bridge='br0'/>
{}
</interface></devices></domain>
"""
TOML: Final = """\
name = "vm"
memory = "1 GiB"
[[cards]]
bridge = "br0"
"""

Vlans = tuple[int | None, tuple[int, ...]]
"""The one without tags, and those with."""


def read(text: str, kind: str) -> Machine:
    """Return the VM of a document."""
    return read_bytes(text.encode(), Path(f"/vms/vm.{kind}")).machine


def vlans_of(machine: Machine) -> Vlans:
    """Return the VLANs of the only card."""
    (card,) = machine.cards
    return card.vlan, card.tagged_vlans


NATIVE: Final = "<vlan{}><tag id='42'/><tag id='47' nativeMode='untagged'/><tag id='50'/></vlan>"

IN_XML: Final[dict[str, Vlans]] = {
    "<vlan><tag id='10'/></vlan>": (10, ()),
    "<vlan trunk='no'><tag id='10'/></vlan>": (10, ()),
    "<vlan trunk='yes'><tag id='10'/></vlan>": (None, (10,)),
    "<vlan trunk='yes'><tag id='10'/><tag id='11'/></vlan>": (None, (10, 11)),
    "<vlan><tag id='10'/><tag id='11'/></vlan>": (None, (10, 11)),
    NATIVE.format(" trunk='yes'"): (47, (42, 50)),
    NATIVE.format(""): (47, (42, 50)),
    "<vlan trunk='yes'><tag id='47' nativeMode='untagged'/></vlan>": (47, ()),
}
"""As libvirt reads them (virNetDevVlanParse in src/conf/netdev_vlan_conf.c)."""


@pytest.mark.parametrize(("element", "expected"), IN_XML.items())
def test_trunks_in_libvirt_s_words(element: str, expected: Vlans) -> None:
    """Several tags, or trunk='yes', make a trunk; one of them may be without tags."""
    assert expected == vlans_of(read(XML.format(element), "xml"))


@pytest.mark.parametrize("element", IN_XML)
@pytest.mark.parametrize(("write", "kind"), [(to_xml, "xml"), (to_toml, "toml")])
def test_converted_trunks_are_the_same(
    element: str, write: Callable[[Machine], str], kind: str
) -> None:
    """In either form."""
    machine = read(XML.format(element), "xml")

    assert IN_XML[element] == vlans_of(read(write(machine), kind))


def test_a_trunk_is_written_in_libvirt_s_words() -> None:
    """No element of our own is in a document that libvirt is to read."""
    machine = read(f"{TOML}vlan = 47\ntagged-vlans = [42, 50]\n", "toml")
    lines = [line.strip() for line in to_xml(machine).splitlines()]

    assert [
        '<vlan trunk="yes">',
        '<tag id="47" nativeMode="untagged" />',
        '<tag id="42" />',
        '<tag id="50" />',
        "</vlan>",
    ] == lines[lines.index('<vlan trunk="yes">') :][:5]


REFUSED: Final = {
    "<vlan trunk='yes'><tag id='1'/><tag id='2' nativeMode='tagged'/></vlan>": (
        "frames of that VLAN would have a tag on their way to the guest, and none on the way back"
    ),
    "<vlan trunk='maybe'><tag id='1'/></vlan>": "a trunk has trunk='yes'",
    "<vlan trunk='no'><tag id='1'/><tag id='2'/></vlan>": "a trunk has trunk='yes'",
    "<vlan trunk='yes'><tag id='1' nativeMode='untagged'/><tag id='2' nativeMode='untagged'/>"
    "</vlan>": "at most one of its tags has a nativeMode",
    "<vlan trunk='yes'><tag id='1'/><tag id='4095'/></vlan>": "a VLAN, from 1 to 4094",
    "<vlan trunk='yes'><tag id='1'/><tag id='1' nativeMode='untagged'/></vlan>": (
        "VLAN 1 is here for frames without a tag and for those with one"
    ),
}


@pytest.mark.parametrize(("element", "words"), REFUSED.items())
def test_what_cannot_be_is_refused_with_its_reason(element: str, words: str) -> None:
    """And nothing is taken for something else."""
    with pytest.raises(BpferryError) as caught:
        read(XML.format(element), "xml")

    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("vlan = 10", (10, ())),
        ("tagged-vlans = [10]", (None, (10,))),
        ('vlan = 47\ntagged-vlans = [42, "50-53", 60]', (47, (42, 50, 51, 52, 53, 60))),
        ('tagged-vlans = ["4094-4094"]', (None, (4094,))),
    ],
)
def test_trunks_in_a_native_description(keys: str, expected: Vlans) -> None:
    """Numbers, and ranges of them."""
    assert expected == vlans_of(read(f"{TOML}{keys}\n", "toml"))


@pytest.mark.parametrize(
    "entry", ['"50-49"', '"0-3"', '"4094-4095"', '"10"', "0", "4095", '"1-9999999999999"']
)
def test_what_is_no_vlan_is_said(entry: str) -> None:
    """With the key."""
    with pytest.raises(BpferryError, match="tagged-vlans"):
        read(f"{TOML}tagged-vlans = [{entry}]\n", "toml")
