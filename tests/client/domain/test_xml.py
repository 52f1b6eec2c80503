# SPDX-License-Identifier: LGPL-2.1-or-later
"""A libvirt domain document: where its mistakes are, and what is refused, ignored or left out."""

import re
from pathlib import Path

import pytest

from bpferry.domain.document import Document, read_bytes, to_xml
from bpferry.domain.ignored import IGNORED, is_ignored
from bpferry.errors import BadInput, BpferryError, Unsupported

PATH = Path("/vms/web.xml")
HEAD = "<domain type='qemu'>\n  <name>web</name>\n  <memory unit='MiB'>64</memory>\n"
OS = "  <os><type arch='x86_64' machine='q35'>hvm</type></os>\n"

DISK_OF_A_RUN = """\
<disk type='file' rawio='no' sgio='filtered' snapshot='no'><privateData/>
  <source index='1'><seclabel/></source><target dev='vda' tray='open'/></disk>"""
EXISTING_TAP = "<interface type='ethernet'><target dev='x' managed='no'/></interface>"


def document(inner: str = "") -> str:
    """Return a document with *inner*, which begins on its fifth line."""
    return f"{HEAD}{OS}{inner}</domain>\n"


def read(text: str, *, ignore: bool = False) -> Document:
    """Return what *text* says."""
    return read_bytes(text.encode(), PATH, ignore_unsupported=ignore)


def read_wrong(text: str) -> BpferryError:
    """Return the error with which reading *text* ends."""
    with pytest.raises(BpferryError) as caught:
        read(text)
    return caught.value


def test_short_document() -> None:
    """What every document has arrives in the model."""
    machine = read(document()).machine

    assert (machine.name, machine.memory) == ("web", 64 * 2**20)
    assert (machine.accelerator, machine.arch, machine.machine_type) == ("tcg", "x86_64", "q35")


@pytest.mark.parametrize(
    ("inner", "element"),
    [
        ("<spaceship/>", "/domain/spaceship"),
        ("<title lang='en'>a</title>", "/domain/title/@lang"),
        ("<devices><disk type='file' depth='3'/></devices>", "/domain/devices/disk/@depth"),
        (
            "<devices><disk type='file'/><disk type='file'><warp/></disk></devices>",
            "/domain/devices/disk[2]/warp",
        ),
        (
            "<devices><disk type='hologram'><target dev='vda'/></disk></devices>",
            "/domain/devices/disk/@type",
        ),
        ("<title>a</title><title>b</title>", "/domain/title[2]"),
        (
            "<x:a xmlns:x='http://example.org/x'/>",
            "/domain/x:a",
        ),
    ],
)
def test_unknown_is_refused_by_its_xpath(inner: str, element: str) -> None:
    """What the model does not know is unsupported, at its place and line."""
    error = read_wrong(document(inner))

    assert isinstance(error, Unsupported)
    assert (error.status, error.element) == (3, element)
    assert error.message.startswith(f"'/vms/web.xml':5: '{element}' ")


@pytest.mark.parametrize("number", ["0", "-1", "99999999999999999999"])
def test_number_out_of_range_is_a_mistake(number: str) -> None:
    """Libvirt knows more words than we do, and no other numbers."""
    error = read_wrong(document(f"<vcpu>{number}</vcpu>"))

    assert (error.status, error.element) == (2, "/domain/vcpu")
    assert "expected a whole number from 1 to" in error.message


def test_number_that_libvirt_takes_is_not_supported() -> None:
    """A VLAN's number that no bridge takes is not the user's mistake, for libvirt takes it."""
    card = (
        "<interface type='network'><source network='a'/><vlan><tag id='4095'/></vlan></interface>"
    )

    assert 3 == read_wrong(document(f"<devices>{card}</devices>")).status


def test_all_refusals_are_named() -> None:
    """The first refusal is the error, and the others come with it, each with its own words."""
    error = read_wrong(document("<one/>\n<two/>"))

    assert isinstance(error, Unsupported)
    assert error.element == "/domain/one"
    assert [other.element for other in error.others] == ["/domain/two"]
    assert error.others[0].message.startswith("'/vms/web.xml':6: '/domain/two' ")


