# SPDX-License-Identifier: LGPL-2.1-or-later
"""Firmware that QEMU could not use as the description says is found before it starts."""

from pathlib import Path

import pytest

from bpferry.machine.uefi_access import find_unusable_firmware
from tests.client.commandline.system_parts import context_of
from tests.client.test_paths import check
from tests.client.test_uefi_files import descriptor

PFLASH = "<loader type='pflash'>{open}/code</loader>"
READ_ONLY = "<loader type='pflash' readonly='yes'>{open}/code</loader>"
NEW = READ_ONLY + "<nvram>{open}/new</nvram>"
OWN = READ_ONLY + "<nvram template='{open}/code'>/usr/new</nvram>"
CLOSED = READ_ONLY + "<nvram>/etc/hostname</nvram>"
ROM = "<loader type='rom'>/usr/bin/env</loader>"


@pytest.mark.qemu
@pytest.mark.privileged
@pytest.mark.parametrize(
    ("os_part", "message", "fix"),
    [
        (PFLASH, "QEMU would write to the firmware '{}/code', and cannot: ", "readonly='yes'"),
        (NEW, "there is no '{}/new', and no template for the variables of '{}/code'",
         "name the template of nvram, or a file that is there already"),
        (OWN, "cannot make '/usr/new': you may not create files in '/usr'",
         "ask the owner of '/usr' to let you write there"),
        (CLOSED, "cannot write to the file of variables '/etc/hostname': it belongs to 'root'",
         "make it writable, or name another file"),
        (ROM, "bytes: QEMU loads a BIOS of whole 65,536 bytes only",
         "firmware for flash, such as OVMF_CODE_4M.fd, needs type='pflash' readonly='yes'"),
    ],
)  # fmt: skip
def test_firmware_that_qemu_cannot_use_so(
    os_part: str, message: str, fix: str, tmp_path: Path
) -> None:
    """Each is told with its place, and what to write."""
    done = check(tmp_path, os_part)

    assert done.returncode == 1
    assert message.format(*[tmp_path / "open"] * 2) in done.stdout
    assert fix in done.stdout
    assert f"error: '{tmp_path}/vm.xml':3: '/domain/os/" in done.stdout


def test_firmware_of_a_descriptor_for_flash_is_no_bios(tmp_path: Path) -> None:
    """Its size may be one that a BIOS can have."""
    code = tmp_path / "CODE_4M"
    code.write_bytes(bytes(2**16))
    text = f"<loader type='rom'>{code}</loader>"

    (fault,) = find_unusable_firmware(context_of(os=text, descriptors=(descriptor(tmp_path),)))

    assert fault.message == f"'{code}' is firmware for flash, which cannot be loaded as a BIOS"
    assert [] == list(find_unusable_firmware(context_of(os=text)))
