# SPDX-License-Identifier: LGPL-2.1-or-later
"""Run other programs, and say well what went wrong with them."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

ERROR_LINES = 5
"""How many of a failed program's last lines an error shows."""

ENDS_WITHIN_S = 5.0
"""What a program gets to end by itself, before it is killed."""


class BenchError(Exception):
    """Something could not be measured; *hint* is what a person can do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = str(self.args[0])
        return f"{message}\nhint: {self.hint}" if self.hint else message


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


def last_lines(text: str) -> str:
    """Return the last lines of *text* as one."""
    return "; ".join(text.strip().splitlines()[-ERROR_LINES:])


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