def test_unsupported_can_be_left_out() -> None:
    """On demand, what is not supported is left out, one entry for each."""
    disk = "<disk type='hologram'><target dev='vda'/></disk>"
    inner = f"<one/><vcpu>9999999</vcpu><devices>{disk}</devices>"

    found = read(document(inner), ignore=True)

    left_out = ["/domain/one", "/domain/vcpu", "/domain/devices/disk/@type"]
    assert sorted(left_out) == sorted(str(error.element) for error in found.ignored)
    assert found.machine.vcpus == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (document("<vcpu>two</vcpu>"), "':5: '/domain/vcpu' is 'two': expected a whole number"),
        (document("<vcpu>1_0</vcpu>"), "expected a whole number"),
        (document("<vcpu>" + "9" * 40 + "</vcpu>"), "expected a whole number"),
        (HEAD.replace("MiB", "furlongs") + OS + "</domain>", "expected a unit such as KiB"),
        (HEAD.replace("64", "-64") + OS + "</domain>", "whole number that is not negative"),
        (HEAD.replace("64", "99999999999999") + OS + "</domain>", "expected at most"),
        (HEAD.replace("<name>web</name>", "") + OS + "</domain>", "'/domain/name' is missing"),
        (HEAD.replace("web", "a&#10;b") + OS + "</domain>", "contains a control character"),
        ("<network/>", "expected a libvirt domain document, found an element 'network'"),
        ("<domain>", "is not valid XML"),
        ("", "is empty"),
        ("<domain/>&", "is not valid XML"),
    ],
)
def test_mistake_is_named(text: str, words: str) -> None:
    """A mistake is bad input, with its line and what is possible."""
    error = read_wrong(text)

    assert isinstance(error, BadInput)
    assert words in error.message


@pytest.mark.parametrize(
    "text",
    [
        "<!DOCTYPE d [<!ENTITY a 'b'>]><domain><name>&a;</name></domain>",
        "<!DOCTYPE domain SYSTEM 'file:///etc/passwd'><domain/>",
        "<!DOCTYPE d [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><domain><name>&a;</name></domain>",
    ],
)
def test_document_types_and_entities_are_refused(text: str) -> None:
    """No document type, entity or external file gets past the parser."""
    assert "is refused: it declares a document type or entities" in read_wrong(text).message


def test_ignored_list_matches_below_a_path() -> None:
    """What is below an ignored path is ignored with it, and nothing beside it."""
    assert is_ignored("/domain/metadata/app:x/y/@z")
    assert not is_ignored("/domain/metadatum")


@pytest.mark.parametrize(
    "inner",
    [
        "<resource><partition>/machine</partition></resource>",
        "<on_lockfailure>pause</on_lockfailure>",
        "<features><viridian/><xen><e820_host/></xen><msrs unknown='ignore'/></features>",
        "<features><hyperv mode='passthrough'><relaxed state='on'/><later/></hyperv></features>",
        "<seclabel type='none'/>",
        f"<devices>{DISK_OF_A_RUN}</devices>",
        "<devices><serial type='pty' tty='/dev/pts/1'><alias name='serial0'/></serial></devices>",
        "<devices><interface type='user'><target dev='tap-web'/></interface></devices>",
        "<devices><interface><target dev='tap-web'/></interface></devices>",
        f"<devices><interface type='bridge'><target dev='x'/></interface>{EXISTING_TAP}</devices>",
    ],
)
def test_what_means_nothing_to_qemu_is_passed_over(inner: str) -> None:
    """It is neither refused nor in the model, so that a conversion does not write it again."""
    machine = read(document(inner)).machine

    assert [None] * len(machine.cards[:1]) == [card.tap for card in machine.cards[:1]]
    assert ["x"] * len(machine.cards[1:]) == [card.tap for card in machine.cards[1:]]
    written = to_xml(machine)
    assert not re.search("partition|lockfailure|viridian|later|relaxed|rawio|pts|tap-web", written)


