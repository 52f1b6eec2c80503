# SPDX-License-Identifier: LGPL-2.1-or-later
"""Documents that are wrong, or meant to do harm: each is refused, soon, and with its place."""

import re
import time
from pathlib import Path

import pytest

from bpferry.domain.document import read_bytes, read_file
from bpferry.errors import BadInput, BpferryError, Unsupported

SOON_SECONDS = 2.0
"""For any document; the slowest takes a tenth of it on a machine with nothing else to do."""

DOMAIN = "<domain type='kvm'>\n  <name>x</name>\n  <memory>65536</memory>\n  {}\n</domain>"
TOML = 'name = "x"\nmemory = "64 MiB"\n{}\n'

LAUGHS = "".join(
    f'<!ENTITY a{number} "{f"&a{number - 1};" * 10}">' for number in range(1, 10)
)  # fmt: skip

MIB = 2**20


def error_of(raw: bytes | str, name: str) -> BpferryError:
    """Return the error that refuses *raw*, and see that it comes soon."""
    data = raw.encode() if isinstance(raw, str) else raw
    begun = time.process_time()
    with pytest.raises(BpferryError) as caught:
        read_bytes(data, Path("/vms") / name)
    assert SOON_SECONDS > time.process_time() - begun
    return caught.value


@pytest.mark.parametrize(
    "declared",
    [
        "<!DOCTYPE domain>",
        "<!DOCTYPE domain SYSTEM 'file:///etc/passwd'>",
        "<!DOCTYPE domain PUBLIC '-//x' 'http://127.0.0.1/x.dtd'>",
        "<!DOCTYPE domain [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>",
        "<!DOCTYPE domain [<!ENTITY % x SYSTEM 'http://127.0.0.1/'> %x;]>",
        f"<!DOCTYPE domain [<!ENTITY a0 'ha'>{LAUGHS}]>",
        "<!DOCTYPE domain [<!ATTLIST domain type CDATA 'kvm'>]>",
        "<!DOCTYPE domain [<!NOTATION x SYSTEM 'y'>]>",
    ],
    ids=lambda declared: declared[:44],
)
def test_declarations(declared: str) -> None:
    """No document type is taken in: no bomb goes off, no file and no server is asked."""
    raw = declared + DOMAIN.format("<title>&a9;&x;</title>" if "ENTITY" in declared else "")

    error = error_of(raw, "vm.xml")

    assert isinstance(error, BadInput)
    assert "'/vms/vm.xml' is refused" in error.message


