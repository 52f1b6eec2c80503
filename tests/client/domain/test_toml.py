# SPDX-License-Identifier: LGPL-2.1-or-later
"""The native description: what it becomes, and what is said of one that is wrong."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpferry.domain.document import MAX_FILE_BYTES, read_bytes, read_file
from bpferry.domain.model.machine import Machine
from bpferry.errors import BadInput, BpferryError

PATH = Path("/vms/web.toml")
LEAST = 'name = "web"\nmemory = "64 MiB"\n'


def read(text: str) -> Machine:
    """Return the VM of *text*."""
    return read_bytes(text.encode(), PATH).machine


def read_wrong(text: str) -> BadInput:
    """Return the error with which reading *text* ends."""
    with pytest.raises(BadInput) as caught:
        read(text)
    return caught.value


def test_short_description_gets_defaults() -> None:
    """Two keys are enough; the rest has its defaults."""
    machine = read(LEAST)

    assert (machine.name, machine.memory, machine.vcpus) == ("web", 64 * 2**20, 1)
    assert (machine.accelerator, machine.tcg_fallback) == ("kvm", True)
    assert (machine.disks, machine.cards) == ((), ())


def test_relative_paths_begin_at_the_file() -> None:
    """A path that does not begin with a slash begins at the folder of the description."""
    machine = read(LEAST + 'kernel = "vmlinuz"\ninitrd = "/boot/i"\n[[disks]]\nfile = "a,b"\n')

    assert (machine.kernel, machine.initrd) == ("/vms/vmlinuz", "/boot/i")
    assert machine.disks[0].file == "/vms/a,b"


def test_folder_that_is_not_utf8_is_said_to_be_so() -> None:
    """A path that begins at such a folder has no control character, and is not taken either."""
    with pytest.raises(BadInput, match=r"'kernel' is '/v\\udce9/k': it is not UTF-8"):
        read_bytes((LEAST + 'kernel = "k"').encode(), Path("/v\udce9/web.toml"))


@pytest.mark.parametrize(
    ("text", "element", "words"),
    [
        ('memory = "64 MiB"', "name", "'name' is missing"),
        (LEAST + "memroy = 1", "memroy", ":3: unknown key 'memroy'"),
        (LEAST + "vcpus = 0", "vcpus", ":3: 'vcpus' is 0: expected a whole number from 1 to 4096"),
        (
            LEAST + "vcpus = true",
            "vcpus",
            "'vcpus' is true: expected a whole number from 1 to 4096",
        ),
        (LEAST + "vcpus = 2.0", "vcpus", "'vcpus' is 2.0: expected a whole number"),
        (LEAST + "vcpus = 0x" + "f" * 5000, "vcpus", "is a number that is out of range: "),
        (LEAST + '"\\u001b[2J" = 1', "\x1b[2J", "unknown key '\\x1b[2J'"),
        (LEAST + "qemu = 2020-01-01", "qemu", "is 2020-01-01: expected text"),
        (LEAST + 'accelerator = "hvf"', "accelerator", "possible values: kvm, tcg"),
        ('name = "x\\n"\nmemory = "64 MiB"', "name", "it contains a control character"),
        ('name = "x\\u0000"\nmemory = "64 MiB"', "name", "it contains a control character"),
        ('name = "web"\nmemory = 64', "memory", "is 64: expected a size with a unit"),
        ('name = "web"\nmemory = "64"', "memory", "expected a whole number with a unit"),
        ('name = "web"\nmemory = "64 MB/s"', "memory", "expected a whole number with a unit"),
        ('name = "web"\nmemory = "64 QiB"', "memory", "expected a unit such as KiB, MiB"),
        ('name = "web"\nmemory = "-64 MiB"', "memory", "expected a whole number with a unit"),
        ('name = "web"\nmemory = "9999999 TiB"', "memory", "expected at most"),
        (LEAST + 'kernel = ""', "kernel", "expected the path of a file"),
        (LEAST + f'kernel = "{"x" * 5000}"', "kernel", "a path has at most 4095 bytes"),
        (LEAST + "cards = 3", "cards", "is 3: expected a list of tables, as [[cards]]"),
        (LEAST + "boot = 3", "boot", "'boot' is 3: expected a list"),
        (LEAST + "cpu = 3", "cpu", "'cpu' is 3: expected a table"),
        (LEAST + "[[cards]]\nqueue = 2", "cards[0].queue", ":4: unknown key 'cards[0].queue'"),
    ],
)
def test_mistake_is_named(text: str, element: str, words: str) -> None:
    """A mistake names the file, the key, what was found, and what is possible."""
    error = read_wrong(text)

    assert element == error.element
    assert words in error.message
    assert "'/vms/web.toml'" in error.message
    assert error.status == 2


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("memmory = 1", "did you mean 'memory'?"),
        (
            "read-only = true",
            "it is a key of [loader], [[disks]], [[memory-devices]] or [[filesystems]]",
        ),
        ("[[cards]]\nqueue = 2", "did you mean 'queues'?"),
        ("[boot-menu]\nwarp = 1", "the keys here are enabled, timeout"),
        ("spaceship = 1", "docs/documents.md, 'The native form', has the keys that "),
    ],
)
def test_unknown_key_leads_to_those_that_there_are(text: str, hint: str) -> None:
    """The hint has the keys that are near, the table that has it, or where to look."""
    assert read_wrong(LEAST + text).hint.startswith(hint)


@pytest.mark.parametrize(
    ("text", "element", "words", "hint"),
    [
        (
            '[[cards]]\ntype = "bridge"\nbridge = "br0"\ntap = "tap0"',
            "cards[0].tap",
            ":6: 'cards[0].tap': a card of type 'bridge' has no tap with a name",
            "leave 'tap' out, or use the type 'ethernet' for a tap that exists",
        ),
        (
            '[features.hyperv]\nmode = "passthrough"\nrelaxed = true',
            "features.hyperv",
            ":3: 'features.hyperv': the mode 'passthrough' turns on everything",
            "leave single features out, or leave 'mode' out",
        ),
    ],
)
def test_what_a_domain_document_could_not_say(
    text: str, element: str, words: str, hint: str
) -> None:
    """It is passed over there, so that a conversion would lose it: it is wrong here."""
    error = read_wrong(LEAST + text)

    assert (element, hint) == (error.element, error.hint)
    assert words in error.message


def test_missing_key_tells_what_is_possible() -> None:
    """Where there are only some words for it, they are named."""
    error = read_wrong(LEAST + "[[inputs]]\n")

    assert "'inputs[0].type' is missing" in error.message
    assert error.hint.startswith("possible values: ")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"name = ", "not valid TOML: the value of 'name' is missing"),
        (b'name = "a"\nname = "b"', "not valid TOML"),
        (b"a = " + b"9" * 5000, "not valid TOML: Exceeds the limit"),
        (b"\xff", "not UTF-8 text: it contains the byte 0xff"),
        (b"a = " + b"[" * 5000, "nested too deeply"),
    ],
)
def test_bytes_that_are_no_toml(raw: bytes, words: str) -> None:
    """What is not TOML at all is an error with the place."""
    with pytest.raises(BadInput) as caught:
        read_bytes(raw, PATH)

    assert words in caught.value.message


@given(st.binary(max_size=200))
def test_any_bytes_give_a_machine_or_an_error(raw: bytes) -> None:
    """No input makes anything but an error of ours."""
    with contextlib.suppress(BpferryError):
        assert read_bytes(raw, PATH).machine.name


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.write_bytes(b"#" * (MAX_FILE_BYTES + 1)), "larger than"),
        (lambda _path: None, "No such file"),
    ],
    ids=["directory", "long", "missing"],
)
def test_file_that_cannot_be_read(make: "object", words: str, tmp_path: Path) -> None:
    """A file that is not a regular one, or is too long, is bad input."""
    path = tmp_path / "vm.toml"
    assert callable(make)
    make(path)

    with pytest.raises(BadInput, match=words):
        read_file(path)


@pytest.mark.parametrize(
    "text",
    [
        '[[graphics]]\ntype = "vnc"\npassword = 1234567',
        '[graphics]\ntype = "vnc"\npassword = "1234567"',
        '[[graphics]]\ntype = "vnc"\npassword = "123\\t4567"',
    ],
)
def test_secrets_are_not_repeated(text: str) -> None:
    """No message shows a password, whatever is wrong with it or around it."""
    with pytest.raises(BadInput) as caught:
        read_bytes(f'name = "vm"\nmemory = "64 MiB"\n{text}\n'.encode(), Path("/vms/vm.toml"))

    assert "4567" not in f"{caught.value.message}{caught.value.hint}"


def test_all_mistakes_are_told_at_once() -> None:
    """In the order of their lines: sizes, unknown and missing keys, types and words."""
    text = (
        "memory = 64\n"
        "vcpu = 2\n"
        "machine-type = true\n"
        "[[disks]]\n"
        'file = "a.raw"\n'
        'bus = "sata7"\n'
        "[[cards]]\n"
        'bridge = "br0"\n'
        "queue = 4\n"
        'mac = "00:11"\n'
    )

    with pytest.raises(BadInput) as caught:
        read_bytes(text.encode(), Path("/vms/web.toml"))

    told = [error.element for error in (caught.value, *caught.value.others)]
    assert told == [
        "name", "memory", "vcpu", "machine-type", "disks[0].bus", "cards[0].queue", "cards[0].mac",
    ]  # fmt: skip


def test_every_control_character_is_told_at_once() -> None:
    """What is found after the types are right comes at once too."""
    text = 'name = "a\\n"\nmemory = "64 MiB"\nqemu = "b\\n"\n'

    with pytest.raises(BadInput) as caught:
        read_bytes(text.encode(), Path("/vms/web.toml"))

    assert ["name", "qemu"] == [error.element for error in (caught.value, *caught.value.others)]


@pytest.mark.parametrize("key", ['""', "missing"])
def test_any_unknown_key_is_told_as_one(key: str) -> None:
    """Whatever it is called: none of our own words is taken for the kind of the mistake."""
    with pytest.raises(BadInput) as caught:
        read_bytes(f'name = "web"\nmemory = "64 MiB"\n{key} = 1\n'.encode(), Path("/vms/web.toml"))

    assert caught.value.message.endswith(f"unknown key '{key.strip(chr(34))}'")


def test_a_value_is_not_taken_for_a_key() -> None:
    """'uefi' and 'bios' lead to one key; as values they are two."""
    with pytest.raises(BadInput) as caught:
        read_bytes(b'name = "web"\nmemory = "64 MiB"\nfirmware = "uefi"\n', Path("/vms/web.toml"))

    assert "did you mean 'efi'?" == caught.value.hint
