# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a user is told to write can be written, in the words of the form that they write in."""

import errno
import io
import os
import re
from pathlib import Path

import pytest

from bpferry.cli.main import main

pytestmark = pytest.mark.qemu

Captured = pytest.CaptureFixture[str]

TOML = 'name = "x"\nmemory = "64 MiB"\naccelerator = "tcg"\n'


def xml(inside: str, arch: str = "x86_64", qemu: str = "qemu-system-x86_64") -> str:
    """Return a document with *inside* as its devices."""
    return (
        "<domain type='qemu'><name>x</name><memory unit='MiB'>64</memory>"
        f"<os><type arch='{arch}' machine='pc'>hvm</type></os>"
        f"<devices><emulator>/usr/bin/{qemu}</emulator>{inside}</devices></domain>"
    )


def told(tmp_path: Path, capsys: Captured, text: str, *words: str) -> str:
    """Return what ``bpferry WORDS`` says of the document *text*, by default ``check``."""
    path = tmp_path / "vm"
    path.write_text(text, encoding="utf-8")
    main([*(words or ("check",)), str(path)])
    both = capsys.readouterr()
    return both.out + both.err


def test_architecture_by_its_name_in_documents(tmp_path: Path, capsys: Captured) -> None:
    """A QEMU for i386 is named i686 in the hint, which documents can have."""
    said = told(tmp_path, capsys, xml("", qemu="qemu-system-i386"))

    assert "runs guests of i686, not of x86_64" in said
    assert "write 'i686'" in said
    assert "not of" not in told(tmp_path, capsys, xml("", "i686", qemu="qemu-system-i386"))


def test_settings_of_virtio_in_both_forms(tmp_path: Path, capsys: Captured) -> None:
    """Settings that a card does not support have the names that the document has for them."""
    card = (
        "<interface type='user'><model type='e1000'/>"
        "<driver event_idx='off' rx_queue_size='256'/></interface>"
    )

    assert "does not support event_idx='...' in <driver>, rx_queue_size" in told(
        tmp_path, capsys, xml(card)
    )
    native = '[[cards]]\ntype = "user"\nmodel = "e1000"\nevent-idx = false\nrx-queue-size = 256\n'
    assert "does not support 'event-idx', 'rx-queue-size'" in told(tmp_path, capsys, TOML + native)


def test_access_in_both_forms(tmp_path: Path, capsys: Captured) -> None:
    """The access to a shared folder is an attribute in XML, and a key in TOML."""
    shared = (
        f"<filesystem accessmode='passthrough'><source dir='{tmp_path}'/>"
        "<target dir='tag'/></filesystem>"
    )
    native = f'[[filesystems]]\naccess = "passthrough"\ntag = "tag"\nfolder = "{tmp_path}"\n'

    assert "write accessmode='mapped', or" in told(tmp_path, capsys, xml(shared))
    assert 'write access = "mapped", or' in told(tmp_path, capsys, TOML + native)


def test_dry_run_names_the_part_of_the_document(tmp_path: Path, capsys: Captured) -> None:
    """A process beside QEMU is for a part that has its XPath in XML."""
    card = "<interface type='user'><backend type='passt'/></interface>"

    said = told(tmp_path, capsys, xml(card), "run", "--dry-run")

    assert re.search(r"# passt runs beside QEMU, for '/domain/devices/interface", said)


def test_way_out_of_a_macvtap_that_nobody_makes(tmp_path: Path, capsys: Captured) -> None:
    """A document that wants one made hears why not, and how to name one that exists."""
    card = "<interface type='direct'><source dev='eno1' mode='bridge'/></interface>"

    said = told(tmp_path, capsys, xml(card))

    assert "/domain/devices/interface/@type' is 'direct', which is not supported: the tap" in said
    assert "would stay after its VM, and is out of its reach" in said
    assert "<interface type='ethernet'> with <target dev='MACVTAP' managed='no'/>" in said


def test_too_many_queues_in_toml(tmp_path: Path, capsys: Captured) -> None:
    """The way out of a tap with too many queues is a key in TOML, and elements in XML."""
    said = told(tmp_path, capsys, TOML + '[[cards]]\nbridge = "br0"\nqueues = 100\n')

    assert 'ask for fewer, or use a tap that exists already: tap = "TAP"' in said
    assert "managed='no'" not in said


