# SPDX-License-Identifier: LGPL-2.1-or-later
"""The error with which a tool gives up."""

ERROR_LINES = 5
"""How many of a failed program's last lines an error shows."""


class ToolError(Exception):
    """Something could not be done; *hint* is what a person can do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = str(self.args[0])
        return f"{message}\nhint: {self.hint}" if self.hint else message


def last_lines(text: str) -> str:
    """Return the last lines of *text* as one."""
    return "; ".join(text.strip().splitlines()[-ERROR_LINES:])
