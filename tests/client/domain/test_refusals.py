# SPDX-License-Identifier: LGPL-2.1-or-later
"""What of a libvirt document is refused: all of it at once, in order, each at its own place."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bpferry.domain.binding import Table
from bpferry.domain.document import Document, read_bytes
from bpferry.domain.model.machine import Machine
from bpferry.domain.shape import Field, fields_of
from bpferry.errors import BadInput, Unsupported

PATH = Path("/vms/web.xml")
HEAD = """\
<domain type='kvm'>
  <name>web</name>
  <memory>65536</memory>
"""
"""Its first entry is on line 4."""


def read(inner: str, *, ignore: bool = False) -> Document:
    """Return what a document with *inner* says."""
    return read_bytes(f"{HEAD}{inner}\n</domain>".encode(), PATH, ignore_unsupported=ignore)


def refusals(inner: str) -> list[Unsupported]:
    """Return everything that is refused in a document with *inner*."""
    with pytest.raises(Unsupported) as caught:
        read(inner)
    return [caught.value, *caught.value.others]


def places(inner: str) -> list[tuple[str | None, str]]:
    """Return XPath and line of everything that is refused."""
    return [(one.element, one.message.split(":")[1]) for one in refusals(inner)]


DISKS = """\
<devices>
  <disk type='file' device='warp'><target dev='vda'/></disk>
  <disk type='file' depth='3'><driver cache='lukewarm' io='slow'/><target dev='vdb'/></disk>
  <disk type='file'><target dev='xyz'/></disk>
  <disk type='file'><target dev='vdd' bus='ether'/><spaceship/></disk>
