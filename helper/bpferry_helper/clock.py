# SPDX-License-Identifier: LGPL-2.1-or-later
"""The clock for the age of grants: seconds since boot, which cannot be set."""

import time


def now_s() -> int:
    """Return seconds since boot, including time in suspend."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME))
