# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is said of a mistake in a document: in words of people, with its place once."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import tomli_w

from bpferry.domain.binding import Table
from bpferry.domain.document import read_bytes
from bpferry.domain.model.machine import Machine
from bpferry.domain.shape import fields_of
from bpferry.errors import BpferryError

LEAST: Final = 'name = "web"\nmemory = "64 MiB"\n'
HEAD: Final = "<domain type='kvm'><name>web</name><memory>65536</memory>"

OF_PYTHON: Final = re.compile(
    r"\b(True|False|None)\b|\w+\(\w+=|\b\w+(Error|Exception|Forbidden)\b|is not of type|<class|"
    r"\bb['\"]|\b1 (lines|bytes|letters|queues)\b|datetime\.|\\x00"
)
"""What a message of Python looks like, or a plural that a program has counted."""

WRONG: Final[tuple[object, ...]] = (
    "",
    "x",
    "yes",
    "4",
    4,
    -1,
    2**70,
    True,
    1.5,
    [],
    ["x", 4],
    {},
    {"x": 1},
)


def said(text: str, suffix: str = "toml") -> tuple[str, str]:
    """Return the message and the hint about the document *text*, which is wrong."""
    with pytest.raises(BpferryError) as caught:
        read_bytes(text.encode(), Path(f"/vms/web.{suffix}"))
    return caught.value.message, caught.value.hint


def ways(table: type[Table], way: tuple[tuple[str, bool], ...] = ()) -> Iterator[object]:
    """Yield the way to each key of *table*: names, and whether each is a list of tables."""
    for bound in fields_of(table):
        here = (*way, (bound.key, bound.many))
        yield here
        if bound.table is not None and len(here) <= 3:
            yield from ways(bound.table, here)


def with_value(way: tuple[tuple[str, bool], ...], value: object) -> dict[str, object]:
    """Return the tables that lead to *value*."""
    (name, many), *rest = way
    if not rest:
        return {name: value}
    inner = with_value(tuple(rest), value)
    return {name: [inner] if many else inner}


def messages(value: object) -> Iterator[tuple[str, str]]:
    """Yield what is said where *value* is at each key of the model in turn."""
    for way in ways(Machine):
        assert isinstance(way, tuple)
        plain = {"name": "web", "memory": "64 MiB", **with_value(way, value)}
        try:
            read_bytes(tomli_w.dumps(plain).encode(), Path("/vms/web.toml"))
        except BpferryError as error:
            yield error.message, error.hint


@pytest.mark.parametrize("value", WRONG, ids=str)
def test_no_value_is_answered_in_python(value: object) -> None:
    """Whatever is at any key, the message has its place once, and no words of Python."""
    found = list(messages(value))

    assert found
    for message, hint in found:
        assert not OF_PYTHON.search(f"{message} {hint}"), message
        assert message.count("/vms/web.toml") == 1, message
        places = re.findall(r"'([a-z-]+(?:\[\d+\])?(?:\.[a-z0-9-]+(?:\[\d+\])?)+)'", message)
        assert len(places) == len(set(places)), message


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ('vcpus = "4"', "'vcpus' is '4': expected a whole number", "without quotes: vcpus = 4"),
        ('default-rss = "yes"', "expected true or false", "without quotes: default-rss = true"),
        ("title = 5", "'title' is 5: expected text", 'write it in quotes: title = "5"'),
        ("title = true", "'title' is true: expected text", 'title = "true"'),
        ('boot = "hd"', "'boot' is 'hd': expected a list", "in brackets, as in boot = [...]"),
        ("boot = [1]", "'boot[0]' is 1: possible values: hd, cdrom, network, fd", ""),
        ('boot = ["hd", "cdrm"]', "'boot[1]' is 'cdrm'", "did you mean 'cdrom'?"),
        ('cpu = "host"', "'cpu' is 'host': expected a table", 'such as mode = "host-passthrough"'),
        ("cpu = 4", "'cpu' is 4: expected a table", "write [cpu] on a line of its own"),
        ("[[cpu]]", "'cpu' is a list: expected a table", "write [cpu], with one bracket"),
        ("[disks]", "'disks' is a table: expected a list", "write [[disks]], with two brackets"),
        ('disks = ["a"]', "'disks[0]' is 'a': expected a table", "write [[disks]] on a line of"),
        ('current-memory = "1.5 GiB"', "expected a whole", 'current-memory = "1536 MiB"'),
        ('current-memory = "1,5g"', "expected a whole", 'current-memory = "1536 MiB"'),
        ('current-memory = "64"', "expected a whole", 'current-memory = "64 MiB"'),
        ('current-memory = "1 gig"', "expected a unit such as KiB", ""),
        ("[[filesystems]]", "'filesystems[0].tag' is missing", "below the header of its table"),
        ('accelerator = "kmv"', "possible values: kvm, tcg", "did you mean 'kvm'?"),
        ("memory-in-dumps = 1", "'memory-in-dumps' is 1: expected true or false", ""),
        ("current-memory = 64", "expected a size with a unit", 'current-memory = "512 MiB"'),
        ('vcpus = "\\u0000"', "'vcpus' is '\\x00': expected a whole number", ""),
    ],
)
def test_value_of_the_wrong_type(line: str, message: str, hint: str) -> None:
    """Where it is clear what was meant, the hint shows how to write it."""
    found = said(LEAST + line)

    assert message in found[0]
    assert hint in found[1] if hint else found[1] == ""


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ("[[nics]]", "nics", "[[cards]]"),
        ("[[nic]]", "nic", "[[cards]]"),
        ("[[network]]", "network", "[[cards]]"),
        ("[[interface]]", "interface", "[[cards]]"),
        ("[[disk]]", "disk", "[[disks]]"),
        ("[[drives]]", "drives", "[[disks]]"),
        ('emulator = "x"', "emulator", "'qemu'"),
        ("cpus = 2", "cpus", "'vcpus'"),
        ('ram = "1 GiB"', "ram", "'memory'"),
        ('cmdline = "quiet"', "cmdline", "'command-line'"),
        ("[[hostdevs]]", "hostdevs", "[[host-devices]]"),
        ('[[disks]]\npath = "a"', "disks[0].path", "'file'"),
        ("[[disks]]\nreadonly = true", "disks[0].readonly", "'read-only'"),
        ('[[cards]]\nbridge = "a"\n[[cards.forwards]]', "cards[0].forwards",
         "[[cards.port-forwards]]"),
        ('[[cards]]\ntype = "user"\ntpm = 1', "cards[0].tpm", None),
    ],
)  # fmt: skip
def test_words_that_people_write(text: str, key: str, hint: str | None) -> None:
    """A key that means the same elsewhere leads to ours, and its line is told, also of a table."""
    found = said(LEAST + text)

    line = len((LEAST + text).splitlines())
    assert found[0] == f"'/vms/web.toml':{line}: unknown key '{key}'"
    assert hint is None or found[1] == f"did you mean {hint}?"


