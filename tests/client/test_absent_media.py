# SPDX-License-Identifier: LGPL-2.1-or-later
"""Optional media that are not there when the VM starts."""

from pathlib import Path

import pytest

from bpferry.domain.document import Document, read_bytes
from bpferry.machine.absent_media import without_absent_media


def read(folder: Path, device: str, policy: str) -> Document:
    """Return a document with one drive, whose medium is ``c.iso`` in *folder*."""
    text = f"""<domain type='qemu'><name>vm</name><memory>65536</memory><os><type>hvm</type></os>
    <devices><disk type='file' device='{device}'><source file='c.iso' startupPolicy='{policy}'/>
    <target dev='sda'/></disk></devices></domain>"""
    return read_bytes(text.encode(), folder / "vm.xml")


def test_drive_is_empty_without_its_medium(tmp_path: Path) -> None:
    """The drive is there, and somebody is told."""
    document, (warning,) = without_absent_media(read(tmp_path, "cdrom", "optional"))

    assert document.machine.disks[0].file is None
    told = f"cannot read '{tmp_path}/c.iso', which is optional: the drive stays empty"
    assert warning.message.startswith(
        f"'{tmp_path}/vm.xml':2: '/domain/devices/disk/source/@file': "
    )
    assert warning.message.endswith(told)


def test_medium_that_is_there_stays(tmp_path: Path) -> None:
    """Nothing happens to it."""
    (tmp_path / "c.iso").touch()
    found = read(tmp_path, "cdrom", "optional")

    assert (found, ()) == without_absent_media(found)


@pytest.mark.parametrize(("device", "policy"), [("disk", "optional"), ("cdrom", "mandatory")])
def test_needed_medium_stays(device: str, policy: str, tmp_path: Path) -> None:
    """It is missed when the VM starts."""
    found = read(tmp_path, device, policy)

    assert (found, ()) == without_absent_media(found)
