# SPDX-License-Identifier: LGPL-2.1-or-later
"""An fd has one owner, who closes it once."""

import os
from collections.abc import Iterator

import pytest

from bpferry_wire.fds import OwnedFd, OwnedFds


@pytest.fixture
def number() -> Iterator[int]:
    """Yield the number of an open fd, and close it if the test did not."""
    fd = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    yield fd
    if is_open(fd):
        os.close(fd)


def is_open(fd: int) -> bool:
    """Say whether *fd* is open in this process."""
    return os.path.lexists(f"/proc/self/fd/{fd}")


def test_the_end_of_a_block_closes(number: int) -> None:
    """Leaving the with block closes the fd."""
    with OwnedFd(number):
        pass

    assert not is_open(number)


def test_an_error_in_a_block_closes(number: int) -> None:
    """So does an error in it."""
    with pytest.raises(ZeroDivisionError), OwnedFd(number):
        _ = 1 / 0

    assert not is_open(number)


def test_closing_twice_closes_once(number: int) -> None:
    """The number may be somebody else's by then."""
    owned = OwnedFd(number)
    owned.close()
    again = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    owned.close()

    # The kernel gives out the lowest free number.
    assert (number, True) == (again, is_open(number))


def test_borrowing_does_not_close(number: int) -> None:
    """A borrowed number stays the owner's."""
    owned = OwnedFd(number)

    assert number == owned.borrow()
    assert is_open(number)


def test_taking_ends_ownership(number: int) -> None:
    """What was taken is not closed by the former owner."""
    with OwnedFd(number) as owned:
        owned.take()

    assert is_open(number)


@pytest.mark.parametrize("end", ["close", "take"])
@pytest.mark.parametrize("use", ["borrow", "take"])
def test_use_after_the_end_is_an_error(number: int, end: str, use: str) -> None:
    """A closed or taken owner has no number to give."""
    owned = OwnedFd(number)
    getattr(owned, end)()

    with pytest.raises(ValueError, match="closed or handed over"):
        getattr(owned, use)()


def test_several_are_closed_together() -> None:
    """All but the taken one."""
    numbers = os.pipe() + os.pipe()
    with OwnedFds(numbers) as owned:
        kept = owned[2].take()

    assert [is_open(fd) for fd in numbers] == [False, False, True, False]
    os.close(kept)


def test_several_are_taken_in_order() -> None:
    """The order is what describes them."""
    numbers = list(os.pipe())
    owned = OwnedFds(numbers)
    taken = owned.take()
    owned.close()

    assert (numbers, [True, True]) == (taken, [is_open(fd) for fd in numbers])
    for fd in numbers:
        os.close(fd)


def test_a_sequence_of_them_counts_and_iterates() -> None:
    """Their holder sees how many there are."""
    with OwnedFds(os.pipe()) as owned:
        assert (2, list(owned)) == (len(owned), [owned[0], owned[1]])
