# SPDX-License-Identifier: LGPL-2.1-or-later
"""Import msgspec, which must not be interrupted."""

import importlib
import signal


def import_msgspec() -> None:
    """Import it undivided by signals.

    It swallows an exception that is raised meanwhile, such as that of Ctrl-C, remains incomplete,
    and crashes the interpreter when it is used (SIGSEGV; seen with 0.22.0).
    """
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        importlib.import_module("msgspec")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
