# SPDX-License-Identifier: LGPL-2.1-or-later
"""How far the bench is, for whoever looks at its terminal."""

import sys


def show_progress(what: str, done: int, of: int) -> None:
    """Say that *done* of the *of* steps of *what* are done; the line goes with the last."""
    if not sys.stderr.isatty():
        return
    end = "\r\033[K" if done == of else ""
    print(f"\r\033[K{what}: {done} of {of}{end}", end="", file=sys.stderr, flush=True)
