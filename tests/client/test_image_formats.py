# SPDX-License-Identifier: LGPL-2.1-or-later
"""An image that is not in the format that the document says is found before QEMU starts."""

from pathlib import Path

import pytest

from bpferry.domain.document import read_in_part
from bpferry.machine.image_formats import find_shown_containers, find_wrong_formats
from tests.client.images import machine_of, write_qcow2

HEADS = {
    "qcow2": b"QFI\xfb\0\0\0\x03",
    "qcow": b"QFI\xfb\0\0\0\x01",
    "qed": b"QED\0",
    "vmdk": b"KDMV",
    "vdi": bytes(64) + b"\x7f\x10\xda\xbe",
    "vhdx": b"vhdxfile",
}
LUKS = b"LUKS\xba\xbe\0\x01"


def errors_of(folder: Path, disk: str) -> list[str]:
    """Return what is wrong with a VM of one *disk*: key and message of each."""
    found = find_wrong_formats(machine_of(folder, disk))
    return [f"{error.element}: {error.message}" for error in found]


def warnings_of(folder: Path, disk: str) -> list[str]:
    """Return what is doubtful of a VM of one *disk*: key and message of each."""
    found = find_shown_containers(machine_of(folder, disk))
    return [f"{doubt.key}: {doubt.message}" for doubt in found]


@pytest.mark.parametrize("found", HEADS)
def test_container_without_a_format_is_refused(found: str, tmp_path: Path) -> None:
    """What would be used as raw, since nothing is said, and certainly is not."""
    (tmp_path / "i").write_bytes(HEADS[found].ljust(4096, b"\0"))

    (error,) = errors_of(tmp_path, 'file = "i"')
    assert error.startswith(f"disks[0].file: '{tmp_path}/i' is {found}, and the document does not")
    assert [] == warnings_of(tmp_path, 'file = "i"')


@pytest.mark.parametrize("found", HEADS)
def test_container_that_is_said_to_be_raw_is_a_warning(found: str, tmp_path: Path) -> None:
    """The guest itself may have written it there."""
    (tmp_path / "i").write_bytes(HEADS[found].ljust(4096, b"\0"))
    disk = 'file = "i"\nformat = "raw"'

    assert [f"disks[0].format: '{tmp_path}/i' is {found}, and is used as raw"] == warnings_of(
        tmp_path, disk
    )
    assert [] == errors_of(tmp_path, disk)


@pytest.mark.parametrize("said", sorted(HEADS))
@pytest.mark.parametrize("found", sorted(HEADS))
def test_one_container_is_not_another(said: str, found: str, tmp_path: Path) -> None:
    """Only an image in the format that is said will do."""
    (tmp_path / "i").write_bytes(HEADS[found].ljust(4096, b"\0"))

    errors = errors_of(tmp_path, f'file = "i"\nformat = "{said}"')

    told = f"disks[0].format: cannot use '{tmp_path}/i' as {said}: it is {found}"
    assert errors == ([] if said == found else [told])


def test_raw_image_that_is_said_to_be_qcow2(tmp_path: Path) -> None:
    """Without the magic of its format, it is certainly none."""
    (tmp_path / "i").write_bytes(bytes(4096))

    assert errors_of(tmp_path, 'file = "i"\nformat = "qcow2"') == [
        f"disks[0].format: cannot use '{tmp_path}/i' as qcow2: it has no qcow2 header"
    ]


@pytest.mark.parametrize("format_line", ["", 'format = "raw"'])
@pytest.mark.parametrize("head", [bytes(4096), LUKS, b"\x55\xaa", b""])
def test_raw_disks_are_as_they_should_be(format_line: str, head: bytes, tmp_path: Path) -> None:
    """Nothing is said of a disk that is raw, nor of one that the guest has encrypted."""
    (tmp_path / "i").write_bytes(head)
    disk = f'file = "i"\n{format_line}'

    assert [] == errors_of(tmp_path, disk) + warnings_of(tmp_path, disk)


