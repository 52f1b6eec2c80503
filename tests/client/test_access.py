# SPDX-License-Identifier: LGPL-2.1-or-later
"""What QEMU would have to write to and may not is found before it starts.

Root may write anywhere, so each test looks as the user nobody, in a process of its own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bpferry.commandline.build import Built
from bpferry.commandline.parts import OpenDevice, OutputFile, Part
from bpferry.domain.forms import in_form
from bpferry.machine.access import find_unwritable
from tests.client.images import machine_of, write_qcow2
from tests.client.support import let_in

NOBODY = 65534

LOOK = """
import json, os, sys
from pathlib import Path
os.setgroups([]); os.setgid(65534); os.setuid(65534)
from tests.client.test_access import look
print(json.dumps(look(Path(sys.argv[1]), sys.argv[2:])))
"""


def look(folder: Path, disks: list[str], *parts: Part) -> list[list[str]]:
    """Return element, message and hint of what is found in a VM with *disks* and *parts*."""
    found = find_unwritable(machine_of(folder, *disks), Built((), parts, ()))
    return [[error.element or "", error.message, error.hint] for error in found]


READ_ONLY = (
    "unshare", "--mount", "sh", "-c",
    'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"', "sh",
)  # fmt: skip
"""Runs a program that finds a folder mounted read-only; that folder is the first argument."""


def look_as_nobody(folder: Path, *disks: str, prefix: tuple[str, ...] = ()) -> list[list[str]]:
    """Do the same as a user who owns nothing."""
    let_in(folder)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [*prefix, sys.executable, "-c", LOOK, str(folder), *disks]
    done = subprocess.run(argv, check=True, capture_output=True, env=environment)
    found: list[list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.privileged
@pytest.mark.parametrize("mode", [0o444, 0o644])
def test_image_that_cannot_be_written(mode: int, tmp_path: Path) -> None:
    """Readable is not enough for a disk; who owns it and its mode are told."""
    image = tmp_path / "i"
    image.touch()
    image.chmod(mode)

    ((element, message, hint),) = look_as_nobody(tmp_path, 'file = "i"\nformat = "raw"')

    assert element == "disks[0].file"
    assert message == f"cannot write to '{image}': it belongs to 'root' and has the mode {mode:04o}"
    assert in_form(hint, "toml") == (
        "ask its owner to let you write to it; or say that the disk is not written to: "
        "read-only = true"
    )


@pytest.mark.privileged
def test_own_image_is_made_writable_by_its_owner(tmp_path: Path) -> None:
    """Whose file it is says what to do; on SATA no disk is read-only."""
    image = tmp_path / "i"
    image.touch()
    image.chmod(0o444)
    os.chown(image, NOBODY, NOBODY)

    ((_, _, hint),) = look_as_nobody(tmp_path, 'file = "i"\nbus = "sata"')

    assert hint == f"run: chmod u+w '{image}'"


@pytest.mark.privileged
@pytest.mark.parametrize(
    "disk", ["read-only = true", 'device = "cdrom"', 'device = "cdrom"\nread-only = true']
)
def test_image_that_is_not_written(disk: str, tmp_path: Path) -> None:
    """Nothing is said of what is only read."""
    (tmp_path / "i").touch(0o444)

    assert [] == look_as_nobody(tmp_path, f'file = "i"\n{disk}')


@pytest.mark.privileged
def test_image_below_is_only_read(tmp_path: Path) -> None:
    """Of a chain, the topmost image is written; an image below that is missing is told."""
    write_qcow2(tmp_path / "base", backing="lost", of="raw").chmod(0o444)
    write_qcow2(tmp_path / "i", backing="base", of="qcow2").chmod(0o666)

    ((element, message, hint),) = look_as_nobody(tmp_path, 'file = "i"\nformat = "qcow2"')

    assert element == "disks[0].file"
    assert message == (
        f"cannot read '{tmp_path}/lost', the backing image of '{tmp_path}/base': "
        "No such file or directory"
    )
    assert "qemu-img rebase" in hint


@pytest.mark.privileged
def test_image_below_that_cannot_be_read(tmp_path: Path) -> None:
    """QEMU opens it too, though the document does not name it."""
    (tmp_path / "base").touch()
    (tmp_path / "base").chmod(0o600)
    write_qcow2(tmp_path / "i", backing="base", of="raw").chmod(0o666)

    ((element, message, hint),) = look_as_nobody(tmp_path, 'file = "i"\nformat = "qcow2"')

    assert element == "disks[0].file"
    assert message == (
        f"cannot read '{tmp_path}/base', the backing image of '{tmp_path}/i': Permission denied"
    )
    assert hint == "ask its owner to let you read it"


@pytest.mark.privileged
def test_image_that_cannot_be_read_is_not_told_again(tmp_path: Path) -> None:
    """That it cannot be read is among the missing files."""
    (tmp_path / "i").touch()
    (tmp_path / "i").chmod(0o600)

    assert [] == look_as_nobody(tmp_path, 'file = "i"\nformat = "raw"')


def test_chain_that_bites_its_tail(tmp_path: Path) -> None:
    """A header that names its own file leads to no endless search."""
    write_qcow2(tmp_path / "i", backing="i", of="qcow2")

    assert [] == look(tmp_path, ['file = "i"\nformat = "qcow2"'])


@pytest.mark.parametrize("name", ["nbd://host/x", "json:{}", ""])
def test_image_below_that_is_elsewhere(name: str, tmp_path: Path) -> None:
    """What is not a file of this host is not looked for."""
    write_qcow2(tmp_path / "i", backing=name, of="raw")

    assert [] == look(tmp_path, ['file = "i"\nformat = "qcow2"'])


@pytest.mark.privileged
def test_file_system_that_is_mounted_read_only(tmp_path: Path) -> None:
    """That is said, and not the mode of the file, which is not to blame."""
    (tmp_path / "i").touch()
    (tmp_path / "i").chmod(0o666)
    prefix = (*READ_ONLY, str(tmp_path))

    ((_, message, _),) = look_as_nobody(tmp_path, 'file = "i"', prefix=prefix)

    assert message == f"cannot write to '{tmp_path}/i': its file system is mounted read-only"


@pytest.mark.parametrize(
    ("path", "why"),
    [("new", ""), ("there", ""), ("no/such", "there is no folder '{}/no'"),
     ("there/below", "'{}/there' is not a directory")],
)  # fmt: skip
def test_log_that_cannot_be_written(path: str, why: str, tmp_path: Path) -> None:
    """A log need not be there, but it has to be possible to make it."""
    (tmp_path / "there").touch()
    log = OutputFile("serial0.log", str(tmp_path / path), "serials[0]")

    found = look(tmp_path, [], log)

    message = f"cannot write into '{tmp_path / path}': {why.format(tmp_path)}"
    assert [error[:2] for error in found] == ([["serials[0]", message]] if why else [])


def test_folder_that_is_there_is_not_to_be_made(tmp_path: Path) -> None:
    """Who may let the user write there is told instead."""
    (tmp_path / "there").touch()
    log = OutputFile("serial0.log", str(tmp_path / "there" / "log"), "serials[0]")

    ((_, _, hint),) = look(tmp_path, [], log)

    assert hint == "choose another path"


def test_device_node_that_is_not_there(tmp_path: Path) -> None:
    """A module of the kernel may be missing."""
    node = OpenDevice("vsock0.vhost", str(tmp_path / "vhost-vsock"), "vsock")

    ((element, message, hint),) = look(tmp_path, [], node)

    assert element == "vsock"
    assert message == f"this host has no '{tmp_path}/vhost-vsock', which the device needs"
    assert "modprobe" in hint


def test_devices_of_the_host_are_told_by_their_own_rules(tmp_path: Path) -> None:
    """What is in the way of one is said once, with the rule of udev that it takes."""
    node = OpenDevice("hostdev0", str(tmp_path / "gone"), "host-devices[0]")

    assert [] == look(tmp_path, [], node)
