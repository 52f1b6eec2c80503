# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a document names and what is not there is found before QEMU starts."""

from pathlib import Path

import pytest

from bpferry.domain.document import read_bytes
from bpferry.machine.files import find_missing_files
from tests.client.commandline.test_firmware import KEYS, PLAIN

DOMAIN = "<domain type='kvm'>\n  <name>x</name>\n  <memory>65536</memory>\n  {}\n</domain>"
FOLDER = (
    "<devices><filesystem type='mount'><source dir='{}'/><target dir='t'/></filesystem></devices>"
)


def faults_of(inner: str, folder: Path) -> list[tuple[str | None, str]]:
    """Return element and message of what is missing; relative paths begin at *folder*."""
    document = read_bytes(DOMAIN.format(inner).encode(), folder / "vm.xml")
    return [(error.element, error.message) for error in find_missing_files(document)]


@pytest.mark.parametrize(
    ("inner", "element", "why"),
    [
        ("<os><kernel>gone</kernel></os>", "/domain/os/kernel", "No such file"),
        ("<os><kernel>here</kernel></os>", "/domain/os/kernel", "Is a directory"),
        (FOLDER.format("gone"), "/domain/devices/filesystem/source", "No such file"),
        (FOLDER.format("vmlinuz"), "/domain/devices/filesystem/source", "Not a directory"),
    ],
)
def test_what_is_not_there(inner: str, element: str, why: str, tmp_path: Path) -> None:
    """Each is named with its path and its place in the document."""
    (tmp_path / "here").mkdir()
    (tmp_path / "vmlinuz").touch()

    ((found, message),) = faults_of(inner, tmp_path)

    assert found is not None
    assert found.startswith(element)
    assert str(tmp_path) in message
    assert why in message


@pytest.mark.parametrize(
    "inner",
    ["<os><kernel>vmlinuz</kernel></os>", FOLDER.format("here"),
     "<devices><serial type='file'><source path='new'/></serial></devices>"],
)  # fmt: skip
def test_what_is_there(inner: str, tmp_path: Path) -> None:
    """Nothing is said of what is there, nor of what QEMU makes."""
    (tmp_path / "here").mkdir()
    (tmp_path / "vmlinuz").touch()

    assert [] == faults_of(inner, tmp_path)


@pytest.mark.parametrize(
    ("loader", "named"),
    [
        ("/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd", "/keys_CODE"),
        ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/plain_CODE"),
    ],
)
def test_firmware_of_another_distribution_is_answered_with_that_of_this_host(
    loader: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one with or without secure boot, as the name of the missing file says."""
    monkeypatch.setattr("bpferry.qemu.firmware.read_descriptors", lambda: (KEYS, PLAIN))
    inner = f"<os><type arch='x86_64'>hvm</type><loader type='pflash'>{loader}</loader></os>"
    document = read_bytes(DOMAIN.format(inner).encode(), tmp_path / "vm.xml")

    (missing,) = find_missing_files(document)

    assert f"this host has '{named}'" in missing.hint


def test_rom_of_a_card(tmp_path: Path) -> None:
    """It is read by QEMU as well; an empty path means that there is none."""
    card = "<devices><interface type='user'><rom file='{}'/></interface></devices>"

    ((element, message),) = faults_of(card.format(tmp_path / "gone"), tmp_path)

    assert element == "/domain/devices/interface/rom/@file"
    assert message.endswith(f"cannot read '{tmp_path}/gone': No such file or directory")
    assert [] == faults_of(card.format(""), tmp_path)
