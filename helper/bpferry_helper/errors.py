# SPDX-License-Identifier: LGPL-2.1-or-later
"""Errors that end the helper, and errors that end one request.

HelperError             root of this package
+-- StartupError        this process must not serve; main() prints it and exits with status 1
+-- PolicyError         the policy file cannot be used; has file and line
+-- RequestError        one request is refused or failed; has the code and the hint for the client
"""

import errno
from typing import Final

from bpferry_wire.errors import Code
from bpferry_wire.messages import ErrorReply

EXIT_CRASHED: Final = 70
"""EX_SOFTWARE of sysexits.h: the helper had started. Status 1 would count as a start that failed
(RestartPreventExitStatus= in the units)."""

NO_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Out of fds or memory: a later try may work, whatever was tried."""


class HelperError(Exception):
    """Root of all errors that the helper raises on purpose."""


class StartupError(HelperError):
    """This process must not serve."""


class PolicyError(HelperError):
    """The policy file cannot be used. Nothing is granted until it is corrected.

    Attributes:
        path: the file.
        line: the line of the mistake, from 1; 0 if it is about the whole file.
    """

    def __init__(self, path: str, line: int, message: str) -> None:
        where = f"{path}:{line}" if line else path
        super().__init__(f"{where}: {message}")
        self.path = path
        self.line = line


class RequestError(HelperError):
    """One request is refused or failed.

    Attributes:
        code: sent to the client.
        hint: what the user or the administrator can do about it.
    """

    def __init__(self, code: Code, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint

    def reply(self) -> ErrorReply:
        """Return this error as a reply."""
        return ErrorReply(self.code, str(self), self.hint)
