# SPDX-License-Identifier: LGPL-2.1-or-later
"""The clock that grants are dated by: seconds since the host was started, which nobody can set."""

import time


def now_s() -> int:
    """Return seconds since the host was started, the time that it slept included."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME))
