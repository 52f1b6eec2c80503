# SPDX-License-Identifier: LGPL-2.1-or-later
"""Quotas by what is alive, in front of the real helper."""

import os
import signal
from contextlib import ExitStack

import pytest

from bpferry_wire.errors import Code
from bpferry_wire.fds import OwnedFds
from bpferry_wire.messages import ErrorReply, Load, Quota, QuotaReply
from bpferry_wire.packets import encode_request
from tests.support.census import wait_until
from tests.support.children import fork
from tests.support.helper_process import NO_LIMITS, HelperProcess, running_helper
from tests.support.people import ALICE, BOB, Person, ask_once, connect, take

pytestmark = [pytest.mark.privileged, pytest.mark.kernel, pytest.mark.qemu]

THREE = f"{NO_LIMITS}sets-per-user = 3\nsets-in-total = 5\n"


@pytest.fixture
def load(rss_digest: bytes) -> Load:
    """Return a request that is granted."""
    return Load("rss", rss_digest)


def code(
    helper: HelperProcess, request: Load, keep: OwnedFds, person: Person = ALICE
) -> Code | None:
    """Ask, keep what came, and return the code of the error if there is one."""
    answered = ask_once(helper.path, request, person)
    for fd in answered.fds.take():
        keep.add(fd)
    return answered.reply.code if isinstance(answered.reply, ErrorReply) else None


def held(helper: HelperProcess, person: Person = ALICE) -> tuple[int, int]:
    """Return how many sets *person* and all hold, as the helper says."""
    reply = ask_once(helper.path, Quota(), person).reply
    assert isinstance(reply, QuotaReply)
    assert reply.counted_by == "kernel"
    return reply.held, reply.held_by_all


def test_as_many_as_allowed_and_not_one_more(load: Load) -> None:
    """Two, three, and no fourth."""
    with running_helper(THREE) as helper, OwnedFds() as keep:
        codes = [code(helper, load, keep) for _ in range(4)]
        count = held(helper)

    assert (codes, count) == ([None, None, None, Code.QUOTA], (3, 3))


def test_all_together_no_more_than_the_total(load: Load) -> None:
    """Three of one and two of another are five."""
    with running_helper(THREE) as helper, OwnedFds() as keep:
        codes = [code(helper, load, keep) for _ in range(3)]
        codes += [code(helper, load, keep, BOB) for _ in range(3)]
        count = held(helper, BOB)

    assert (codes, count) == ([None] * 5 + [Code.QUOTA], (2, 5))


def test_a_quota_is_free_again_when_the_fds_are_closed(load: Load) -> None:
    """Nobody has to tell the helper."""
    with running_helper(THREE) as helper, OwnedFds() as keep:
        for _ in range(3):
            code(helper, load, keep)
        keep.close()
        free = wait_until(lambda: held(helper) == (0, 0))
        with OwnedFds() as again:
            codes = [code(helper, load, again) for _ in range(4)]

    assert (free, codes) == (True, [None, None, None, Code.QUOTA])


def test_fds_that_were_passed_on_count(load: Load) -> None:
    """For the user who asked, until the process that has them is gone."""
    with running_helper(THREE) as helper:
        with OwnedFds() as keep:
            for _ in range(3):
                code(helper, load, keep)
            pid = fork()
            if pid == 0:
                signal.pause()
                os._exit(0)
        during = held(helper)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

        assert (during, wait_until(lambda: held(helper) == (0, 0))) == ((3, 3), True)


def test_a_quota_survives_the_helper_s_death(load: Load) -> None:
    """The next process knows what the killed one granted."""
    with running_helper(THREE) as helper, OwnedFds() as keep:
        for _ in range(3):
            code(helper, load, keep)
        helper.restart()

        assert (held(helper), code(helper, load, keep)) == ((3, 3), Code.QUOTA)


def test_one_map_that_is_kept_is_a_set_that_is_held(load: Load) -> None:
    """Closing most of the fds frees nothing."""
    with running_helper(THREE) as helper:
        answered = ask_once(helper.path, load)
        last = answered.fds[2].take()
        answered.fds.close()
        try:
            assert held(helper) == (1, 1)
        finally:
            os.close(last)


def test_a_raised_quota_counts_at_once(load: Load) -> None:
    """Without a restart."""
    with running_helper(THREE) as helper, OwnedFds() as keep:
        codes = [code(helper, load, keep) for _ in range(4)]
        helper.write_policy(THREE.replace("sets-per-user = 3", "sets-per-user = 4"))
        codes += [code(helper, load, keep) for _ in range(2)]

    assert codes == [None] * 3 + [Code.QUOTA, None, Code.QUOTA]


def test_sixteen_at_once_get_exactly_the_quota(load: Load) -> None:
    """Asked for on as many connections at the same time."""
    with running_helper(f"{NO_LIMITS}sets-per-user = 9\n") as helper, ExitStack() as stack:
        keep = stack.enter_context(OwnedFds())
        socks = [stack.enter_context(connect(helper.path)) for _ in range(16)]
        for sock in socks:
            sock.send(encode_request(load))
        codes = []
        for sock in socks:
            answered = take(sock, load)
            for fd in answered.fds.take():
                keep.add(fd)
            is_error = isinstance(answered.reply, ErrorReply)
            codes.append(answered.reply.code if is_error else None)  # type: ignore[union-attr]

    assert (codes.count(None), codes.count(Code.QUOTA)) == (9, 7)


def test_without_a_policy_the_socket_s_group_may_load(load: Load) -> None:
    """Who can connect can load; this is how a host starts out."""
    with running_helper(policy=None) as helper, OwnedFds() as keep:
        assert code(helper, load, keep) is None
