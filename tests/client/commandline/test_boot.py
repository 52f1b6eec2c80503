# SPDX-License-Identifier: LGPL-2.1-or-later
"""Booting: the order of devices, kernels, and tables."""

import pytest

from bpferry.commandline.system.boot import boot_indexes
from tests.client.commandline.system_parts import all_parts, context_of, values
from tests.client.refusals import refusal_of

DISKS = """
<disk type='file' device='cdrom'><source file='/a.iso'/><target dev='sda' bus='sata'/></disk>
<disk type='file' device='disk'><source file='/b.img'/><target dev='vda' bus='virtio'/></disk>
<disk type='file' device='disk'><source file='/c.img'/><target dev='vdb' bus='virtio'/></disk>
"""

CARD = "<interface type='user'>{}</interface>"


@pytest.mark.parametrize(
    ("os", "expected"),
    [
        ("", {"disks[1]": 1}),
        ("<boot dev='hd'/>", {"disks[1]": 1}),
        ("<boot dev='cdrom'/><boot dev='hd'/>", {"disks[0]": 1, "disks[1]": 2}),
        ("<boot dev='network'/><boot dev='hd'/>", {"cards[0]": 1, "disks[1]": 2}),
        ("<boot dev='fd'/><boot dev='hd'/>", {"disks[1]": 2}),
    ],
)
def test_kinds(os: str, expected: dict[str, int]) -> None:
    """Of each kind that is named, the first device has the place of its kind."""
    context = context_of(os=os, devices=DISKS + CARD.format("") * 2)

    assert expected == boot_indexes(context.machine)


def test_order_of_their_own() -> None:
    """Devices that say their place have that place."""
    disk = DISKS.replace("dev='vdb' bus='virtio'/>", "dev='vdb' bus='virtio'/><boot order='2'/>")
    context = context_of(devices=disk + CARD.format("<boot order='1'/>"))

    assert boot_indexes(context.machine) == {"disks[2]": 2, "cards[0]": 1}


@pytest.mark.parametrize(
    ("os", "cards", "key"), [("<boot dev='hd'/>", 1, "boot"), ("", 2, "cards[1].boot-order")]
)
def test_contradictions(os: str, cards: int, key: str) -> None:
    """Two orders at once, and two devices at one place, are refused."""
    context = context_of(os=os, devices=CARD.format("<boot order='1'/>") * cards)

    assert key == refusal_of(all_parts, context).element


def test_menu() -> None:
    """What the firmware shows and how long is one option; it boots from nothing else."""
    os = "<bootmenu enable='yes' timeout='3000'/><bios rebootTimeout='-1' useserial='yes'/>"

    context = context_of(os=os)

    assert ["menu=on,reboot-timeout=-1,splash-time=3000,strict=on"] == values(context, "-boot")
    assert "graphics=off" in (values(context, "-machine")[0] or "")


def test_kernel() -> None:
    """A kernel and its words are separate arguments, so that commas in them mean nothing."""
    os = '<kernel>/k,1</kernel><initrd>/i</initrd><cmdline>a="b,c" -d</cmdline><dtb>/t</dtb>'

    context = context_of(os=os)

    found = {name: values(context, name) for name in ("-kernel", "-initrd", "-append", "-dtb")}
    assert found == {
        "-kernel": ["/k,1"],
        "-initrd": ["/i"],
        "-append": ['a="b,c" -d'],
        "-dtb": ["/t"],
    }


def test_words_without_a_kernel() -> None:
    """Words for a kernel that is not there are refused."""
    refusal = refusal_of(all_parts, context_of(os="<cmdline>quiet</cmdline>"))
    assert refusal.element == "command-line"


def test_tables() -> None:
    """Tables for ACPI are files, with a signature where libvirt's type has one."""
    os = "<acpi><table type='slic'>/s,1</table><table type='raw'>/r</table></acpi>"

    assert ["sig=SLIC,file=/s,,1", "file=/r"] == values(context_of(os=os), "-acpitable")
