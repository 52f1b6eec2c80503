# SPDX-License-Identifier: LGPL-2.1-or-later
"""A file that is not TOML or not XML: its line, what was found there, and what to write."""

from pathlib import Path
from typing import Final

import pytest

from bpferry.domain.document import read_bytes, read_file
from bpferry.errors import BadInput

LEAST: Final = 'name = "web"\nmemory = "64 MiB"\n'


def wrong(text: str | bytes, name: str = "web.toml") -> BadInput:
    """Return what is said of a file *name* with *text*."""
    raw = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(BadInput) as caught:
        read_bytes(raw, Path("/vms") / name)
    return caught.value


@pytest.mark.parametrize(
    ("text", "line", "what", "hint"),
    [
        ('title = "a\n', 3, "text has no closing quote on its line", "end it with the quote that"),
        ("title = 'a\nkernel = 'b'", 3, "text has no closing quote on its line", "end it with the"),
        ('name = "b"', 3, "'name' is already set in line 1", "remove one of the two"),
        ("[cpu]\nmode = 'a'\n[cpu]", 5, "[cpu] is already in line 3", "below the first [cpu]"),
        ("[[disks]]\n[disks]", 4, "'disks' is a list, which begins in line 3", "write [[disks]]"),
        ("[disks]\n[[disks]]", 4, "'disks' is a list, which begins in line 3", "write [[disks]]"),
        ("[disks]\n[disks]", 4, "'disks' is a list, which begins in line 3", "write [[disks]]"),
        ("cpu.model = 'a'\n[cpu]", 4, "'cpu' is already set above", "keys in one place"),
        ("vcpus 4", 3, "'=' is missing after the key", "write vcpus = and the value after it"),
        ("vcpus: 4", 3, "'=' is missing after the key", "write vcpus = and the value after it"),
        ("vcpus =", 3, "the value of 'vcpus' is missing", 'vcpus = 4, or vcpus = "..."'),
        ("title = four", 3, "the value of 'title' is not valid", 'or title = "..."'),
        ("default-rss = Yes", 3, "'default-rss' is not valid", "write default-rss = true"),
        ("title = \u201ca\u201d", 3, "\u201c is not a quotation mark of TOML", 'title = "..."'),
        ("vcpus = 4 cores", 3, "something follows the value", "each key on a line of its own"),
        ("vcpus = 4;", 3, "';' follows the value", "leave it out"),
        ("vcpus = 04", 3, "a number begins with 0", "leave the 0 out"),
        ("// x", 3, "a comment does not begin with //", "write # in front"),
        ("?", 3, "this is not a line of TOML", 'write key = "value", a [table], an [[entry'),
        ("[[disks]", 3, "']]' is missing after the name", "write [[disks]]"),
        ("[cpu", 3, "']' is missing after the name", "write [cpu]"),
        ('boot = ["hd" "fd"]', 3, "',' or ']' is missing in the list 'boot'", "a comma between"),
        ('boot = ["hd",\n', 3, "the file ends inside quotes or brackets", "add the closing"),
        ('title = """a\n', 3, "the file ends inside quotes or brackets", "add the closing"),
        ('kernel = "C:\\path"', 3, "text contains a '\\' that does not", "write \\\\ in place"),
        ("cpu = { mode = 'a', }", 3, "a table in { } has a comma", "in one line with no comma"),
        ('title = "\x01"', 3, "text contains a control character", r"such as \u0000"),
    ],
)
def test_what_is_not_toml_has_its_line_and_what_to_write(
    text: str, line: int, what: str, hint: str
) -> None:
    """Nothing is left to tomllib's own words, which are about its grammar."""
    error = wrong(LEAST + text)

    assert error.message.startswith(f"'/vms/web.toml':{line} is not valid TOML: ")
    assert what in error.message
    assert hint in error.hint


@pytest.mark.parametrize("text", ["password = hunter2", 'password = "hunter2', "password hunter2"])
def test_a_value_is_never_repeated(text: str) -> None:
    """It may be a password."""
    error = wrong(f'{LEAST}[[graphics]]\ntype = "vnc"\n{text}')

    assert "hunter2" not in error.message + error.hint


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("<domain><name>a", "the document ends; <name> of line 1 is not closed", "end tags that"),
        ("<domain><name>a</nme></domain>", "<name> of line 1 is not closed", "its own end tag"),
        ("<domain><name>a & b</name></domain>", "a character that cannot be", "write &amp; in"),
        ("<domain type=kvm></domain>", "a character that cannot be here", "name='value'"),
        ("<domain><qemu:x/></domain>", "prefix of this element or an attribute", "xmlns:qemu="),
        ("<domain/>x", "something follows the end of the document", "remove what follows"),
        ("<domain>&nbsp;</domain>", "an entity that XML does not have", "write the character"),
        ("<domain a='' a=''/>", "this element has an attribute twice", "remove one of the two"),
        ("<domain><!-- a", "a tag or comment is not closed", "write the > or -->"),
        ("hello", "an element has to begin here", "write <domain> at the beginning"),
    ],
)
def test_what_is_not_xml_has_its_line_and_what_to_write(text: str, what: str, hint: str) -> None:
    """Nothing is left to expat's own words."""
    error = wrong(text, "web.xml")

    assert error.message.startswith("'/vms/web.xml':1 is not valid XML: ")
    assert what in error.message
    assert hint in error.hint


@pytest.mark.parametrize(
    ("raw", "name", "message", "hint"),
    [
        (LEAST, "web.xml", "'/vms/web.xml' is TOML, although", "rename it to 'web.toml'"),
        (f"# a\n{LEAST}", "web.xml", "is TOML, although", "rename it to 'web.toml'"),
        ("[cpu]\n", "web.xml", "is TOML, although its name", "rename it to 'web.toml'"),
        ("<domain/>", "web.toml", "is XML, although its name ends", "rename it to 'web.xml'"),
        ("\ufeff<domain/>", "web.toml", "is XML, although its name", "rename it to 'web.xml'"),
        ('{"name": "web"}', "web.toml", "begins with {, as JSON does", "write it as a libvirt"),
        ('{"name": "web"}', "web.json", "begins with {, as JSON does", "write it as a libvirt"),
        (" \n", "web.xml", "'/vms/web.xml' is empty", "write a libvirt domain document (.xml)"),
        ("", "web.toml", "'/vms/web.toml' is empty", "write a libvirt domain document (.xml)"),
        (b'name = "a"\ntitle = "\xe9"', "web.toml", ":2 is not UTF-8 text: it", "iconv -f LATIN1"),
        (LEAST.encode("utf-16"), "web.toml", "is not UTF-8 text: it is UTF-16", "iconv -f UTF-16"),
    ],
)  # fmt: skip
def test_what_is_in_the_file_is_named_if_it_is_neither(
    raw: str | bytes, name: str, message: str, hint: str
) -> None:
    """A file of the other form has the wrong name; others have to be written as one of the two."""
    error = wrong(raw, name)

    assert message in error.message
    assert hint in error.hint


def test_mark_of_utf_8_in_front_is_no_part_of_the_text() -> None:
    """Some editors write it (U+FEFF)."""
    assert read_bytes(f"\ufeff{LEAST}".encode(), Path("/vms/web.toml")).machine.name == "web"


def test_standard_input_is_answered_with_a_file() -> None:
    """A description is read more than once, and relative paths begin at its folder."""
    with pytest.raises(BadInput) as caught:
        read_file(Path("-"))

    assert "not from standard input" in caught.value.message
    assert "virsh dumpxml web > web.xml" in caught.value.hint
