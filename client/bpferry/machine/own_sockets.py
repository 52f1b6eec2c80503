# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Unix sockets that QEMU itself makes: their folder is made before, their files removed after.

QEMU removes whatever is at the path of such a socket before it listens (ui/vnc.c,
util/qemu-sockets.c), even a file that is not a socket, and leaves its own behind when it ends.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from bpferry.commandline.parts import OwnSocket
from bpferry.errors import BpferryError
from bpferry.machine.listening import check_path, make_folder, remove_stale


@contextlib.contextmanager
def keep_clear(own: OwnSocket) -> Iterator[None]:
    """Make the folder of the socket *own*; after the block, remove what QEMU left there.

    Raises:
        BpferryError: something is at its path that is not a socket without a listener.
    """
    path = Path(own.path)
    check_path(path)
    make_folder(path.parent)
    remove_stale(path)
    try:
        yield
    finally:
        with contextlib.suppress(BpferryError):
            remove_stale(path)
