# SPDX-License-Identifier: LGPL-2.1-or-later
"""Import msgspec, which must not be interrupted, and which should not bring what nobody needs."""

import contextlib
import importlib
import signal
import sys
from collections.abc import Iterator
from typing import Final

NEEDLESS: Final = "typing_extensions"
"""msgspec takes from it what Python's own typing has since 3.11, and looks there if it is not
installed. To import it, and inspect with it, takes a twentieth of the time that a start takes."""


def import_msgspec() -> None:
    """Import it undivided by signals.

    It swallows an exception that is raised meanwhile, such as that of Ctrl-C, remains incomplete,
    and crashes the interpreter when it is used (SIGSEGV; seen with 0.22.0).
    """
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        with _as_if_absent(NEEDLESS):
            importlib.import_module("msgspec")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _as_if_absent(name: str) -> Iterator[None]:
    """Let nobody import the module *name* in the block, unless it has been imported before.

    That is what None means in sys.modules (Python's reference, 5.3.1).
    """
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # typeshed does not know of it
    try:
        yield
    finally:
        del sys.modules[name]