</devices>
<vcpu>9999999</vcpu>"""


def test_everything_is_told_at_once_in_the_order_of_the_document() -> None:
    """What is refused first moves the place of nothing that comes later."""
    assert [
        ("/domain/devices/disk[1]/@device", "5"),
        ("/domain/devices/disk[2]/@depth", "6"),
        ("/domain/devices/disk[2]/driver/@cache", "6"),
        ("/domain/devices/disk[2]/driver/@io", "6"),
        ("/domain/devices/disk[3]/target/@dev", "7"),
        ("/domain/devices/disk[4]/target/@bus", "8"),
        ("/domain/devices/disk[4]/spaceship", "8"),
        ("/domain/vcpu", "10"),
    ] == places(DISKS)


def test_each_thing_that_is_left_out_is_told_once() -> None:
    """The others stay, with what libvirt means where nothing is said."""
    found = read(DISKS, ignore=True)

    assert [one.element for one in found.ignored] == [one.element for one in refusals(DISKS)]
    assert [disk.target for disk in found.machine.disks] == ["vdb", "vdd"]
    assert [disk.cache for disk in found.machine.disks] == [None, None]
    assert found.machine.vcpus == 1


def test_what_goes_with_a_thing_that_is_left_out_is_said() -> None:
    """A device without which there is no sense in it is named, in the warning only."""
    alone, gone = [
        read(inner, ignore=True).ignored[0].when_left_out() for inner in ("<spaceship/>", DISKS)
    ]

    assert alone == "left out: '/vms/web.xml':4: '/domain/spaceship' is not supported"
    assert gone.endswith("; all of '/domain/devices/disk[1]' is left out with it")
    assert "left out with it" not in refusals(DISKS)[0].message


def test_places_of_what_stays_are_its_own() -> None:
    """Keys are counted as in the document, also behind what is left out."""
    origins = read(DISKS, ignore=True).origins

    assert "'/vms/web.xml':6: '/domain/devices/disk[2]/target/@dev'" == origins.describe(
        "disks[1].target"
    )
    assert "'/vms/web.xml':8: '/domain/devices/disk[4]'" == origins.describe("disks[3].cache")


def test_nothing_is_told_of_what_has_gone_with_the_rest() -> None:
    """A device of a kind that is not supported is one refusal, whatever else is in it."""
    volume = (
        "<devices><disk type='volume' device='disk'><source pool='p' volume='v' mode='host'/>"
        "<target dev='vda'/><address type='spaceship'/><geometry cyls='x'/></disk></devices>"
    )

    assert [("/domain/devices/disk/@type", "4")] == places(volume)
    assert () == read(volume, ignore=True).machine.disks


def test_a_needed_part_takes_what_is_around_it_along() -> None:
    """What cannot be without an address of its kind goes with it, and the rest stays."""
    inner = (
        "<devices><disk type='file'><target dev='vda'/><address type='ccw' cssid='0xfe'/></disk>"
        "<rng model='virtio'><backend model='dice'>/dev/d6</backend></rng></devices>"
    )

    found = read(inner, ignore=True)

    assert [one.element for one in found.ignored] == [
        "/domain/devices/disk/address/@type",
        "/domain/devices/rng/backend/@model",
    ]
    assert found.machine.disks[0].address is None
    assert () == found.machine.rngs


def test_a_vm_that_has_to_be_another_cannot_be_left_out() -> None:
    """Without what kind of VM it is there is none, whatever the user allows."""
    raw = b"<domain type='xen'><name>x</name><memory>1</memory><spaceship/></domain>"

    with pytest.raises(Unsupported) as caught:
        read_bytes(raw, PATH, ignore_unsupported=True)

    assert caught.value.element == "/domain/@type"


def test_words_are_libvirts_own() -> None:
    """What is possible is named in the words of the document, not in ours."""
    raw = b"<domain type='tcg'><name>x</name><memory>1</memory></domain>"

    with pytest.raises(Unsupported) as caught:
        read_bytes(raw, PATH)

    assert caught.value.message.endswith("; possible values: kvm, qemu")


def test_unsupported_comes_before_wrong() -> None:
    """What is wrong by itself is told after what is not supported."""
    inner = "<spaceship/><vcpu>two</vcpu>"

    assert [("/domain/spaceship", "4"), ("/domain/vcpu", "4")] == places(inner)
    with pytest.raises(BadInput, match="'/domain/vcpu' is 'two'"):
        read(inner, ignore=True)


@pytest.mark.parametrize(
    ("inner", "message", "hint"),
    [
        (
            "<spaceship/>",
            "'/domain/spaceship' is not supported",
            "remove the element, or use 'bpferry run --ignore-unsupported', ",
        ),
        (
            "<memmory>1</memmory>",
            "'/domain/memmory' is not supported",
            "did you mean <memory>? otherwise remove the element, or use 'bpferry run ",
        ),
        (
            "<vcpu curent='1'>2</vcpu>",
            "'/domain/vcpu/@curent' (here '1') is not supported",
            "did you mean current='...'? otherwise remove the attribute, or ",
        ),
        (
            "<title>a</title><title>b</title>",
            "'/domain/title[2]' is not supported: there can be one only",
            "remove the element, or ",
        ),
        (
            "<devices>text</devices>",
            "'/domain/devices' holds the text 'text', where only elements and attributes can be",
            "remove the text, or use 'bpferry run --ignore-unsupported', ",
        ),
        (
            "<vcpus>4</vcpus>",
            "'/domain/vcpus' holds the text '4', where only elements and attributes can be",
            "did you mean <vcpu>4</vcpu>? otherwise remove the text, or use ",
        ),
        (
            "<on_reboot>sleep</on_reboot>",
            "QEMU either resets the guest or exits; possible values: restart, destroy",
            "write 'restart' or 'destroy'",
        ),
        (
            "<clock offset='moon'/>",
            "is 'moon', which is not supported; possible values: utc, localtime, ",
            "write what is possible, or use 'bpferry run --ignore-unsupported', ",
        ),
        (
            "<vcpu>9999</vcpu>",
            "is '9999', which is not supported; expected a whole number from 1 to 4096",
            "write what is possible, or ",
        ),
    ],
)
def test_words_of_a_refusal(inner: str, message: str, hint: str) -> None:
    """The message says what is not supported, and the hint what to do."""
    (found,) = refusals(inner)

    assert message in found.message
    assert found.hint.startswith(hint)


def test_many_refusals_are_told_without_looking_for_what_was_meant() -> None:
    """A document of nothing but unknown words takes no time that grows with its square."""
    found = refusals("".join(f"<memor{number}/>" for number in range(1000)))

    assert found[0].hint.startswith("did you mean <memory>? ")
    assert found[-1].hint.startswith("remove the element")


def all_fields(table: type[Table], seen: set[type[Table]]) -> Iterator[Field]:
    """Yield every field of *table* and below."""
    if table in seen:
        return
    seen.add(table)
    for bound in fields_of(table):
        yield bound
        if bound.table is not None:
            yield from all_fields(bound.table, seen)


def test_what_is_possible_is_said_in_words() -> None:
    """No user has to read a regular expression."""
    silent = {
        bound.key
        for bound in all_fields(Machine, set())
        for meta in bound.bounds
        if meta.pattern and not meta.description
    }

    assert set() == silent


@pytest.mark.parametrize("count", [400, 5000])
def test_images_below_images_without_end(count: int) -> None:
    """What the model knows may be nested as well, and costs an error at most."""
    deep = "<backingStore type='file'>" * count + "</backingStore>" * count
    disk = f"<devices><disk type='file'><target dev='vda'/>{deep}</disk></devices>"

    with pytest.raises(BadInput, match="nested too deeply"):
        read(disk)


TWO = "<domain type='kvm'><name>a</name></domain>\n"


@pytest.mark.parametrize("between", ["", "\n", "<!-- and -->\n"])
def test_two_documents_in_one_file(between: str) -> None:
    """virt-install prints one for each step; the line of the second and the way out are said."""
    with pytest.raises(BadInput) as caught:
        read_bytes(f"{TWO}{between}{TWO}".encode(), PATH)

    line = 2 + between.count("\n")
    assert caught.value.message.startswith(f"'/vms/web.xml':{line}: a second <domain> begins here")
    assert "virt-install --print-xml 2" in caught.value.hint


def test_other_text_after_the_document() -> None:
    """What is not a second document is not valid XML, as before."""
    with pytest.raises(BadInput, match="not valid XML: something follows the end of"):
        read_bytes(f"{TWO}Domain created.".encode(), PATH)


@pytest.mark.parametrize(
    "source", ["<source file=''/>", "<source file=' '/>", "<source/>", "<source dev=''/>"]
)
def test_source_that_is_empty(source: str) -> None:
    """Libvirt takes an empty path for no medium."""
    cd = f"<disk type='file' device='cdrom'>{source}<target dev='sda'/></disk>"
    (disk,) = read(f"<devices>{cd}</devices>").machine.disks

    assert (None, None) == (disk.file, disk.block_device)


def test_the_root_folder_is_a_folder() -> None:
    """It may be shared like any other; a file it is not."""
    shared = "<filesystem type='mount'><source dir='/'/><target dir='x'/></filesystem>"

    assert read(f"<devices>{shared}</devices>").machine.filesystems[0].folder == "/"
    with pytest.raises(BadInput, match="expected the path of a file"):
        read("<os><kernel>/</kernel></os>")