@pytest.mark.parametrize(
    ("card", "untold"),
    [
        ("<interface type='direct'/>", "nobody can reach"),
        ("<interface type='user'><model type='frob'/></interface>", "is of model"),
    ],
)
def test_no_note_of_what_a_refusal_took_out(
    card: str, untold: str, tmp_path: Path, capsys: Captured
) -> None:
    """What the VM lacks only because it is refused is not told as the user's own choice."""
    assert untold not in told(tmp_path, capsys, xml(card))


@pytest.mark.parametrize(
    ("devices", "noted"), [("", "nobody can reach"), ("<interface type='user'/>", "is of model")]
)
def test_note_of_what_the_document_lacks(
    devices: str, noted: str, tmp_path: Path, capsys: Captured
) -> None:
    """What nobody asked for is told."""
    assert noted in told(tmp_path, capsys, xml(devices))


@pytest.fixture
def no_vsock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this host have no vhost-vsock."""
    stat = os.stat

    def without(
        path: str | Path | int, *, dir_fd: int | None = None, follow_symlinks: bool = True
    ) -> os.stat_result:
        if path == "/dev/vhost-vsock":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(os, "stat", without)


@pytest.mark.usefixtures("no_vsock")
@pytest.mark.parametrize(("vsock", "status"), [("", 3), ("cid = 77", 1)])
def test_host_without_vsock(vsock: str, status: int, tmp_path: Path, capsys: Captured) -> None:
    """A missing node is said in the same words, with a CID and without one, which it would give."""
    path = tmp_path / "vm.toml"
    path.write_text(f"{TOML}[vsock]\n{vsock}\n", encoding="utf-8")

    assert main(["check", str(path)]) == status

    said = capsys.readouterr().out
    assert "this host has no '/dev/vhost-vsock', which the device needs" in said
    assert "modprobe vhost_vsock" in said
    assert "CID" not in said


def test_long_name_of_a_bridge_is_one_mistake(tmp_path: Path, capsys: Captured) -> None:
    """A name that no bridge can have is wrong in any VM, and the card does not lack a bridge."""
    path = tmp_path / "vm.toml"
    path.write_text(f'{TOML}[[cards]]\nbridge = "averyveryverylongbridge"\n', encoding="utf-8")

    assert main(["check", str(path)]) == 2

    errors = [line for line in capsys.readouterr().out.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    assert "the name 'averyveryverylongbridge' is longer than 15 bytes" in errors[0]


@pytest.mark.parametrize(
    ("raw", "what", "suffix"),
    [
        (b"QFI\xfb\0\0\0\3" + bytes(2**21), "a disk image", ".qcow2"),
        (b"QFI\xfb\0\0\0\3", "a disk image", ".xml"),
        (b"\x7fELF\2\1\1\0\0", "a binary file", ""),
        (bytes(2**16), "a binary file", ".toml"),
    ],
)
def test_file_that_is_no_text(
    raw: bytes, what: str, suffix: str, tmp_path: Path, capsys: Captured
) -> None:
    """An image in place of a description is called one, of any size and name."""
    path = tmp_path / f"vm{suffix}"
    path.write_bytes(raw)

    assert main(["check", str(path)]) == 2

    said = capsys.readouterr().out
    assert f"'{path}' is {what}, not the description of a VM" in said
    assert "iconv" not in said


def test_ebpf_that_a_card_without_a_tap_cannot_have(tmp_path: Path, capsys: Captured) -> None:
    """More queues do not help a card without a tap."""
    card = '[[cards]]\ntype = "user"\n'

    said = told(tmp_path, capsys, TOML + card, "run", "--dry-run", "--require-ebpf")

    assert "which is required: only a card with a tap can be" in said
    assert 'use a bridge or a tap: bridge = "BRIDGE" or tap = "TAP"' in said


def test_tap_that_does_not_exist(tmp_path: Path, capsys: Captured) -> None:
    """The helper chooses the name of the tap that it makes."""
    said = told(tmp_path, capsys, TOML + '[[cards]]\ntap = "nosuchtap7"\n')

    assert "write the name that it prints in place of 'nosuchtap7'" in said


def test_source_that_a_character_device_lacks(tmp_path: Path, capsys: Captured) -> None:
    """The hint shows the table or the element with the path."""
    assert '[[serials.sources]] with path = "PATH"' in told(
        tmp_path, capsys, TOML + '[[serials]]\ntype = "file"\n'
    )
    assert "<source path='PATH'/>" in told(tmp_path, capsys, xml("<serial type='file'/>"))


def test_machine_type_in_place_of_an_unknown_one(tmp_path: Path, capsys: Captured) -> None:
    """The warning says which machine type the VM gets."""
    text = xml("<serial type='pty'/>").replace("machine='pc'", "machine='frob'")

    said = told(tmp_path, capsys, text, "run", "--dry-run", "--ignore-unsupported")

    assert "has no machine 'frob'; 'pc' is used in its place" in said


def test_snapshot_of_qemu(tmp_path: Path, capsys: Captured) -> None:
    """snapshot=on of QEMU is not the snapshot of a disk here, and quotes would not make it so."""
    said = told(tmp_path, capsys, TOML + '[[disks]]\nfile = "a"\nsnapshot = true\n')

    assert "it is the name of a snapshot on a Ceph cluster" in said
    assert "write it in quotes" not in said


def test_processors_are_told_as_ranges(tmp_path: Path, capsys: Captured) -> None:
    """A hundred numbers do not fit a line."""
    said = told(tmp_path, capsys, TOML + 'vcpu-affinity = "0-999"\n')

    assert re.search(r"this host has no processor \d+-999:", said)


def test_word_that_an_attribute_cannot_have(tmp_path: Path, capsys: Captured) -> None:
    """A refusal of a word has a way out."""
    text = xml("").replace("</os>", "<bios useserial='maybe'/></os>")

    assert "possible values: yes, no\n    fix: write a value that is possible, or leave it out" in (
        told(tmp_path, capsys, text)
    )


def test_program_that_does_not_know_an_option(capsys: Captured) -> None:
    """What is wrong is told, rather than the name of a help text."""
    assert main(["capabilities", "/bin/ls"]) == 1

    assert "it said: /bin/ls: " in capsys.readouterr().err


def test_answer_that_the_locale_cannot_write(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The character and the encoding are named, and nothing is written in part."""
    path = tmp_path / "vm.toml"
    path.write_text('name = "w\u0142b"\nmemory = "1 GiB"\n', encoding="utf-8")
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="iso-8859-1"))

    assert main(["convert", str(path)]) == 1
    assert written.getvalue() == b""
    assert capsys.readouterr().err == (
        "bpferry: error: cannot write '\\u0142' to standard output: your locale's encoding, "
        "iso-8859-1, does not have it\n"
        "bpferry: hint: choose a locale with UTF-8, such as LC_ALL=C.UTF-8\n"
    )


@pytest.mark.parametrize("words", [["convert"], ["convert", "--json"]])
def test_no_room_for_the_answer(
    words: list[str], tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk below standard output is named."""
    path = tmp_path / "vm.toml"
    path.write_text(TOML, encoding="utf-8")
    # What is left in its buffer cannot be written when it is closed either.
    full = Path("/dev/full").open("w", encoding="utf-8")  # noqa: SIM115
    monkeypatch.setattr("sys.stdout", full)

    assert main([*words, str(path)]) == 1
    with pytest.raises(OSError, match="No space left"):
        full.close()

    assert capsys.readouterr().err == (
        "bpferry: error: cannot write to standard output: No space left on device\n"
    )


def test_choices_have_commas(tmp_path: Path, capsys: Captured) -> None:
    """Of three choices or more, only the last one follows a word."""
    said = told(tmp_path, capsys, TOML + '[[disks]]\nfile = "a"\nprotocol = "nbd"\n')

    assert re.search(r"set the type to '\w+', ('\w+', )*'\w+' or '\w+'$", said, re.MULTILINE)