@pytest.mark.parametrize(
    ("raw", "says", "line"),
    [
        (b"", "is empty", None),
        (b"<domain", "is not closed", 1),
        (b"<domain><name>x</domain>", "<name> of line 1 is not closed", 1),
        (b"<domain>\n\n<a b='1' b='2'/></domain>", "has an attribute twice", 3),
        (DOMAIN.format("&nbsp;").encode(), "an entity that XML does not have", 4),
        (DOMAIN.format("\x00").encode(), "a character that cannot be here", 4),
        (DOMAIN.format("<title>&#0;</title>").encode(), "reference to invalid character number", 4),
        (DOMAIN.format("<title>\x1b</title>").encode(), "a character that cannot be here", 4),
        (DOMAIN.format("<qemu:commandline/>").encode(), "is not declared", 4),
        (b"<?xml version='1.0' encoding='no-such'?><domain/>", "unknown encoding", 1),
        (
            b"<?xml version='1.0' encoding='utf-8'?><domain>\xff</domain>",
            "a character that cannot be here",
            1,
        ),
        (b"<?xml version='1.0' encoding='utf-7'?><domain/>", "", None),
        (b"<?xml version='1.0' encoding='utf-16'?><domain/>", "", None),
        (b"\xff\xfe<\x00d", "", None),
        (b"\x7fELF\x02\x01\x01" + bytes(100), "a character that cannot be here", 1),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_not_xml(raw: bytes, says: str, line: int | None) -> None:
    """It is said what is wrong with the text, and on which line."""
    error = error_of(raw, "vm.xml")

    assert isinstance(error, BadInput)
    assert re.match(
        rf"'/vms/vm.xml'(:{line or '[0-9]+'})? is (not valid XML: |empty)", error.message
    )
    assert says in error.message


def test_a_document_in_another_encoding() -> None:
    """What an XML parser has to know is known: UTF-16 is read like UTF-8."""
    text = "<?xml version='1.0' encoding='utf-16'?>" + DOMAIN.format("<title>é</title>")

    assert "é" == read_bytes(text.encode("utf-16"), Path("/vms/vm.xml")).machine.title


@pytest.mark.parametrize("count", [1_000, 100_000])
def test_deep_nesting(count: int) -> None:
    """Elements in elements cost no stack, in whatever place they are."""
    deep = "<a>" * count + "</a>" * count

    for inner in (deep, f"<devices>{deep}</devices>"):
        error = error_of(DOMAIN.format(inner), "vm.xml")
        assert isinstance(error, Unsupported)
        assert (error.element or "").endswith("/a")


def test_deep_nesting_of_what_is_passed_over() -> None:
    """What other programs keep in a document may be as deep as they like."""
    deep = "<a>" * 100_000 + "</a>" * 100_000
    begun = time.process_time()

    machine = read_bytes(DOMAIN.format(f"<metadata>{deep}</metadata>").encode(), Path("/vm.xml"))

    assert "x" == machine.machine.name
    assert SOON_SECONDS > time.process_time() - begun


@pytest.mark.parametrize("name", ["vm.xml", "vm.toml"])
def test_a_file_of_10_mb(name: str, tmp_path: Path) -> None:
    """Nobody reads a file of such a length to its end."""
    path = tmp_path / name
    body = DOMAIN.format("<title>x</title>") if name == "vm.xml" else TOML.format("")
    path.write_text(body + " " * (10 * MIB), encoding="ascii")
    begun = time.process_time()

    with pytest.raises(BadInput, match="larger than") as caught:
        read_file(path)

    assert str(path) in caught.value.message
    assert SOON_SECONDS > time.process_time() - begun


@pytest.mark.parametrize("count", [1, 20_000])
def test_many_elements(count: int) -> None:
    """Work grows with the length of a document, and not with its square."""
    refused = error_of(DOMAIN.format("<spaceship/>" * count), "vm.xml")

    assert isinstance(refused, Unsupported)


def test_a_file_that_is_a_folder(tmp_path: Path) -> None:
    """What cannot be read is named."""
    with pytest.raises(BadInput, match="Is a directory"):
        read_file(tmp_path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """What is not there is named."""
    with pytest.raises(BadInput, match="No such file") as caught:
        read_file(tmp_path / "gone.xml")

    assert "gone.xml" in caught.value.message


@pytest.mark.parametrize(
    ("inner", "kind", "element"),
    [
        ("<spaceship/>", Unsupported, "/domain/spaceship"),
        ("<x:y xmlns:x='http://evil.example/'/>", Unsupported, "/domain/x:y"),
        ("<name xmlns='http://evil.example/'>y</name>", Unsupported, "/domain/name"),
        ("<title x:y='1' xmlns:x='http://evil.example/'>t</title>", Unsupported, None),
        ("<name>y</name>", Unsupported, "/domain/name[2]"),
        ("<vcpu>-1</vcpu>", Unsupported, "/domain/vcpu"),
        ("<vcpu>99999999999999999999999</vcpu>", None, "/domain/vcpu"),
        (f"<vcpu>{'9' * 5000}</vcpu>", BadInput, "/domain/vcpu"),
        ("<vcpu>one</vcpu>", BadInput, "/domain/vcpu"),
        ("<vcpu>1.5</vcpu>", BadInput, "/domain/vcpu"),
        ("<vcpu>\u0661</vcpu>", BadInput, "/domain/vcpu"),
        ("<vcpu>1_0</vcpu>", BadInput, "/domain/vcpu"),
        ("<currentMemory unit='parsec'>1</currentMemory>", BadInput, "/domain/currentMemory"),
        ("<currentMemory>-5</currentMemory>", BadInput, "/domain/currentMemory"),
        ("<currentMemory unit='EiB'>99</currentMemory>", BadInput, "/domain/currentMemory"),
        (f"<currentMemory>{'9' * 5000}</currentMemory>", BadInput, "/domain/currentMemory"),
        ("<currentMemory>1e9</currentMemory>", BadInput, "/domain/currentMemory"),
        ("<title>a\nb</title>", BadInput, "/domain/title"),
        ("<title>a&#9;b</title>", BadInput, "/domain/title"),
        ("<os><kernel>/</kernel></os>", BadInput, "/domain/os/kernel"),
        (f"<os><kernel>/{'k' * 5000}</kernel></os>", BadInput, "/domain/os/kernel"),
        ("<features><acpi state='maybe'/></features>", None, None),
    ],
    ids=lambda value: str(value)[:40],
)
def test_wrong_values_in_xml(
    inner: str, kind: type[BpferryError] | None, element: str | None
) -> None:
    """File, line and element are named; what libvirt may know is unsupported, the rest is wrong."""
    error = error_of(DOMAIN.format(inner), "vm.xml")

    assert isinstance(error, (BadInput, Unsupported) if kind is None else kind)
    assert "'/vms/vm.xml':4:" in error.message
    if element is not None:
        assert element == error.element


@pytest.mark.parametrize(
    ("text", "line", "element"),
    [
        ("x = [", None, None),
        ('name = "y"', None, None),
        ("[[disks]]\n[disks]", None, None),
        ('spaceship = "x"', 3, "spaceship"),
        ("title = 5", 3, "title"),
        ("title = ['a']", 3, "title"),
        ("title = 1979-05-27", 3, "title"),
        ("vcpus = '4'", 3, "vcpus"),
        ("vcpus = 4.0", None, None),
        ("vcpus = true", 3, "vcpus"),
        ("vcpus = -1", 3, "vcpus"),
        ("vcpus = 99999999999999999999999999", 3, "vcpus"),
        ("vcpus = inf", 3, "vcpus"),
        (f"vcpus = {'9' * 5000}", None, None),
        ("current-memory = 64", 3, "current-memory"),
        ("current-memory = '64 parsec'", 3, "current-memory"),
        ("current-memory = '-64 MiB'", 3, "current-memory"),
        ("current-memory = '99 EiB'", 3, "current-memory"),
        ("current-memory = '64'", 3, "current-memory"),
        ("disks = 5", 3, "disks"),
        ("disks = {}", 3, "disks"),
        ("disks = [[]]", 3, "disks"),
        ("cpu = []", 3, "cpu"),
        ("[[rngs]]\nbackend = 'egdx'", 4, "rngs[0].backend"),
        ('title = "a\\nb"', 3, "title"),
        ('title = "a\\u0000b"', 3, "title"),
        ('title = "a\\ud800b"', None, None),
        ('kernel = "/"', 3, "kernel"),
        ("x = " + "[" * 100_000 + "]" * 100_000, None, None),
        ("x" + ".x" * 100_000 + " = 1", None, None),
        ("[x" + " . 'x'" * 100_000 + "]", None, None),
    ],
    ids=lambda value: str(value)[:40],
)
def test_wrong_values_in_toml(text: str, line: int | None, element: str | None) -> None:
    """File, line and key are named where there is a value to name, and the file in any case."""
    error = error_of(TOML.format(text), "vm.toml")

    assert isinstance(error, BadInput)
    assert "'/vms/vm.toml'" in error.message
    if line is not None:
        assert f"'/vms/vm.toml':{line}" in error.message
        assert element == error.element


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"name = '\xe9'", "name = 'x'".encode("utf-16")])
def test_toml_in_another_encoding(raw: bytes) -> None:
    """TOML is UTF-8 and nothing else."""
    error = error_of(raw, "vm.toml")

    assert isinstance(error, BadInput)
    assert "'/vms/vm.toml'" in error.message


@pytest.mark.parametrize("name", ["vm.xml", "vm.toml", "vm"])
@pytest.mark.parametrize("raw", [b"", b"\x00", b"\x00" * 1000, b"\xef\xbb\xbf", b"\r\n\r\n"])
def test_nothing_at_all(raw: bytes, name: str) -> None:
    """A file without a word in it is not a description."""
    assert isinstance(error_of(raw, name), BadInput)
