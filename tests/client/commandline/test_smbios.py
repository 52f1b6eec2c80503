# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the guest can read about its machine."""

import pytest

from tests.client.commandline.system_parts import all_parts, context_of, values
from tests.client.refusals import refusal_of

MODE = "<smbios mode='sysinfo'/>"
BOARD = "<baseBoard><entry name='version'>1</entry></baseBoard>"
OTHER = "32dfcb37-5af1-552b-357c-be8c3aa38310"
UUID = "c7a5fdbd-edaf-9455-926a-d65c16db1809"


def test_tables() -> None:
    """Each table is an option; commas of values are doubled."""
    info = (
        "<sysinfo type='smbios'><bios><entry name='vendor'>A, B</entry></bios>"
        "<system><entry name='serial'>7</entry><entry name='manufacturer'>M</entry></system>"
        "<baseBoard><entry name='location'>L</entry></baseBoard>"
        "<chassis><entry name='sku'>S</entry></chassis>"
        "<oemStrings><entry>x,type=1</entry><entry>y</entry></oemStrings></sysinfo>"
    )

    assert [
        "type=0,vendor=A,, B",
        "type=1,serial=7,manufacturer=M",
        "type=2,location=L",
        "type=3,sku=S",
        "type=11,value=x,,type=1,value=y",
    ] == values(context_of(info, os=MODE), "-smbios")


def test_empty_values_say_nothing() -> None:
    """An empty value is as if it were not there, and so is a table with nothing else."""
    info = (
        f"<uuid>{UUID}</uuid><sysinfo type='smbios'><bios><entry name='vendor'/></bios>"
        "<system><entry name='serial'></entry><entry name='uuid'/><entry name='sku'>7</entry>"
        "</system><baseBoard/><baseBoard><entry name='version'/></baseBoard>"
        "<baseBoard><entry name='version'>2</entry></baseBoard></sysinfo>"
    )

    assert ["type=1,sku=7", "type=2,version=2"] == values(context_of(info, os=MODE), "-smbios")


def test_the_first_of_two_values_counts() -> None:
    """Of two values with one name libvirt takes the first, even an empty one."""
    info = (
        "<sysinfo type='smbios'><bios><entry name='vendor'>A</entry><entry name='vendor'>B</entry>"
        "<entry name='date'/><entry name='date'>01/02/2003</entry></bios></sysinfo>"
    )

    assert ["type=0,vendor=A"] == values(context_of(info, os=MODE), "-smbios")


def test_nothing_without_the_mode() -> None:
    """A description that the mode does not ask for is not shown to the guest, as in libvirt."""
    info = "<sysinfo type='smbios'><bios><entry name='vendor'>A</entry></bios></sysinfo>"

    assert [] == values(context_of(info), "-smbios")


@pytest.mark.parametrize("os", ["", MODE])
def test_uuid_of_the_vm_is_that_of_the_tables(os: str) -> None:
    """Where the VM names none, the one that its tables show is its own, as in libvirt."""
    entries = f"<entry name='uuid'>{UUID}</entry><entry name='uuid'>{OTHER}</entry>"
    info = f"<sysinfo type='smbios'><system>{entries}</system></sysinfo>"

    assert [UUID] == values(context_of(info, os=os), "-uuid")
    assert [UUID] == values(context_of(f"<uuid>{UUID}</uuid>{info}", os=os), "-uuid")


@pytest.mark.parametrize("entry", [OTHER, "12345"])
def test_uuid_that_the_vm_cannot_have(entry: str) -> None:
    """Tables that would not be shown are refused as well if they contradict the VM."""
    info = f"<sysinfo type='smbios'><system><entry name='uuid'>{entry}</entry></system></sysinfo>"

    refusal = refusal_of(all_parts, context_of(f"<uuid>{UUID}</uuid>{info}"))
    assert refusal.element == "sysinfo[0].system[0]"


def test_text_that_is_not_a_uuid() -> None:
    """A VM that names no UUID cannot have a text in its place."""
    info = "<sysinfo type='smbios'><system><entry name='uuid'>x</entry></system></sysinfo>"

    assert refusal_of(all_parts, context_of(info)).element == "sysinfo[0].system[0]"


def test_values() -> None:
    """Values of fw_cfg are texts or files."""
    info = (
        "<sysinfo type='fwcfg'><entry name='opt/com.example/name'>a, b</entry>"
        "<entry name='opt/com.example/file' file='/tmp/f'/></sysinfo>"
    )

    assert [
        "name=opt/com.example/name,string=a,, b",
        "name=opt/com.example/file,file=/tmp/f",
    ] == values(context_of(info), "-fw_cfg")


@pytest.mark.parametrize(
    ("info", "os", "key"),
    [
        ("", MODE, "smbios"),
        (
            (f"<uuid>{UUID}</uuid><sysinfo type='smbios'><system>"
            "<entry name='uuid'>32dfcb37-5af1-552b-357c-be8c3aa38310</entry></system></sysinfo>"),
            MODE,
            "sysinfo[0].system[0]",
        ),
        (
            f"<sysinfo type='smbios'>{BOARD}{BOARD}</sysinfo>",
            MODE,
            "sysinfo[0].boards[1]",
        ),
        ("<sysinfo type='fwcfg'><entry name='etc/x'>A</entry></sysinfo>", "", "sysinfo[0].entries[0].name"),  # noqa: E501
        ("<sysinfo type='fwcfg'><entry name='opt/ovmf/x'>A</entry></sysinfo>", "", "sysinfo[0].entries[0].name"),  # noqa: E501
        ("<sysinfo type='fwcfg'><entry name='opt/x/y'/></sysinfo>", "", "sysinfo[0].entries[0]"),
    ],
)  # fmt: skip
def test_refusals(info: str, os: str, key: str) -> None:
    """What SMBIOS or QEMU has no place for is refused, with its key."""
    assert refusal_of(all_parts, context_of(info, os=os)).element == key
