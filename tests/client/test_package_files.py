# SPDX-License-Identifier: LGPL-2.1-or-later
"""Descriptors of firmware and of other programs, read from folders."""

import json
from pathlib import Path

import pytest

from bpferry.qemu import package_files
from bpferry.qemu.firmware import FlashFile, firmware_of_host, read_descriptors
from bpferry.qemu.package_files import folders
from bpferry.qemu.vhost_user import find_gpu_program

UEFI = {
    "description": "UEFI",
    "interface-types": ["uefi"],
    "mapping": {
        "device": "flash",
        "executable": {"filename": "/code.fd", "format": "raw"},
        "nvram-template": {"filename": "/vars.fd", "format": "raw"},
    },
    "targets": [{"architecture": "x86_64", "machines": ["pc-q35-*"]}],
    "features": ["secure-boot"],
    "tags": ["a word of the packager's"],
}


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Return the folders of the administrator and of the distribution, for firmware."""
    both = tmp_path / "etc" / "firmware", tmp_path / "usr" / "firmware"
    for folder in both:
        folder.mkdir(parents=True)
    monkeypatch.setattr(package_files, "SYSTEM_FOLDERS", tuple(folder.parent for folder in both))
    return both


def write(folder: Path, name: str, **changes: object) -> None:
    """Write a descriptor that differs from the usual one by *changes*."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**UEFI, **changes})
    (folder / name).write_text(text, encoding="utf-8")


def names() -> list[str]:
    """Return what is found, by its description."""
    return [found.description for found in read_descriptors({})]


def test_one(system: tuple[Path, Path]) -> None:
    """A descriptor is read whole."""
    write(system[1], "60-uefi.json")

    (found,) = read_descriptors({})

    assert found.interface_types == ("uefi",)
    assert found.mapping.nvram_template == FlashFile("/vars.fd")
    assert found.targets[0].machines == ("pc-q35-*",)
    assert found.features == {"secure-boot"}
    assert found.path == str(system[1] / "60-uefi.json")


def test_order_of_names(system: tuple[Path, Path]) -> None:
    """The names give the order, whichever folder they are in."""
    write(system[1], "60-b.json", description="b")
    write(system[0], "70-c.json", description="c")
    write(system[1], "50-a.json", description="a")

    assert names() == ["a", "b", "c"]


def test_weight_of_folders(system: tuple[Path, Path], tmp_path: Path) -> None:
    """Of files with the same name that of the user counts, then that of the administrator."""
    write(system[1], "60.json", description="distribution")
    write(system[0], "60.json", description="administrator")
    assert names() == ["administrator"]

    write(tmp_path / "own" / "qemu" / "firmware", "60.json", description="user")

    found = read_descriptors({"XDG_CONFIG_HOME": str(tmp_path / "own")})
    assert [single.description for single in found] == ["user"]


def test_empty_file_hides(system: tuple[Path, Path]) -> None:
    """An empty file hides that of the distribution."""
    write(system[1], "60.json")
    (system[0] / "60.json").touch()

    assert names() == []


@pytest.mark.parametrize(
    "raw", [b"{", b"[]", b'{"mapping": 7}', b"\xff\xfe", b" ", b'{"interface-types": ["uefi"]}']
)
def test_broken_files_are_passed_over(raw: bytes, system: tuple[Path, Path]) -> None:
    """A file that is not a descriptor keeps no other from being found."""
    (system[1] / "10.json").write_bytes(raw)
    (system[1] / "20.json").mkdir()
    (system[1] / "30.json").symlink_to("/nowhere")
    write(system[1], "60.json")

    assert names() == ["UEFI"]


def test_no_folders(system: tuple[Path, Path]) -> None:
    """A host without firmware has none."""
    for folder in system:
        folder.rmdir()

    assert names() == []


def test_folders_of_a_user() -> None:
    """The user's own folder is where XDG has it, or below the home folder."""
    system = (Path("/etc/qemu/firmware"), Path("/usr/share/qemu/firmware"))

    assert folders("firmware", {"XDG_CONFIG_HOME": "/c"})[0] == Path("/c/qemu/firmware")
    assert folders("firmware", {"HOME": "/h"})[0] == Path("/h/.config/qemu/firmware")
    assert folders("firmware", {"XDG_CONFIG_HOME": "c"}) == system


def test_program_that_plays_graphics_cards(system: tuple[Path, Path]) -> None:
    """The first descriptor of such a program counts; others and broken ones are passed over."""
    folder = system[1].parent / "vhost-user"
    folder.mkdir()
    (folder / "10-broken.json").write_text("{")
    (folder / "20-fs.json").write_text('{"type": "fs", "binary": "/usr/libexec/virtiofsd"}')
    (folder / "30-gpu.json").write_text('{"type": "gpu", "binary": "/opt/gpu", "tags": []}')
    (folder / "40-gpu.json").write_text('{"type": "gpu", "binary": "/opt/other"}')

    assert find_gpu_program({}) == "/opt/gpu"


@pytest.mark.usefixtures("system")
def test_no_program_that_plays_graphics_cards() -> None:
    """Without a descriptor it is QEMU's own, which is looked for by its name."""
    assert find_gpu_program({}) == "vhost-user-gpu"


def test_bios_without_a_descriptor(system: tuple[Path, Path], tmp_path: Path) -> None:
    """The BIOS that QEMU loads itself is known without a descriptor, and once with one."""
    write(system[1], "60-uefi.json")
    file = tmp_path / "bios-256k.bin"
    there = (str(tmp_path / "nowhere.bin"), str(file))

    assert ["UEFI"] == [one.description for one in firmware_of_host({}, there)]
    file.touch()
    found = firmware_of_host({}, there)
    assert ["UEFI", "SeaBIOS"] == [one.description for one in found]
    assert (str(file), ("bios",)) == (found[1].mapping.filename, found[1].interface_types)
    mapping = {"device": "memory", "filename": str(file)}
    write(system[1], "70-bios.json", mapping=mapping, description="BIOS")
    assert ["UEFI", "BIOS"] == [one.description for one in firmware_of_host({}, there)]
