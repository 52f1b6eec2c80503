# SPDX-License-Identifier: LGPL-2.1-or-later
"""Run other programs, and report what went wrong with them."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from failure import ToolError, last_lines

ENDS_WITHIN_S = 5.0
"""How long a program may take to exit before it is killed."""


class BenchError(ToolError):
    """Something could not be measured."""


def run(argv: Sequence[str], hint: str = "") -> None:
    """Run *argv* to its end.

    Raises:
        BenchError: It could not be started, or did not end with status 0.
    """
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, process_group=0)
    except OSError as error:
        raise BenchError(f"cannot start '{argv[0]}': {error.strerror}", hint) from error
    if done.returncode != 0:
        shown = " ".join(argv)
        words = last_lines(done.stderr)
        raise BenchError(f"'{shown}' ended with status {done.returncode}: {words}", hint)


@contextmanager
def ending(process: subprocess.Popen[str]) -> Iterator[None]:
    """End *process* when the block is left, however it is left."""
    with process:
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