@pytest.mark.parametrize(
    ("table", "key", "hint"),
    [
        ("tpms", "type", "did you mean 'backend'?"),
        ("videos", "type", "did you mean 'model'?"),
        ("filesystems", "source", "did you mean 'folder'?"),
        ("filesystems", "target", "did you mean 'tag'?"),
        ("graphics", "listen", "did you mean 'address' or [[graphics.listens]]?"),
        ("graphics", "passwd", "did you mean 'password'?"),
        ("disks", "bootindex", "did you mean 'boot-order'?"),
        ("disks", "cache_mode", "did you mean 'cache'?"),
        ("disks", "size", "an image has its size in itself: make one with 'qemu-img create "),
        ("serials", "path", "it is a key of [[serials.sources]]"),
        ("serials", "file", "did you mean 'path' in [[serials.sources]]?"),
        ("cards", "vhost", "did you mean 'driver'?"),
        ("cards", "source", "what libvirt has in <source> is here in bridge, network, "),
    ],
)
def test_words_of_libvirt_and_qemu_lead_to_our_keys(table: str, key: str, hint: str) -> None:
    """What a device has of that name in a domain document or in QEMU is known here too."""
    _, found = said(f"{LEAST}[[{table}]]\n{key} = 1")

    assert found.startswith(hint)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[[watchdogs]]\ntype = 1", "the keys here are model, action"),
        ("[cpu]\ntype = 1", "the keys here are mode, model, match, "),
        ("sockets = 2", "it is a key of [cpu]"),
        ("[[disks]]\nurl = 1", "docs/documents.md, 'The native form', has the keys that are "),
        ("size = 1", "docs/documents.md, 'The native form', has the keys that are used most; "),
    ],
)  # fmt: skip
def test_no_key_is_named_that_only_looks_similar(text: str, hint: str) -> None:
    """A hint that misleads is worse than one that says where to look."""
    assert said(LEAST + text)[1].startswith(hint)


def test_key_of_the_vm_in_a_table() -> None:
    """What follows the header of a table belongs to it, which surprises many."""
    _, hint = said(f'{LEAST}[[cards]]\nbridge = "br0"\nkernel = "vmlinuz"\n')

    assert hint.startswith("write 'kernel' above the first line with a [table]")


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (f"{HEAD}<vcpus>4</vcpus></domain>", "holds the text '4'", "did you mean <vcpu>4</vcpu>?"),
        (f"{HEAD}<ram>4</ram></domain>", "'/domain/ram' is not", "did you mean <memory>?"),
        (f"{HEAD}<devices><nic/></devices></domain>", "nic' is", "did you mean <interface>?"),
        (f"{HEAD}<devices><disks/></devices></domain>", "disks' is", "did you mean <disk>?"),
        (f"{HEAD}oops</domain>", "'/domain' holds the text 'oops'", "remove the text, or use"),
        (f"{HEAD}<cpu>max</cpu></domain>", "'/domain/cpu' holds the text", "remove the text, or"),
        (
            "<!DOCTYPE x><domain/>",
            "declares a document type or entities",
            "a domain document needs neit",
        ),
        (
            "<domain><name>",
            "the document ends; <name> of line 1 is not closed (column 15)",
            "write the end tags",
        ),
    ],
)
def test_mistakes_in_a_domain_document(text: str, message: str, hint: str) -> None:
    """The message says what is wrong, and the hint does not take away what is around it."""
    found = said(text, "xml")

    assert message in found[0]
    assert found[1].startswith(hint)
    assert not OF_PYTHON.search(" ".join(found))


def test_stray_text_alone_is_left_out() -> None:
    """With --ignore-unsupported the element around it stays."""
    text = f"{HEAD}<devices>oops<interface type='user'/></devices></domain>"

    document = read_bytes(text.encode(), Path("/vms/web.xml"), ignore_unsupported=True)

    assert len(document.machine.cards) == 1


def test_line_of_what_is_not_toml() -> None:
    """The line is where all other messages have it."""
    message, _ = said(LEAST + "vcpus 4")

    assert message.startswith("'/vms/web.toml':3 is not valid TOML: '=' is missing")
    assert message.endswith("(column 7)")
