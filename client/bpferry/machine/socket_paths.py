# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sockets in a VM's runtime folder whose paths are too long.

Those at which a user can connect are endpoints, and looked at with these (``ports``). To bind the
others by a shorter path, such as below /proc/self/fd, would help nobody: the programs that connect
to those of the first kind, such as qmp-shell, would have to do the same.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from bpferry.commandline.build import Built
from bpferry.commandline.parts import Companion, Endpoint, Link, OwnSocket
from bpferry.errors import BpferryError, NotReady
from bpferry.machine.control_socket import SOCKET_NAME
from bpferry.machine.listening import check_path


def find_long_paths(runtime: str, built: Built) -> Iterator[BpferryError]:
    """Yield the first socket besides the endpoints for which *runtime* is too long a path."""
    told = {Path(one.path) for one in built.of(Endpoint) if one.kind == "unix"}
    if any(_is_long(path) for path in told if path.is_relative_to(runtime)):
        return
    others = {
        Path(runtime, SOCKET_NAME),
        *(Path(one.path) for one in built.of(OwnSocket)),
        *(Path(one.path) for one in built.of(Link) if one.path),
        *(Path(one.socket) for one in built.of(Companion) if one.socket),
    }
    for path in sorted(others - told):
        try:
            check_path(path)
        except BpferryError as error:
            yield NotReady(error.message, error.hint)
            return


def _is_long(path: Path) -> bool:
    with contextlib.suppress(BpferryError):
        check_path(path)
        return False
    return True
