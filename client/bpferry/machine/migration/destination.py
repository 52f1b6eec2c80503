# SPDX-License-Identifier: LGPL-2.1-or-later
"""The host that a VM moves to, and the ssh that reaches it: the user's own, with its own settings.

What is wanted of ssh is only that it passes bytes on in both directions, without a terminal.
"""

import re
import shlex
from dataclasses import dataclass
from typing import Final

from bpferry.errors import BadInput

URL: Final = re.compile(
    r"ssh://(?:(?P<user>[^@:/?#\s]+)@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\]|[^@:/?#\s\[\]]+)"
    r"(?::(?P<port>[0-9]{1,5}))?/?"
)

MAX_PORT: Final = 65_535

EXAMPLE: Final = "give it as ssh://HOST, ssh://USER@HOST or ssh://USER@HOST:PORT"

RECEIVE: Final = ("bpferry", "receive")
"""What is started there with the name of the VM, from the PATH of commands of ssh; a shell reads
it."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A host, and how ssh logs in there."""

    host: str
    user: str = ""
    port: int | None = None

    @property
    def who(self) -> str:
        """The host with the user, as ssh takes them."""
        return f"{self.user}@{self.host}" if self.user else self.host

    @property
    def ssh(self) -> tuple[str, ...]:
        """What logs in there, without a command."""
        port = () if self.port is None else ("-p", str(self.port))
        return ("ssh", *port, self.who)

    def argv(self, vm_name: str) -> tuple[str, ...]:
        """Return what is started here to move the VM called *vm_name*."""
        before, who = self.ssh[:-1], self.ssh[-1]
        # No terminal there: it would change bytes of the stream.
        return (*before, "-T", who, *RECEIVE, shlex.quote(vm_name))


def parse_destination(text: str) -> Destination:
    """Return the destination that *text* names.

    Raises:
        BadInput: it names none.
    """
    found = URL.fullmatch(text)
    if found is None or not text.isprintable():
        raise BadInput(f"'{text}' is not the address of a host", EXAMPLE)
    host, user, port = found["host"].strip("[]"), found["user"] or "", found["port"]
    # ssh would take them for options of its own.
    if host.startswith("-") or user.startswith("-"):
        raise BadInput(f"'{text}' is not the address of a host: a name begins with '-'", EXAMPLE)
    if port is not None and not 1 <= int(port) <= MAX_PORT:
        raise BadInput(f"'{text}' has the port {port}, and ports are 1 to {MAX_PORT}", EXAMPLE)
    return Destination(host, user, None if port is None else int(port))
