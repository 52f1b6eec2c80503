# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may have queues of a tap: its holder, and nobody else (T1, T3, T8)."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bpferry_wire.fds import OwnedFds
from bpferry_wire.messages import ListReply, ListTaps, Quota, QuotaReply
from tests import requires
from tests.helper.tap.attackers import STRANGER
from tests.support.census import wait_until
from tests.support.people import ALICE, BOB, Person, ask_once
from tests.support.tap_process import TapProcess, created, granted, running_tap_helper, tap_on
from tests.support.tuns import (
    FLAGS,
    IFF_ATTACH_QUEUE,
    IFF_DETACH_QUEUE,
    MULTI,
    TUNSETOWNER,
    TUNSETPERSIST,
    as_person,
    attach_error,
    open_queue,
    set_queue,
)

pytestmark = [pytest.mark.privileged, pytest.mark.usefixtures("nothing_left")]


@contextmanager
def ownerless(helper: TapProcess) -> Iterator[None]:
    """Have the tap "loose" on the host, which belongs to nobody."""
    queue = helper.inside_network(lambda: open_queue("loose", MULTI))
    try:
        yield
    finally:
        os.close(queue)


# -- T1


@pytest.mark.parametrize(
    ("queues", "flags", "expected"),
    [
        (1, FLAGS, errno.EPERM),
        (4, MULTI, errno.EPERM),
        # The kernel looks at the kind before it looks at the owner.
        (1, MULTI, errno.EINVAL),
        (4, FLAGS, errno.EINVAL),
    ],
)
@pytest.mark.parametrize("person", [STRANGER, BOB, ALICE], ids=["stranger", "bob", "alice"])
def test_nobody_can_join_a_granted_tap(
    tap_helper: TapProcess, person: Person, queues: int, flags: int, expected: int
) -> None:
    """Not even the user who asked: it is the helper's user's, and the fds are all there is."""
    name, fds = granted(tap_helper, tap_on(queues=queues))
    with fds:
        error = as_person(tap_helper, person, lambda: attach_error(name, flags))

    assert expected == error


def test_nobody_can_join_a_spare(tap_helper: TapProcess) -> None:
    """A tap that waits on the host is as closed as one that was given."""
    granted(tap_helper, tap_on(queues=2))[1].close()
    assert wait_until(lambda: any(tap.alias == "bpferry spare" for tap in tap_helper.taps()))
    spares = [tap.name for tap in tap_helper.taps()]
    errors = as_person(tap_helper, STRANGER, lambda: [attach_error(name) for name in spares])

    assert [errno.EPERM] * len(spares) == errors


def test_a_stranger_can_join_a_tap_without_an_owner(tap_helper: TapProcess) -> None:
    """The control: what a tap would be without the owner that it is given first."""
    with ownerless(tap_helper):
        error = as_person(tap_helper, STRANGER, lambda: attach_error("loose"))
    requires.joinable_taps(joined=error == 0)

    assert error == 0


@pytest.mark.parametrize(
    ("person", "error"), [(ALICE, 0), (BOB, errno.EPERM), (STRANGER, errno.EPERM)]
)
def test_only_its_user_can_open_a_tap_that_stays(
    tap_helper: TapProcess, person: Person, error: int
) -> None:
    """Whom it was created for."""
    name = created(tap_helper, tap_on(queues=2))
    result = as_person(tap_helper, person, lambda: attach_error(name))
    tap_helper.ip(f"link delete {name}")

    assert error == result


# -- T3


def test_the_holder_can_switch_a_queue_off_and_on(tap_helper: TapProcess) -> None:
    """As QEMU does when the guest wants fewer queues; for that one need not be the owner."""
    _, fds = granted(tap_helper, tap_on(queues=2))
    with fds:
        last = fds[1].borrow()
        errors = as_person(
            tap_helper,
            ALICE,
            lambda: (set_queue(last, IFF_DETACH_QUEUE), set_queue(last, IFF_ATTACH_QUEUE)),
        )

    assert (0, 0) == errors


def test_a_stranger_has_no_queue_to_switch_on(tap_helper: TapProcess) -> None:
    """A user who was let in once could come back at any time; nobody else can come."""

    def attach_unknown() -> tuple[int, int]:
        fd = os.open("/dev/net/tun", os.O_RDWR)
        return attach_error(name), set_queue(fd, IFF_ATTACH_QUEUE)

    name, fds = granted(tap_helper, tap_on(queues=2))
    with fds:
        # One place is free, and still a stranger does not get it.
        set_queue(fds[1].borrow(), IFF_DETACH_QUEUE)

        assert (errno.EPERM, errno.EINVAL) == as_person(tap_helper, STRANGER, attach_unknown)


def test_a_stranger_can_hide_in_a_tap_that_gets_its_owner_late(tap_helper: TapProcess) -> None:
    """The control: joined before, detached while anybody counts; it counts as one of the tap's."""

    def join_and_hide() -> tuple[int, int]:
        queue = open_queue("loose", MULTI)
        return set_queue(queue, IFF_DETACH_QUEUE), set_queue(queue, IFF_ATTACH_QUEUE)

    with ownerless(tap_helper):
        joined = as_person(tap_helper, STRANGER, lambda: attach_error("loose")) == 0
        requires.joinable_taps(joined=joined)

        assert (0, 0) == as_person(tap_helper, STRANGER, join_and_hide)


# -- T8


def give_to(person: Person, fds: OwnedFds) -> None:
    """Make *person* the owner of the tap of *fds*, as any holder can."""
    fcntl.ioctl(fds[0].borrow(), TUNSETOWNER, person.uid)


def test_a_holder_who_takes_a_tap_over_gets_that_tap_alone(tap_helper: TapProcess) -> None:
    """TUNSETOWNER needs no capability; the tap beside it stays closed."""
    mine, fds = granted(tap_helper, tap_on(queues=2))
    other, more = granted(tap_helper, tap_on(queues=2), BOB)
    with fds, more:
        give_to(ALICE, fds)
        errors = as_person(tap_helper, ALICE, lambda: (attach_error(mine), attach_error(other)))

    assert (0, errno.EPERM) == errors


def test_a_tap_that_was_taken_over_still_counts(tap_helper: TapProcess) -> None:
    """For the user who asked, since the alias says so, which no holder can change."""
    name, fds = granted(tap_helper, tap_on(queues=2))
    with fds:
        give_to(BOB, fds)
        quotas = [ask_once(tap_helper.path, Quota(), person).reply for person in (ALICE, BOB)]
        listed = ask_once(tap_helper.path, ListTaps(), ALICE).reply

    assert [1, 0] == [quota.held for quota in quotas if isinstance(quota, QuotaReply)]
    assert isinstance(listed, ListReply)
    assert [name] == [tap.interface for tap in listed.taps]


def test_a_tap_that_was_taken_over_is_swept() -> None:
    """Made to stay by its holder, and left; the name decides, and the next helper sweeps."""
    with running_tap_helper() as helper:
        name, fds = granted(helper, tap_on(queues=2))
        with fds:
            give_to(ALICE, fds)
            fcntl.ioctl(fds[0].borrow(), TUNSETPERSIST, 1)
        stayed = [tap.name for tap in helper.granted_taps()]
        helper.restart()
        swept = wait_until(lambda: not helper.granted_taps())

    assert ([name], True) == (stayed, swept)
