# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files that the guest writes into, such as the log of a serial port: opened here for QEMU."""

import contextlib
import os
from collections.abc import Iterator
from typing import Final

from bpferry.commandline.parts import OutputFile
from bpferry.errors import BpferryError

FILE_MODE: Final = 0o600
"""What a guest writes is for the user who runs it."""

OPEN_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK
"""For writing only: QEMU finds an inherited fd by its access mode (monitor/fds.c). Non-blocking,
since opening a pipe that nobody reads would wait for a reader."""


@contextlib.contextmanager
def open_output(output: OutputFile) -> Iterator[int]:
    """Open the file of *output* and yield its fd, which is closed with the block.

    Raises:
        BpferryError: it cannot be opened.
    """
    how = os.O_APPEND if output.append else os.O_TRUNC
    try:
        fd = os.open(output.path, OPEN_FLAGS | how, FILE_MODE)
    except OSError as error:
        raise BpferryError(
            f"cannot write into '{output.path}': {error.strerror}",
            "create its folder, or choose a path that you may write to",
        ) from error
    try:
        os.set_blocking(fd, True)
        yield fd
    finally:
        os.close(fd)
