# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a console is shown: known before a VM starts, when nothing is relayed yet."""

from bpferry_wire.frozen import Frozen


class Streams(Frozen):
    """Where a console is shown, and what is typed at it; all fds are borrowed."""

    output: int
    keyboard: int | None
    bell: int | None = None
    """Can be read when somebody else has written a line on the terminal."""
