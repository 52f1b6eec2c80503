# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lines for the journal: standard error with sd-daemon(3) priorities.

The logging package costs a third of the helper's start-up time, and would add nothing here.
"""

import sys
from typing import Final

ERROR: Final = 3
WARNING: Final = 4
INFO: Final = 6
"""Priorities of syslog(3); systemd strips the <n> in front of a line."""


def log(priority: int, text: str) -> None:
    """Write one line. Control characters in *text* are escaped, so that nobody forges a line."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    try:
        sys.stderr.write(f"<{priority}>{line}\n")
        sys.stderr.flush()
    except OSError:
        # The journal is full or gone. Serving goes on: there is nobody left to tell.
        return
