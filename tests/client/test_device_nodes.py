# SPDX-License-Identifier: LGPL-2.1-or-later
"""Device nodes that bpferry opens for QEMU."""

import fcntl
import os
from pathlib import Path

import pytest

from bpferry.commandline.parts import OpenDevice
from bpferry.errors import BpferryError
from bpferry.machine.device_nodes import open_device


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
