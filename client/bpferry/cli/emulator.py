# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry-qemu-system-*: a QEMU by its name, for launchers that take one program and no words.

``bpferry-qemu-system-x86_64`` is ``bpferry exec -- qemu-system-x86_64`` under one name, such as for
the ``<emulator>`` of a libvirt domain. libvirt first asks each QEMU what it can do; such a start
has no cards, and is QEMU's at once: this module imports little before it knows.
"""

import contextlib
import os
import pwd
import signal
import sys
from collections.abc import Sequence
from typing import Final

from bpferry.launcher.becoming import NOT_FOUND, become, status_of
from bpferry.launcher.words import has_network

PREFIX: Final = "bpferry-"
FOLDERS: Final = ("/usr/bin", "/usr/local/bin", "/usr/libexec")
"""Where QEMUs are. PATH does not count: it may have our own folder, and libvirt sets another."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Become the QEMU that our own name says, and return a shell's status if that is not possible.

    *arguments* (sys.argv) begin with our own name.
    """
    name, *words = sys.argv if arguments is None else arguments
    path = find_qemu(os.path.basename(name))  # noqa: PTH119 - pathlib would cost more than the rest
    if path is None:
        sys.stderr.write(f"{name}: there is no such QEMU in {', '.join(FOLDERS)}\n")
        return NOT_FOUND
    argv = [path, *words]
    if has_network(argv):
        return _start(argv, path)
    error = become(path, argv)
    sys.stderr.write(f"{name}: cannot start '{path}': {error.strerror}\n")
    return status_of(error)


def find_qemu(name: str) -> str | None:
    """Return the path of the QEMU that *name*, which begins with ``bpferry-``, stands for."""
    own = name.removeprefix(PREFIX)
    if own == name or not own.startswith("qemu-"):
        return None
    paths = (f"{folder}/{own}" for folder in FOLDERS)
    return next((path for path in paths if os.access(path, os.X_OK)), None)


def _start(argv: Sequence[str], path: str) -> int:
    """Give its cards what they lack; whatever goes wrong, QEMU starts as it would without us."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))
    # libvirt gives each VM a cache folder of its own, where nothing would ever be found again.
    with contextlib.suppress(KeyError):
        os.environ["XDG_CACHE_HOME"] = f"{pwd.getpwuid(os.getuid()).pw_dir}/.cache"
    try:
        from bpferry.cli.exec import start  # noqa: PLC0415 - see above
        from bpferry.errors import BpferryError  # noqa: PLC0415 - as above
    except ImportError as error:
        return _give_up(argv, path, error)
    try:
        return start(argv, path)
    except (BpferryError, ImportError, OSError) as error:
        return _give_up(argv, path, error)


def _give_up(argv: Sequence[str], path: str, cause: Exception) -> int:
    """Become QEMU with the command line as it is, because of *cause*."""
    sys.stderr.write(f"bpferry: warning: the cards stay as they are: {cause}\n")
    return status_of(become(path, argv))
