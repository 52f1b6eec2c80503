# SPDX-License-Identifier: LGPL-2.1-or-later
"""An image that another process has locked is found before QEMU starts, as QEMU would judge it."""

import contextlib
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpferry.errors import NotReady
from bpferry.machine.image_locks import FLOCK, find_locked_images
from tests.client.images import machine_of, write_qcow2
from tests.client.support import QEMU, wait_until

PLAIN = 'file = "i"\nformat = "raw"'
READ_ONLY = f"{PLAIN}\nread-only = true"
SHARED = f"{PLAIN}\nshareable = true"
SHARED_READ_ONLY = f"{READ_ONLY}\nshareable = true"
QCOW2 = 'file = "i"\nformat = "qcow2"'
CD = f'{PLAIN}\ndevice = "cdrom"'

USES = {
    PLAIN: "",
    READ_ONLY: ",read-only=on",
    SHARED: "",
    SHARED_READ_ONLY: ",read-only=on",
    CD: ",read-only=on",
}
"""How QEMU is told the same."""


def argv_of(path: Path, disk: str, driver: str = "raw") -> list[str]:
    """Return the command line of a QEMU that uses the image *path* as *disk* says."""
    options = USES.get(disk, "")
    nodes = ["-blockdev", f"driver=file,node-name=f,filename={path}{options}"]
    if driver != "raw":
        nodes += ["-blockdev", f"driver={driver},node-name=d,file=f{options}"]
    device = "ide-cd" if disk == CD else "virtio-blk-pci"
    device += ",share-rw=on" if "shareable" in disk else ""
    return [
        QEMU, "-name", "guest=ot,,her,debug-threads=on", "-machine", "q35,accel=tcg", "-nodefaults",
        "-display", "none", "-S", *nodes,
        "-device", f"{device},drive={'f' if driver == 'raw' else 'd'}", "-monitor", "stdio",
    ]  # fmt: skip


@contextlib.contextmanager
def qemu(path: Path, disk: str, driver: str = "raw") -> Iterator[int]:
    """Run a real QEMU with the image *path* as *disk* says; yield its process id."""
    argv = argv_of(path, disk, driver)
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        try:
            assert wait_until(lambda: is_locked(path))
            yield process.pid
        finally:
            process.communicate(b"quit\n")


def is_locked(path: Path) -> bool:
    """Say whether anybody has locked any of the bytes that QEMU locks."""
    with path.open("rb") as file:
        asked = FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 100, 200, 0)
        return bool(FLOCK.unpack(fcntl.fcntl(file, fcntl.F_OFD_GETLK, asked))[0] != fcntl.F_UNLCK)


def starts(path: Path, disk: str) -> bool:
    """Say whether a real QEMU starts with the image."""
    argv = argv_of(path, disk)
    done = subprocess.run(argv, input=b"quit\n", capture_output=True, check=False)
    assert done.returncode == 0 or b"lock" in done.stderr, done.stderr
    return done.returncode == 0


def found(folder: Path, disk: str) -> list[NotReady]:
    """Return what is in the way of *disk*."""
    return list(find_locked_images(machine_of(folder, disk)))


@pytest.mark.qemu
@pytest.mark.parametrize("other", USES)
def test_as_qemu_itself_judges(other: str, tmp_path: Path) -> None:
    """For each use of a disk, whether it is in the way of each other is what QEMU says."""
    image = tmp_path / "i"
    image.write_bytes(bytes(2**20))
    with qemu(image, other):
        told = {disk: not found(tmp_path, disk) for disk in USES}
        # Asking has locked nothing: QEMU comes after it.
        assert {disk: starts(image, disk) for disk in USES} == told


@pytest.mark.qemu
def test_who_has_it_is_named(tmp_path: Path) -> None:
    """The process and its VM are told, and what to do."""
    image = write_qcow2(tmp_path / "i")
    with qemu(image, QCOW2, "qcow2") as pid:
        (error,) = found(tmp_path, QCOW2)

    assert error.element == "disks[0].file"
    assert error.message == (
        f"cannot use '{image}': it is locked now by process {pid} (qemu-system-x86, VM 'ot,her'), "
        "which does not share it"
    )
    assert error.hint == f"end process {pid}, or give this VM an image of its own"
    assert [] == found(tmp_path, QCOW2)


@pytest.mark.qemu
def test_image_below_that_somebody_writes_to(tmp_path: Path) -> None:
    """An image that only a header names is in use as well; others may read it."""
    base = write_qcow2(tmp_path / "base")
    write_qcow2(tmp_path / "i", backing="base", of="qcow2")
    with qemu(base, QCOW2, "qcow2"):
        (error,) = found(tmp_path, QCOW2)
    assert f"cannot use '{base}'" in error.message

    with qemu(base, READ_ONLY):
        assert [] == found(tmp_path, QCOW2)


def test_lock_of_another_program(tmp_path: Path) -> None:
    """A process that locks these bytes is found, also with a POSIX lock, as QEMU once used."""
    image = tmp_path / "i"
    image.write_bytes(bytes(2**20))
    script = (
        "import fcntl, sys\n"
        f"file = open({str(image)!r}, 'rb+')\n"
        "fcntl.lockf(file, fcntl.LOCK_SH, 1, 201)\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()"
    )
    argv = [sys.executable, "-c", script]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        (error,) = found(tmp_path, PLAIN)
        assert f"locked now by process {process.pid} (python" in error.message
        assert [] == found(tmp_path, READ_ONLY)
        process.communicate(b"")


def test_our_own_lock_is_one_too(tmp_path: Path) -> None:
    """A lock of an open file counts, no matter who asks."""
    image = tmp_path / "i"
    image.write_bytes(bytes(2**20))
    with image.open("rb") as file:
        lock = FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 101, 1, 0)
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, lock)

        (error,) = found(tmp_path, READ_ONLY)

    assert f"process {os.getpid()} " in error.message
    assert "which writes to it" in error.message