ENCRYPTED = (
    'file = "i"\nformat = "raw"\n[disks.encryption]\nformat = "luks"\n'
    'secrets = [{type = "passphrase", usage = "k"}]'
)


@pytest.mark.parametrize(("head", "wrong"), [(LUKS, 0), (bytes(512), 1), (HEADS["qcow2"], 1)])
def test_encrypted_disk_has_to_be_luks(head: bytes, wrong: int, tmp_path: Path) -> None:
    """QEMU is to decrypt it, and takes nothing else."""
    (tmp_path / "i").write_bytes(head)

    assert wrong == len(errors_of(tmp_path, ENCRYPTED))


def test_format_of_an_image_below(tmp_path: Path) -> None:
    """The document's word on the image below is held against that one."""
    write_qcow2(tmp_path / "top")
    (tmp_path / "base").write_bytes(bytes(512))
    below = '[disks.backing]\ntype = "file"\nfile = "base"\nformat = "qcow2"'

    (error,) = errors_of(tmp_path, f'file = "top"\nformat = "qcow2"\n{below}')
    assert error.startswith("disks[0].backing.format: ")


def test_part_of_a_file_begins_where_it_is_said(tmp_path: Path) -> None:
    """What is before the part does not count."""
    (tmp_path / "i").write_bytes(bytes(512) + HEADS["qcow2"])
    part = "slice = {offset = 512, size = 512}"

    assert [] == errors_of(tmp_path, f'file = "i"\nformat = "qcow2"\n{part}')


def test_what_is_not_there_is_somebody_elses_business(tmp_path: Path) -> None:
    """A missing file is told once."""
    assert [] == errors_of(tmp_path, 'file = "i"\nformat = "qcow2"')


KEY = 'encryption = { secrets = [{ usage = "k" }] }'


def write_encrypted(path: Path, method: int) -> None:
    """Write the header of a qcow2 image that is encrypted by *method*."""
    write_qcow2(path)
    raw = bytearray(path.read_bytes())
    raw[32:36] = method.to_bytes(4)
    path.write_bytes(raw)


def test_qcow2_that_is_encrypted_needs_a_key(tmp_path: Path) -> None:
    """QEMU would ask for a parameter of its own."""
    write_encrypted(tmp_path / "i", 2)
    disk = 'file = "i"\nformat = "qcow2"\n'

    (error,) = errors_of(tmp_path, disk)
    assert error.startswith(f"disks[0].file: cannot use '{tmp_path}/i': it is encrypted with LUKS")
    assert [] == errors_of(tmp_path, disk + KEY)


def test_key_for_an_image_without_luks(tmp_path: Path) -> None:
    """In qcow2 the header says it, and in raw the magic."""
    write_encrypted(tmp_path / "i", 0)
    (tmp_path / "r").write_bytes(bytes(4096))

    assert errors_of(tmp_path, f'file = "i"\nformat = "qcow2"\n{KEY}') == [
        f"disks[0].encryption: cannot decrypt '{tmp_path}/i': it is not encrypted with LUKS"
    ]
    assert errors_of(tmp_path, f'file = "r"\nformat = "raw"\n{KEY}') == [
        f"disks[0].format: cannot use '{tmp_path}/r' as luks: it has no luks header"
    ]


def test_a_disk_after_one_that_is_left_out_keeps_its_place(tmp_path: Path) -> None:
    """What is left of a document with a mistake has the numbers of the user's file."""
    image = tmp_path / "disk.qcow2"
    image.write_bytes(b"QFI\xfb\0\0\0\3" + bytes(2**16))
    file = tmp_path / "vm.toml"
    file.write_text(
        'name = "x"\nmemory = "64 MiB"\n'
        f'[[disks]]\nfile = "{image}"\nbus = "sata7"\n'
        f'[[disks]]\nfile = "{image}"\nformat = "vmdk"\n',
        encoding="utf-8",
    )

    wrong = list(find_wrong_formats(read_in_part(file).machine))

    assert ["disks[1].format"] == [error.element for error in wrong]
