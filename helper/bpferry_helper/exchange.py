# SPDX-License-Identifier: LGPL-2.1-or-later
"""The interface between the loop and the service of a role.

    the loop  -- Asked -->   Service.prepare    runs in the loop: decides quickly, or refuses
    a worker  <-- Work ---                      the slow part, unless the answer is known already
    the loop  <-- Answer -                      a reply and its fds, or a RequestError

Neither side imports the other.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from bpferry_helper.identity import Peer
from bpferry_wire.fds import OwnedFds
from bpferry_wire.messages import ErrorReply, Reply, Request


class Asked(NamedTuple):
    """One request, and who made it."""

    request: Request
    peer: Peer


class Answer(NamedTuple):
    """A reply and its fds, which the holder of this owns."""

    reply: Reply | ErrorReply
    fds: OwnedFds = OwnedFds()
    """Most answers have none and share this empty owner, which has nothing to close."""
    line: str = ""
    """For the journal, when the client has its answer."""


Work = Callable[[], Answer]
"""Runs in a worker. Raises RequestError if the request is refused or fails."""


class Paced(NamedTuple):
    """Work that waits until all users together are below *pace*; those who wait take turns."""

    run: Work
    pace: tuple[int, int]
    """So many at once, then so many a second; see ``rate``."""
    quick: Callable[[], Answer | None] | None = None
    """Tried by the loop if nobody waits: returns the same answer without the work, or None."""


class Accounts(Protocol):
    """Knows accounts, by the policy and the host's names: policy/current, or a fake in a test."""

    wake_fd: int
    """Readable when a uid has been looked up."""

    def whose(self, uid: int) -> int | None:
        """Return the account of *uid*, None while it is being looked up, or raise IdentityError."""

    def name(self, uid: int) -> str:
        """Return the name of the account *uid*, or "" if it is not known."""

    def groups(self) -> frozenset[int]:
        """Return the gids that can matter to a decision."""

    def take_wake_up(self) -> None:
        """Reset ``wake_fd``."""

    def idle_exit_s(self) -> float:
        """Return after how many idle seconds to exit."""


class Service(Protocol):
    """What a role does with a request."""

    may_be_killed: bool
    """Whether it helps to kill the helper if a job takes far too long."""
    closing_waits: bool
    """Whether the kernel may make the last holder of what was granted wait for its end."""

    def prepare(self, asked: Asked) -> Work | Paced | Answer:
        """Decide quickly, or raise RequestError; return what a worker is to do, or the answer."""

    def work_ahead(self) -> float | None:
        """Do some work that somebody may ask for later; in a worker that has nothing to do.

        Return after how many seconds to do more, or None if not before a paced request.
        """

    def is_needed(self) -> bool:
        """Return whether the helper has to keep running although it is idle."""
