# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files of UEFI firmware that do not belong together are found before QEMU starts."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from bpferry.commandline.context import Context, Folders
from bpferry.errors import BpferryError
from bpferry.machine.uefi_files import find_firmware_faults
from bpferry.qemu.capabilities import Capabilities
from bpferry.qemu.firmware import Descriptor, FlashFile, Mapping_, Target
from tests.client.commandline.system_parts import context_of

CODE_4M, VARIABLES_4M = 3653632, 540672
CODE_2M, VARIABLES_2M = 1966080, 131072
"""Sizes of Debian's OVMF."""

QCOW2 = b"QFI\xfb" + bytes(20) + VARIABLES_4M.to_bytes(8) + bytes(100)


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    """Give a folder with both builds of OVMF, as far as their sizes go."""
    sizes = {
        "CODE_4M": CODE_4M, "VARS_4M": VARIABLES_4M, "CODE_2M": CODE_2M, "VARS_2M": VARIABLES_2M,
        "odd": 1000, "huge": 9 * 2**20, "flash_64M": 64 * 2**20,
    }  # fmt: skip
    for name, size in sizes.items():
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
    (tmp_path / "qcow2").write_bytes(QCOW2)
    (tmp_path / "state").mkdir()
    return tmp_path


def descriptor(folder: Path) -> Descriptor:
    """Return the descriptor of the larger build."""
    return Descriptor(
        interface_types=("uefi",),
        mapping=Mapping_(
            device="flash",
            executable=FlashFile(f"{folder}/CODE_4M"),
            nvram_template=FlashFile(f"{folder}/VARS_4M"),
        ),
        targets=(Target("x86_64", ("pc-*",)),),
    )


def loader(folder: Path, code: str, nvram: str = "", form: str = "raw") -> Context:
    """Return what is known of a VM that names its firmware."""
    os = f"<loader type='pflash' readonly='yes' format='{form}'>{folder}/{code}</loader>{nvram}"
    context = context_of(os=os, descriptors=(descriptor(folder),))
    return replace(context, folders=Folders(f"{folder}/run", f"{folder}/state"))


def faults(context: Context) -> Iterator[tuple[str | None, str, str]]:
    """Yield the place, the message and the hint of each fault."""
    for fault in find_firmware_faults(context):
        assert isinstance(fault, BpferryError)
        yield fault.element, fault.message, fault.hint


def template(folder: Path, name: str) -> str:
    """Return an element that names a template."""
    return f"<nvram template='{folder}/{name}'/>"


@pytest.mark.parametrize(
    ("code", "variables"), [("CODE_4M", "VARS_4M"), ("CODE_2M", "VARS_2M"), ("CODE_4M", "gone")]
)
def test_files_of_one_build_are_not_spoken_of(folder: Path, code: str, variables: str) -> None:
    """Nor are files that do not exist, which others report."""
    assert [] == list(faults(loader(folder, code, template(folder, variables))))


@pytest.mark.parametrize(
    ("code", "variables", "wanted"),
    [("CODE_4M", "VARS_2M", "540,672"), ("CODE_2M", "VARS_4M", "131,072")],
)
def test_a_template_of_another_build_is_found(
    folder: Path, code: str, variables: str, wanted: str
) -> None:
    """Whether a descriptor knows the firmware or not; both files are named."""
    ((element, message, _),) = faults(loader(folder, code, template(folder, variables)))

    assert element == "nvram"
    assert f"'{folder}/{code}'" in message
    assert f"'{folder}/{variables}'" in message
    assert f"looks for {wanted}" in message


def test_the_template_that_fits_is_named(folder: Path) -> None:
    """Where a descriptor knows the firmware."""
    ((_, _, hint),) = faults(loader(folder, "CODE_4M", template(folder, "VARS_2M")))

    assert hint == f"use '{folder}/VARS_4M', which is made for this firmware"


def test_variables_of_an_earlier_firmware_are_found(folder: Path) -> None:
    """They are in the VM's own folder, and the template has no part in it any more."""
    (folder / "state/variables.fd").write_bytes(bytes(VARIABLES_2M))

    ((element, message, hint),) = faults(loader(folder, "CODE_4M"))

    assert element == "firmware"
    assert f"'{folder}/state/variables.fd' has 131,072 bytes" in message
    assert "move the file away" in hint


def test_a_named_file_of_variables_is_looked_at(folder: Path) -> None:
    """As one that we keep is."""
    ((_, message, _),) = faults(loader(folder, "CODE_4M", f"<nvram>{folder}/VARS_2M</nvram>"))

    assert "looks for 540,672" in message


def test_a_file_in_another_format_is_found(folder: Path) -> None:
    """QEMU would take the container for the firmware, or refuse the file."""
    nvram = f"<nvram format='raw'>{folder}/qcow2</nvram>"
    ((_, as_raw, _),) = faults(loader(folder, "CODE_4M", nvram))
    ((_, as_qcow2, _), *_) = faults(loader(folder, "CODE_4M", form="qcow2"))

    assert "is qcow2, and is used as raw" in as_raw
    assert "is raw, and is used as qcow2" in as_qcow2


@pytest.mark.parametrize("code", ["odd", "huge"])
def test_what_is_not_flash_of_a_pc_is_found(folder: Path, code: str) -> None:
    """QEMU wants whole pages, and 8 MiB at most."""
    ((element, message, _), *_) = faults(loader(folder, code))

    assert element == "loader"
    assert "flash of a PC" in message


def test_flash_of_a_virt_machine_has_one_size(folder: Path) -> None:
    """Both pieces are as large as the machine's flash."""
    context = loader(folder, "flash_64M", f"<nvram>{folder}/VARS_4M</nvram>")
    arm = replace(context, capabilities=replace_arch(context, "aarch64"), machine_type="virt")

    ((_, message, _),) = faults(arm)

    assert "VARS_4M' has 540,672 bytes" in message


def replace_arch(context: Context, arch: str) -> Capabilities:
    """Return the capabilities of *context* for guests of *arch*."""
    return msgspec.structs.replace(context.capabilities, arch=arch)
