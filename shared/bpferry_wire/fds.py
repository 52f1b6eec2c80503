# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who owns a file descriptor.

An ``OwnedFd`` closes its fd, once; a ``BorrowedFd`` is a number that somebody else closes.
``take()`` is the only way to give up ownership. A closed or taken owner has no number left: the
kernel may have reused that number already, so a late use has to fail here and not hit another fd.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import NewType, Self, final

BorrowedFd = NewType("BorrowedFd", int)
"""An open fd that the holder must not close."""


class Closing:
    """Has a ``close()`` that may be called twice; a ``with`` block calls it at its end."""

    __slots__ = ()

    def close(self) -> None:
        """Release everything."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()


@final
class OwnedFd(Closing):
    """One open file descriptor, closed by ``close()`` or at the end of a ``with`` block."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        """Take ownership of *fd*."""
        self._fd = fd

    def borrow(self) -> BorrowedFd:
        """Return the number. Raises ValueError if it was closed or taken."""
        if self._fd < 0:
            raise ValueError("this file descriptor was closed or handed over already")
        return BorrowedFd(self._fd)

    def take(self) -> int:
        """Hand over the number; from now on the caller has to close it."""
        fd = self.borrow()
        self._fd = -1
        return fd

    @property
    def is_open(self) -> bool:
        """Whether it was neither closed nor taken."""
        return self._fd >= 0

    def close(self) -> None:
        """Close the fd. Closing twice does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __repr__(self) -> str:
        return f"OwnedFd({self._fd})"


@final
class OwnedFds(Closing, Sequence[OwnedFd]):
    """Several owned fds that are closed together, in order; what was taken stays open."""

    __slots__ = ("_fds",)

    def __init__(self, fds: Iterable[int] = ()) -> None:
        """Take ownership of every number in *fds*."""
        self._fds = [OwnedFd(fd) for fd in fds]

    def add(self, fd: int) -> None:
        """Take ownership of one more."""
        self._fds.append(OwnedFd(fd))

    def borrow(self) -> list[BorrowedFd]:
        """Return all numbers, in order."""
        return [fd.borrow() for fd in self._fds]

    def take(self) -> list[int]:
        """Hand over all numbers, in order."""
        return [fd.take() for fd in self._fds]

    def close(self) -> None:
        """Close every fd that is still owned."""
        for fd in self._fds:
            fd.close()

    def __len__(self) -> int:
        return len(self._fds)

    def __getitem__(self, index: int) -> OwnedFd:  # type: ignore[override] # no slices wanted
        return self._fds[index]

    def __iter__(self) -> Iterator[OwnedFd]:
        return iter(self._fds)

    def __repr__(self) -> str:
        return f"OwnedFds({self._fds!r})"
