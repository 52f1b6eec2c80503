# SPDX-License-Identifier: LGPL-2.1-or-later
"""A user who waits at a terminal for the answer of a helper, and is told so."""

from bpferry.cli import output
from bpferry.network.connection import Connection


def tell_of_slow_helpers() -> None:
    """Have this process say so from now on; for commands that say nothing else meanwhile."""
    reporter = output.StderrReporter()
    Connection.slow = staticmethod(
        lambda path: reporter.progress(f"waiting for the helper at '{path}'")
    )
