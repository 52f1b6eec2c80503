# SPDX-License-Identifier: LGPL-2.1-or-later
"""Device nodes that bpferry opens for QEMU."""

import errno
import fcntl
import os
import re
from pathlib import Path

import pytest

from bpferry.commandline.parts import OpenDevice, OpenVsock
from bpferry.errors import BpferryError
from bpferry.machine.device_nodes import VHOST_VSOCK_SET_GUEST_CID, acquire_cid, open_device


def test_open_for_both_ways() -> None:
    """The fd is for reading and writing, and no other program inherits it by chance."""
    with open_device(OpenDevice("x", "/dev/null", "vsock")) as fd:
        assert os.O_RDWR == fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
        assert not os.get_inheritable(fd)


def test_closed_after_use() -> None:
    """Nothing is left open."""
    with open_device(OpenDevice("x", "/dev/null", "vsock")) as fd:
        pass

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_node_that_is_not_there(tmp_path: Path) -> None:
    """What is missing is said, with what loads it."""
    path = str(tmp_path / "vhost-vsock")

    with (
        pytest.raises(BpferryError, match="No such file") as caught,
        open_device(OpenDevice("x", path, "vsock")),
    ):
        pass

    assert path in caught.value.message
    assert "modprobe" in caught.value.hint
    assert "vsock" == caught.value.element


class Kernel:
    """What the kernel does with CIDs: each is one VM's (vhost_vsock_set_cid, vsock.c)."""

    def __init__(self, *taken: int) -> None:
        self.taken = dict.fromkeys(taken, -1)

    def set_cid(self, fd: int, cid: int) -> None:
        """Give *cid* to *fd*, unless another has it."""
        if cid <= 2:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if self.taken.get(cid, fd) != fd:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        self.taken[cid] = fd


VSOCK = OpenVsock("vsock0.vhost", "vsock0.cid", "/dev/vhost-vsock", "vsock")


@pytest.mark.parametrize(("taken", "cid"), [((), 3), ((3, 4, 6), 5)])
def test_lowest_free_cid(taken: tuple[int, ...], cid: int) -> None:
    """The first number that no other VM has is taken, and kept."""
    kernel = Kernel(*taken)

    assert cid == acquire_cid(7, VSOCK, kernel.set_cid)
    assert 7 == kernel.taken[cid]
    assert cid + 1 <= acquire_cid(8, VSOCK, kernel.set_cid)


def test_cid_of_another_device() -> None:
    """The error of a device that is not vhost-vsock is passed on, with the way out."""
    with (
        open_device(OpenDevice("x", "/dev/null", "vsock")) as fd,
        pytest.raises(BpferryError, match="cannot get a CID from '/dev/vhost-vsock'") as caught,
    ):
        acquire_cid(fd, VSOCK)

    assert ("vsock", True) == (caught.value.element, "auto='no'" in caught.value.hint)


def test_no_cid_is_free() -> None:
    """The search ends."""

    def never(_fd: int, _cid: int) -> None:
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))

    with pytest.raises(BpferryError, match="all up to 65539 are taken"):
        acquire_cid(7, VSOCK, never)


def test_number_of_the_call() -> None:
    """It is the one of the kernel's header (asm-generic/ioctl.h): direction, size, type, number."""
    write, size, kind, number = 1, 8, 0xAF, 0x60

    assert write << 30 | size << 16 | kind << 8 | number == VHOST_VSOCK_SET_GUEST_CID
    header = Path("/usr/include/linux/vhost.h")
    if header.exists():
        line = re.search(r"VHOST_VSOCK_SET_GUEST_CID\s+(.*)", header.read_text(encoding="utf-8"))
        assert line is not None
        assert line[1] == "_IOW(VHOST_VIRTIO, 0x60, __u64)"
