# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry attach-disk and detach-disk, with a real QEMU."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from bpferry.cli.main import main
from tests import requires
from tests.client.hot_plug.vm import NATIVE, answer, qmp, running
from tests.client.test_access import READ_ONLY
from tests.support.census import fd_targets

pytestmark = pytest.mark.qemu


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Return a raw image of one MiB."""
    path = tmp_path / "data.img"
    path.write_bytes(bytes(1 << 20))
    return path


def disks(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return the disks that the status of the VM shows."""
    found: list[dict[str, Any]] = answer(capsys, "status", "t")["disks"]
    return found


def nodes(folder: Path) -> list[str]:
    """Return the names of the block nodes that QEMU has."""
    return sorted(node["node-name"] for node in qmp(folder, "query-named-block-nodes"))


def test_a_disk_is_plugged_in_and_taken_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], image: Path
) -> None:
    """Its nodes are gone with it, and its image can be used by others."""
    with running(tmp_path, arguments=NATIVE, disk=False) as run:
        assert main(("attach-disk", "t", str(image))) == 0
        told = capsys.readouterr().out
        assert told.startswith(f"'t' has the disk vda on virtio: {image}\n")
        assert f"to keep it, add it to '{tmp_path}/vm.toml'" in told
        (disk,) = disks(capsys)
        assert (disk["target"], disk["file"], disk["plugged"]) == ("vda", str(image), True)
        assert nodes(tmp_path) == ["vda-storage"]
        assert str(image) in fd_targets(run.qemu())
        assert main(("status", "t")) == 0
        assert f"disk: {image}; plugged in, until the VM ends" in capsys.readouterr().out
        assert main(("detach-disk", "t", "vda")) == 0
        assert capsys.readouterr().out == "the disk vda is out of 't'\n"
        assert disks(capsys) == []
        assert nodes(tmp_path) == []
        assert str(image) not in fd_targets(run.qemu())


def test_a_qcow2_disk_needs_its_format(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], image: Path
) -> None:
    """Used as raw, the guest would see the container; nobody guesses what is meant."""
    requires.program("qemu-img")
    path = tmp_path / "data.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "1M"], check=True)
    with running(tmp_path):
        told = answer(capsys, "attach-disk", "t", str(path), status=2)["error"]
        assert "is qcow2, and no format is given" in told["message"]
        assert "--format qcow2" in told["hint"]
        told = answer(capsys, "attach-disk", "t", str(image), "--format", "qcow2", status=1)
        assert "it has no qcow2 header" in told["error"]["message"]
        words = ("attach-disk", "t", str(path), "--format", "qcow2", "--read-only")
        assert answer(capsys, *words)["target"] == "vdb"
        assert "vdb-format" in nodes(tmp_path)


@pytest.mark.parametrize(("bus", "target"), [("usb", "sda"), ("scsi", "sda")])
def test_a_disk_can_be_on_another_bus(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], image: Path, bus: str, target: str
) -> None:
    """A SCSI disk needs a controller in the description."""
    controller = '[[controllers]]\ntype = "scsi"\nmodel = "virtio-scsi"\n'
    with running(tmp_path, controller):
        told = answer(capsys, "attach-disk", "t", str(image), "--bus", bus)
        assert (told["target"], told["bus"]) == (target, bus)


def test_without_a_scsi_controller_the_reason_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], image: Path
) -> None:
    """With status 3: the VM would have to be another one."""
    with running(tmp_path):
        told = answer(capsys, "attach-disk", "t", str(image), "--bus", "scsi", status=3)["error"]
        assert "the VM has no scsi controller with room for another disk" in told["message"]


def test_what_cannot_be_plugged_in_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], image: Path
) -> None:
    """A file that is not there, one that this VM has already, one that is locked."""
    with running(tmp_path):
        before = nodes(tmp_path)
        told = answer(capsys, "attach-disk", "t", str(tmp_path / "nosuch"), status=1)["error"]
        assert "nosuch" in told["message"]
        told = answer(capsys, "attach-disk", "t", str(tmp_path / "disk.img"), status=1)["error"]
        assert "twice: two disks of this VM write to it" in told["message"]
        assert nodes(tmp_path) == before
        assert answer(capsys, "attach-disk", "t", str(image))["target"] == "vdb"


@pytest.mark.privileged
def test_an_image_that_cannot_be_written_is_told_before_qemu_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the reason and what to do, as `bpferry run` tells it; it can be read."""
    image = tmp_path / "ro" / "data.img"
    image.parent.mkdir()
    image.write_bytes(bytes(1 << 20))
    with running(tmp_path, prefix=(*READ_ONLY, str(image.parent))):
        told = answer(capsys, "attach-disk", "t", str(image), status=1)["error"]
        assert told["message"] == (
            f"'new disk': cannot write to '{image}': its file system is mounted read-only"
        )
        assert told["hint"].endswith("or say that the disk is not written to: --read-only")
        assert answer(capsys, "attach-disk", "t", str(image), "--read-only")["target"] == "vdb"


def test_a_disk_that_the_guest_keeps_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is in the status until the guest lets go, also a disk of the description."""
    with running(tmp_path) as run:
        told = answer(capsys, "detach-disk", "t", "vda", "--timeout", "1", status=1)["error"]
        assert "has not let go of 'vda' within 1 s" in told["message"]
        assert [disk["target"] for disk in disks(capsys)] == ["vda"]
        told = answer(capsys, "detach-disk", "t", "vdz", status=2)["error"]
        assert (told["message"], told["hint"]) == ("'t' has no disk 'vdz'", "it has vda")
        assert main(("reset", "t")) == 0
        assert run.says("'vda' is out of the VM")
        assert disks(capsys) == []
        assert nodes(tmp_path) == []


def test_a_hundred_times_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], image: Path
) -> None:
    """No fd and no node of QEMU more than before; the name is free again each time."""
    with running(tmp_path, arguments=NATIVE, disk=False) as run:
        before = fd_targets(run.qemu())
        for _ in range(100):
            assert answer(capsys, "attach-disk", "t", str(image))["target"] == "vda"
            assert answer(capsys, "detach-disk", "t", "vda")["target"] == "vda"
        assert fd_targets(run.qemu()) == before
        assert nodes(tmp_path) == []