@pytest.mark.parametrize(
    ("inner", "element"),
    [
        (
            "<resource id='1'><partition/><fibrechannel appid='x'/></resource>",
            ["/domain/resource/@id", "/domain/resource/fibrechannel"],
        ),
        (
            "<devices><disk type='file' rawio='yes' sgio='unfiltered'/></devices>",
            ["/domain/devices/disk/@rawio", "/domain/devices/disk/@sgio"],
        ),
        (
            "<features><hyperv mode='custom'><later state='on'/></hyperv></features>",
            ["/domain/features/hyperv/later"],
        ),
    ],
)
def test_what_is_beside_it_is_refused(inner: str, element: list[str]) -> None:
    """Passing over a part of an element, or one of its words, opens nothing else."""
    error = read_wrong(document(inner))

    assert isinstance(error, Unsupported)
    assert element == [error.element, *(other.element for other in error.others)]


@pytest.mark.parametrize(
    "inner",
    ["<os>text</os>", "<os><boot dev='hd'/>text</os>", "<os><boot dev='hd'/> <bios/>text</os>"],
)
def test_text_between_elements(inner: str) -> None:
    """It is refused wherever it is, since nobody reads it."""
    error = read_wrong(f"{HEAD}{inner}</domain>")

    assert (error.status, error.element) == (3, "/domain/os")
    assert "holds the text 'text', where only" in error.message


def test_ignored_list_gives_reasons() -> None:
    """Every entry has a reason that is a sentence."""
    assert all(len(reason.split()) > 2 for reason in IGNORED.values())


def test_encoding_of_the_declaration_counts() -> None:
    """A document in another encoding is read as it says."""
    text = f"<?xml version='1.0' encoding='ISO-8859-1'?>{document()}".replace("web", "w\xe9b")

    assert read_bytes(text.encode("latin-1"), PATH).machine.name == "w\xe9b"


def test_wrong_encoding_is_bad_input() -> None:
    """Bytes that are invalid in the encoding are an error."""
    with pytest.raises(BadInput, match="is not valid XML"):
        read_bytes(document().replace("web", "w\xe9b").encode("latin-1"), PATH)


def test_secrets_are_not_repeated() -> None:
    """A message about a password says that there is one, and no more."""
    raw = DOCUMENT_WITH_DEVICES.format("<graphics type='vnc' passwd='ge&#9;heim'/>")

    with pytest.raises(BadInput, match="control character") as caught:
        read_bytes(raw.encode(), Path("/vms/vm.xml"))

    assert "heim" not in caught.value.message
    assert "is a value that is not shown here" in caught.value.message


def test_two_places_that_say_the_same() -> None:
    """Libvirt reads <encryption> in a disk and in its <source>; it is written in the latter."""
    inside = "<encryption format='luks'><secret type='passphrase' usage='x'/></encryption>"
    disks = [
        f"<disk><source file='/a'/>{inside}<target dev='vda'/></disk>",
        f"<disk><source file='/a'>{inside}</source><target dev='vda'/></disk>",
    ]
    found = [
        read_bytes(DOCUMENT_WITH_DEVICES.format(one).encode(), Path("/vms/vm.xml")).machine
        for one in disks
    ]

    assert found[0] == found[1]
    assert "<encryption" in to_xml(found[0]).partition("</source>")[0]


def test_both_places_at_once_are_refused() -> None:
    """One of them would be lost."""
    inside = "<encryption format='luks'><secret type='passphrase' usage='x'/></encryption>"
    disk = f"<disk><source file='/a'>{inside}</source>{inside}<target dev='vda'/></disk>"

    with pytest.raises(Unsupported, match="'source/encryption' sets this already") as caught:
        read_bytes(DOCUMENT_WITH_DEVICES.format(disk).encode(), Path("/vms/vm.xml"))

    assert "/domain/devices/disk/encryption" == caught.value.element


DOCUMENT_WITH_DEVICES = (
    "<domain type='kvm'><name>vm</name><memory>65536</memory><devices>{}</devices></domain>"
)
