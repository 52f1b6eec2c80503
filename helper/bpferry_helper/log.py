# SPDX-License-Identifier: LGPL-2.1-or-later
"""Log lines on standard error: for the journal with sd-daemon(3) priorities, for people with words.

The logging package would take a third of the helper's start-up time and add nothing.
"""

import os
from contextlib import suppress
from typing import Final

ERROR: Final = 3
WARNING: Final = 4
INFO: Final = 6
"""Priorities of syslog(3); systemd strips the <n> in front of a line."""

WORDS: Final = {ERROR: "error: ", WARNING: "warning: ", INFO: ""}
"""How a line begins for a person, by priority."""

STDERR: Final = 2


LINES_AT_ONCE: Final = 10
LINES_PER_SECOND: Final = 1
"""For events that clients can cause before their account is known."""

MAX_LINE_CHARS: Final = 2000
"""Of one line. The longest real one, with a path of 255 bytes, has 600."""


def never_wait() -> None:
    """From now on, drop lines rather than wait for a journal that does not read them.

    Standard error is a socket to the journal that no other process shares.
    """
    os.set_blocking(STDERR, False)


def log(priority: int, text: str) -> None:
    """Write one line. Control characters in *text* are escaped, so that nobody can forge a line."""
    line = text[:MAX_LINE_CHARS]
    if not line.isprintable():
        line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
    start = f"<{priority}>" if _is_journal() else f"bpferry-helper: {WORDS[priority]}"
    # The journal may be full, stuck or gone. There is nobody left to tell; go on serving.
    with suppress(OSError):
        os.write(STDERR, f"{start}{line[:MAX_LINE_CHARS]}\n".encode())


def _is_journal() -> bool:
    """Return whether systemd connected standard error to the journal (systemd.exec(5))."""
    try:
        found = os.fstat(STDERR)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
