# SPDX-License-Identifier: LGPL-2.1-or-later
"""What ends the helper, and what ends one request.

HelperError             root of this package
+-- StartupError        this process must not serve; main() prints it and exits with status 1
+-- PolicyError         the policy file cannot be used; carries file and line
+-- RequestError        one request cannot be fulfilled; carries the code and hint to answer with
"""

import errno
from typing import Final

from bpferry_wire.errors import Code
from bpferry_wire.messages import ErrorReply

NO_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""For want of fds or memory: says something about this moment, and nothing about what was tried."""


class HelperError(Exception):
    """Root of everything that the helper raises on purpose."""


class StartupError(HelperError):
    """This process must not serve."""


class PolicyError(HelperError):
    """The policy file cannot be used. Nothing is granted until it can.

    Attributes:
        path: the file.
        line: the line where the mistake is, from 1; 0 if it is the file as a whole.
    """

    def __init__(self, path: str, line: int, message: str) -> None:
        where = f"{path}:{line}" if line else path
        super().__init__(f"{where}: {message}")
        self.path = path
        self.line = line


class RequestError(HelperError):
    """One request cannot be fulfilled.

    Attributes:
        code: what the client is told.
        hint: what the user or the administrator can do about it.
    """

    def __init__(self, code: Code, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint

    def reply(self) -> ErrorReply:
        """Return this error as the wire carries it."""
        return ErrorReply(self.code, str(self), self.hint)
