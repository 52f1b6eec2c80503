# SPDX-License-Identifier: LGPL-2.1-or-later
"""The helper's network namespace lives as long as a queue that was born in it; it is of no use.

A queue keeps the namespace in which /dev/net/tun was opened, also when its tap has moved, and when
the helper has ended. What its holder could do there is make taps, join those that are being born,
or look around. None of it works without a capability in that namespace or the name of a newborn,
which has 48 random bits and is nobody's for some microseconds.
"""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import requires
from tests.helper.tap.own_host import Host, on_own_host
from tests.support.children import in_child
from tests.support.people import ALICE
from tests.support.tap_process import TapProcess, granted, running_tap_helper, tap_on
from tests.support.tuns import (
    IFREQ,
    MULTI,
    TUNSETIFF,
    TUNSETOWNER,
    as_person,
    open_queue,
)

pytestmark = pytest.mark.privileged

SIOCGSKNS = 0x894C
"""linux/sockios.h: an fd of the network namespace of a socket, or of a queue of a tap."""

NEWBORN = "bft0123456789ab"


def error_of(act: Callable[[], object]) -> int:
    """Return the errno that *act* ends with; 0 if it works."""
    try:
        act()
    except OSError as error:
        return error.errno or -1
    return 0


def set_name(queue: int, name: str) -> int:
    """Make *queue*, which has no tap, one of the tap *name*; return the errno."""
    return error_of(lambda: fcntl.ioctl(queue, TUNSETIFF, IFREQ.pack(name.encode(), MULTI)))


def namespace_of(queue: int) -> int:
    """Return the inode of the network namespace that *queue* was opened in."""
    number = fcntl.ioctl(queue, SIOCGSKNS)
    try:
        return os.fstat(number).st_ino
    finally:
        os.close(number)


def with_a_queue_that_lost_its_tap(helper: TapProcess, act: Callable[[int], int]) -> int:
    """Return what *act* returns for Alice with a queue whose tap the administrator deleted."""
    name, fds = granted(helper, tap_on())
    with fds:
        helper.ip(f"link delete dev {name}")
        queue = fds[0].borrow()
        return as_person(helper, ALICE, lambda: act(queue))


def test_the_namespace_outlives_the_helper() -> None:
    """For root that can be seen: a queue that a client holds is still in it."""
    with running_tap_helper() as helper:
        _, fds = granted(helper, tap_on())
        with fds:
            theirs = os.stat(f"/proc/{helper.pid}/ns/net").st_ino  # noqa: PTH116 - a link of /proc
            host = os.stat(f"/proc/{helper.holder}/ns/net").st_ino  # noqa: PTH116
            helper.kill()
            after = namespace_of(fds[0].borrow())

    assert theirs == after != host


def test_its_holder_gets_no_fd_of_it() -> None:
    """That needs CAP_NET_ADMIN in the namespace; with one, all of it would be open."""
    with running_tap_helper() as helper:
        _, fds = granted(helper, tap_on())
        with fds:
            queue = fds[0].borrow()
            refused = as_person(helper, ALICE, lambda: error_of(lambda: namespace_of(queue)))

    assert errno.EPERM == refused


def test_a_queue_that_lost_its_tap_makes_no_tap_there() -> None:
    """As it makes none on the host."""
    with running_tap_helper() as helper:
        refused = with_a_queue_that_lost_its_tap(helper, lambda queue: set_name(queue, "mine"))

    assert errno.EPERM == refused


def joins_a_newborn(host: Host, owner: int | None) -> int:
    """Return the errno for Alice with a queue of the helper's namespace, who knows a name there."""
    newborn = open_queue(NEWBORN)
    if owner is not None:
        fcntl.ioctl(newborn, TUNSETOWNER, owner)
    lost = open_queue("lost")
    host.maker._nursery._own.delete(host.maker._nursery._own.expect("lost").ifindex)

    def act() -> int:
        os.setgroups([])
        os.setresgid(ALICE.gid, ALICE.gid, ALICE.gid)
        os.setresuid(ALICE.uid, ALICE.uid, ALICE.uid)
        return set_name(lost, NEWBORN)

    return in_child(act)


def test_a_queue_that_lost_its_tap_joins_none_that_has_its_owner() -> None:
    """A newborn is the helper's from its second system call on."""
    assert errno.EPERM == on_own_host(lambda host: joins_a_newborn(host, os.getuid()))


def test_who_knew_the_name_could_join_a_newborn_before_it_has_its_owner() -> None:
    """The control, and the reason for names that nobody can guess (CVE-2026-99281)."""
    joined = on_own_host(lambda host: joins_a_newborn(host, None)) == 0
    requires.joinable_taps(joined=joined)

    assert joined


def test_what_the_kernel_shows_of_a_queue_names_no_tap_of_the_helper() -> None:
    """Once its own is gone: the names of newborns are not to be read off it."""

    def act(queue: int) -> int:
        own = Path(f"/proc/self/fdinfo/{queue}").read_text(encoding="ascii")
        return int("bft" in own or "bfp" in own)

    with running_tap_helper() as helper:
        assert with_a_queue_that_lost_its_tap(helper, act) == 0
