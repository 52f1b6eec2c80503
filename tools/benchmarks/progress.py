# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bench's progress, on a terminal."""

import sys


def show_progress(what: str, done: int, of: int) -> None:
    """Show that *done* of the *of* steps of *what* are done; the last one clears the line."""
    if not sys.stderr.isatty():
        return
    end = "\r\033[K" if done == of else ""
    print(f"\r\033[K{what}: {done} of {of}{end}", end="", file=sys.stderr, flush=True)
