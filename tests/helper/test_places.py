# SPDX-License-Identifier: LGPL-2.1-or-later
"""Places under a quota: what is held and what is being made count together, each once."""

import threading

import pytest

from bpferry_helper.errors import RequestError
from bpferry_helper.quota import Places
from bpferry_wire.errors import Code

ALICE, BOB = 1001, 1002


class Things:
    """Things that are held, and the kernel's view of them."""

    def __init__(self) -> None:
        self.owners: list[int] = []
        self.alive: list[int] = []
        self.recounted = 0
        self.places = Places("sets", "stop a VM", lambda: self.owners, self._recount)

    def _recount(self) -> None:
        self.recounted += 1
        self.owners = list(self.alive)

    def make(self, uid: int, per_user: int = 2, in_total: int = 3) -> None:
        """Make one more thing of *uid*."""
        with self.places.reserve(uid, per_user, in_total) as place, self.places.changed:
            self.owners.append(uid)
            self.alive.append(uid)
            self.places.give_up(place)


@pytest.fixture
def things() -> Things:
    """Return no things."""
    return Things()


def test_the_user_s_bound_is_exact(things: Things) -> None:
    """Message and hint say what is counted and what can be done."""
    things.make(ALICE)
    things.make(ALICE)
    with pytest.raises(RequestError) as caught:
        things.make(ALICE)

    assert (Code.QUOTA, "stop a VM") == (caught.value.code, caught.value.hint)
    assert "uid 1001 holds 2 sets, as many as policy allows (2)" == str(caught.value)


def test_the_bound_of_all_is_exact(things: Things) -> None:
    """No matter who asks."""
    for uid in (ALICE, ALICE, BOB):
        things.make(uid)
    with pytest.raises(RequestError, match="all users together hold 3 sets") as caught:
        things.make(BOB)

    assert "ask the administrator to raise [quota] sets-in-total" == caught.value.hint


def test_what_is_being_made_counts(things: Things) -> None:
    """For its user and for all; no longer when that failed."""
    with things.places.reserve(ALICE, 1, 1):
        for uid in (ALICE, BOB):
            with pytest.raises(RequestError):
                things.make(uid, 1, 1)
    things.make(ALICE, 1, 1)

    assert [ALICE] == things.owners


def test_the_kernel_is_asked_only_at_the_limit(things: Things) -> None:
    """And what it says decides."""
    things.make(ALICE)
    things.make(ALICE)
    before = things.recounted
    things.alive.pop()
    things.make(ALICE)

    assert (0, 1) == (before, things.recounted)


def test_waiting_ends_with_the_last_place(things: Things) -> None:
    """However it is given up."""
    free = threading.Event()

    def wait() -> None:
        with things.places.changed:
            things.places.wait_until_free(20)
        free.set()

    with things.places.reserve(ALICE, 1, 1):
        thread = threading.Thread(target=wait)
        thread.start()
        during = free.wait(0.1)
    thread.join(20)

    assert (False, True) == (during, free.is_set())


def test_waiting_has_an_end(things: Things) -> None:
    """A place that is never given up keeps nobody for ever."""
    with things.places.reserve(ALICE, 1, 1), things.places.changed:
        things.places.wait_until_free(0.01)
