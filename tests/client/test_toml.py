# SPDX-License-Identifier: LGPL-2.1-or-later
"""The native description: what it becomes, and what is said of one that is wrong."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpferry.domain.model import Accelerator, Card, Disk, DiskFormat, derive_mac
from bpferry.domain.toml import MAX_FILE_BYTES, read_bytes, read_file
from bpferry.errors import BadInput

PATH = Path("/vms/web.toml")
LEAST = 'name = "web"\nmemory-mib = 64\n'
FULL = """
name = "web"
memory-mib = 1024
vcpus = 4
kernel = "vmlinuz"
initrd = "/boot/initrd"
command-line = "console=ttyS0, x=y"
serial = false
qemu = "/opt/qemu"
machine = "pc"
accelerator = "kvm"
[[disks]]
path = "a,b.qcow2"
format = "qcow2"
read-only = true
[[cards]]
tap = "tap0"
queues = 4
require-ebpf = true
mac = "52:54:00:AB:cd:01"
[[cards]]
tap = "tap1"
name = "lan"
"""


def read(text: str) -> BadInput:
    """Return the error with which reading *text* ends."""
    with pytest.raises(BadInput) as caught:
        read_bytes(text.encode(), PATH)
    return caught.value


def test_short_description_gets_defaults() -> None:
    """Two keys are enough; the rest has its defaults."""
    machine = read_bytes(LEAST.encode(), PATH)

    assert (
        machine.name,
        machine.memory_mib,
        machine.vcpus,
        machine.kernel,
        machine.disks,
        machine.cards,
    ) == ("web", 64, 1, None, (), ())
    assert machine.accelerator is Accelerator.AUTO


def test_every_key_arrives() -> None:
    """Each key of a full description is found in the model, relative paths made absolute."""
    machine = read_bytes(FULL.encode(), PATH)

    assert (Disk("/vms/a,b.qcow2", DiskFormat.QCOW2, read_only=True),) == machine.disks
    assert (
        machine.kernel,
        machine.initrd,
        machine.qemu,
    ) == ("/vms/vmlinuz", "/boot/initrd", "/opt/qemu")
    assert (
        machine.command_line,
        machine.serial,
        machine.machine_type,
        machine.accelerator,
        machine.vcpus,
    ) == ("console=ttyS0, x=y", False, "pc", Accelerator.KVM, 4)
    assert (
        Card("net0", "tap0", "52:54:00:ab:cd:01", 4, rss=True, require_ebpf=True),
        Card("lan", "tap1", derive_mac("web", 1), 1, rss=False),
    ) == machine.cards


def test_derived_mac_is_stable_and_local() -> None:
    """A derived address never changes, differs by card, and is a local one of a single station."""
    first = derive_mac("demo", 0)

    assert first == "56:3d:06:f2:d9:77"
    assert first != derive_mac("demo", 1)


@given(st.text(max_size=20), st.integers(0, 15))
def test_derived_mac_never_is_a_group(name: str, index: int) -> None:
    """Whatever the name, the two low bits of the first byte are: single, local."""
    assert int(derive_mac(name, index)[:2], 16) & 3 == 2


@pytest.mark.parametrize(
    ("text", "element", "words"),
    [
        ("memory-mib = 64", "name", "'name' is missing"),
        (LEAST + "memroy = 1", "memroy", "unknown key 'memroy'"),
        (LEAST + "vcpus = 0", "vcpus", "'vcpus' is 0: expected int >= 1"),
        (LEAST + "vcpus = true", "vcpus", "'vcpus' is True: expected int, got bool"),
        (LEAST + "vcpus = 2.0", "vcpus", "'vcpus' is 2.0: expected int, got float"),
        (LEAST + 'serial = "yes"', "serial", "'serial' is 'yes': expected bool, got str"),
        (LEAST + "vcpus = 0x" + "f" * 5000, "vcpus", "is a number beyond all bounds: "),
        (LEAST + '"\\u001b[2J" = 1', "\x1b[2J", "unknown key '\\x1b[2J'"),
        (LEAST + "qemu = 2020-01-01", "qemu", "expected str"),
        (LEAST + 'accelerator = "hvf"', "accelerator", 'possible are "auto", "kvm", "tcg"'),
        ('name = "a,b"\nmemory-mib = 64', "name", "'name' is 'a,b': possible are letters"),
        ('name = "x\\n"\nmemory-mib = 64', "name", "possible are letters"),
        ('name = "web"\nmemory-mib = 8', "memory-mib", "'memory-mib' is 8: expected int >= 16"),
        (LEAST + 'machine = "q35,x=y"', "machine", "possible are machine types"),
        (LEAST + 'kernel = ""', "kernel", "expected the path of a file"),
        (LEAST + 'kernel = "a\\u0000b"', "kernel", "expected the path of a file"),
        (LEAST + 'initrd = "i"', "initrd", "needs 'kernel'"),
        (LEAST + 'command-line = "x"', "command-line", "needs 'kernel'"),
        (LEAST + 'kernel = "k"\ncommand-line = "a\\nb"', "command-line", "one printable line"),
        (LEAST + f'kernel = "k"\ncommand-line = "{"x" * 2048}"', "command-line", "2048 bytes"),
        (LEAST + '[[disks]]\npath = "d"', "disks[0].format", "is missing"),
        (
            LEAST + '[[disks]]\npath = "d"\nformat = "vmdk"',
            "disks[0].format",
            'possible are "raw", "qcow2"',
        ),
        (LEAST + "cards = 3", "cards", "'cards' is 3: expected array"),
        (LEAST + '[[cards]]\ntap = "t"\nqueue = 2', "cards[0].queue", "unknown key"),
        (LEAST + '[[cards]]\ntap = "t"\nqueues = 257', "cards[0].queues", "possible are 1 to 256"),
        (LEAST + '[[cards]]\ntap = "t"\nrss = true', "cards[0].rss", "nothing to spread"),
        (
            LEAST + '[[cards]]\ntap = "t"\nrequire-ebpf = true',
            "cards[0].require-ebpf",
            "nothing to steer",
        ),
        (LEAST + '[[cards]]\ntap = "t"\nmac = "01:00:00:00:00:00"', "cards[0].mac", "single"),
        (LEAST + '[[cards]]\ntap = "t"\nmac = "52-54"', "cards[0].mac", "addresses such as"),
        (LEAST + '[[cards]]\ntap = "t"\nname = "a,b"', "cards[0].name", "lower case letter"),
        (
            LEAST + '[[cards]]\ntap = "t"\n[[cards]]\ntap = "t"',
            "cards[1].tap",
            "as 'cards[0].tap' is",
        ),
    ],
)
def test_mistake_is_named(text: str, element: str, words: str) -> None:
    """A mistake names the file, the key, what was found, and what is possible."""
    error = read(text)

    assert element == error.element
    assert words in error.message
    assert "'/vms/web.toml'" in error.message
    assert error.status == 2


@pytest.mark.parametrize(
    "name",
    ["", "a" * 16, "\u00e9" * 8, ".", "..", "a/b", "a:b", "a b", "tap%d", "a\\tb", "a\\u0007"],
)
def test_tap_name_follows_the_kernel(name: str) -> None:
    """A name that the kernel does not allow, or would expand, is refused."""
    error = read(f'{LEAST}[[cards]]\ntap = "{name}"')

    assert error.element == "cards[0].tap"


@pytest.mark.parametrize("name", ["a" * 15, "\u00e9" * 7, "br0.100", "a,b=c"])
def test_tap_name_of_the_kernel_is_taken(name: str) -> None:
    """A name that the kernel allows is allowed; it never becomes part of a QEMU option."""
    machine = read_bytes(f'{LEAST}[[cards]]\ntap = "{name}"'.encode(), PATH)

    assert name == machine.cards[0].tap


def test_unknown_key_suggests_the_near_one() -> None:
    """The hint of an unknown key has the key that was meant, and all others."""
    hint = read(LEAST + "memroy_mib = 1").hint

    assert hint.startswith("did you mean 'memory-mib'? the keys here are name, memory-mib, vcpus,")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"name = ", "not valid TOML: Invalid value (at end of document)"),
        (b'name = "a"\nname = "b"', "not valid TOML"),
        (b"a = " + b"9" * 5000, "not valid TOML: Exceeds the limit"),
        (b"\xff", "not UTF-8 text: byte 0"),
        (b"a = " + b"[" * 5000, "nested too deeply"),
    ],
)
def test_bytes_that_are_no_toml(raw: bytes, words: str) -> None:
    """What is no TOML at all is an error with the place."""
    with pytest.raises(BadInput) as caught:
        read_bytes(raw, PATH)

    assert words in caught.value.message


@given(st.binary(max_size=200))
def test_any_bytes_give_a_machine_or_bad_input(raw: bytes) -> None:
    """No input makes anything but an error of ours."""
    with contextlib.suppress(BadInput):
        assert read_bytes(raw, PATH).name


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.write_bytes(b"#" * (MAX_FILE_BYTES + 1)), "longer than"),
        (lambda _path: None, "No such file"),
    ],
    ids=["directory", "long", "missing"],
)
def test_file_that_cannot_be_read(make: "object", words: str, tmp_path: Path) -> None:
    """A file that is none, or too long a one, is bad input."""
    path = tmp_path / "vm.toml"
    assert callable(make)
    make(path)

    with pytest.raises(BadInput, match=words):
        read_file(path)
