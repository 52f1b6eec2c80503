# SPDX-License-Identifier: LGPL-2.1-or-later
"""So many taps and no more, counted by what is there (T12)."""

import socket
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from threading import Thread

import pytest

from bpferry_wire.errors import Code
from bpferry_wire.fds import OwnedFds
from bpferry_wire.messages import (
    Create,
    Delete,
    ErrorReply,
    ListReply,
    ListTaps,
    OwnTap,
    Quota,
    QuotaReply,
    Request,
    Status,
    StatusReply,
    Tap,
)
from tests.support.census import wait_until
from tests.support.people import ALICE, BOB, ROOT, Person, ask, ask_once, connect
from tests.support.tap_process import (
    OPEN_POLICY,
    TapProcess,
    created,
    granted,
    running_tap_helper,
    tap_on,
)
from tests.support.tuns import as_person, open_queue

pytestmark = pytest.mark.privileged

DEFAULT = OPEN_POLICY
FEW = f"{OPEN_POLICY}taps-per-user = 3\ntaps-in-total = 5\n[users.0]\nbridges = ['br0']\n"

ONE: Tap = tap_on(queues=1)


def code(
    helper: TapProcess, keep: OwnedFds, person: Person = ALICE, request: Request = ONE
) -> Code | None:
    """Ask, keep what came, and return the code of the error if there is one."""
    answered = ask_once(helper.path, request, person)
    for fd in answered.fds.take():
        keep.add(fd)
    return answered.reply.code if isinstance(answered.reply, ErrorReply) else None


def held(helper: TapProcess, person: Person = ALICE) -> tuple[int, int]:
    """Return how many taps *person* and all hold, as the helper says."""
    reply = ask_once(helper.path, Quota(), person).reply
    assert isinstance(reply, QuotaReply)
    return reply.held, reply.held_by_all


def test_sixteen_and_not_one_more() -> None:
    """The default; and as soon as one is closed there is a place again."""
    with running_tap_helper() as helper, OwnedFds() as keep:
        codes = [code(helper, keep) for _ in range(17)]
        count = held(helper)
        keep[3].close()
        again = [code(helper, keep) for _ in range(2)]

    assert [None] * 16 + [Code.QUOTA] == codes
    assert ((16, 16), [None, Code.QUOTA]) == (count, again)


@pytest.mark.parametrize("request_", [Quota(), ListTaps(), Delete("bfp00000000")])
def test_lists_are_paced(request_: Request) -> None:
    """Each reads all taps that there are; another user still gets an answer, and so does root."""
    with running_tap_helper() as helper:
        replies = [ask_once(helper.path, request_, ALICE).reply for _ in range(40)]
        busy = [r for r in replies if isinstance(r, ErrorReply) and r.code is Code.BUSY]
        others = [ask_once(helper.path, Quota(), person).reply for person in (BOB, ROOT)]

    assert busy
    assert [QuotaReply, QuotaReply] == [type(reply) for reply in others]


def test_all_together_no_more_than_the_total() -> None:
    """Three of one and two of another are five; a third user gets none."""
    with running_tap_helper(FEW) as helper, OwnedFds() as keep:
        people = (ALICE, ALICE, ALICE, ALICE, BOB, BOB, BOB, ROOT)
        codes = [code(helper, keep, person) for person in people]

    assert [None] * 3 + [Code.QUOTA] + [None] * 2 + [Code.QUOTA] * 2 == codes


def test_a_tap_counts_after_a_restart() -> None:
    """No matter who made it: the kernel knows."""
    with running_tap_helper(FEW) as helper, OwnedFds() as keep:
        codes = [code(helper, keep) for _ in range(2)]
        helper.restart()
        codes += [code(helper, keep) for _ in range(2)]
        count = held(helper)

    assert ([None, None, None, Code.QUOTA], (3, 3)) == (codes, count)


def test_taps_that_stay_count_too() -> None:
    """Also after a restart, until they are deleted."""
    with running_tap_helper(FEW) as helper, OwnedFds() as keep:
        names = [created(helper, ONE) for _ in range(2)]
        helper.restart()
        codes = [code(helper, keep) for _ in range(2)]
        codes.append(code(helper, keep, request=Create(ONE)))
        ask_once(helper.path, Delete(names[0]))
        codes.append(code(helper, keep, request=Create(ONE)))

    assert [None, Code.QUOTA, Code.QUOTA, None] == codes


def test_what_somebody_else_named_like_ours_does_not_count() -> None:
    """Neither for a user nor in total: it is not the helper's, and has not its alias."""
    with running_tap_helper(FEW) as helper, OwnedFds() as keep:
        for number in range(4):
            helper.ip(f"tuntap add dev bfp0000000{number} mode tap multi_queue")
        helper.restart()
        codes = [code(helper, keep) for _ in range(2)]
        count = held(helper)

    assert ([None, None], (2, 2)) == (codes, count)


def test_nobody_can_count_for_somebody_else() -> None:
    """The alias of a tap is not its holder's to write."""
    with running_tap_helper() as helper:
        name, fds = granted(helper, ONE)
        words = ["ip", "link", "set", "dev", name, "alias", f"bpferry uid={BOB.uid} pid=1 since=1"]
        with fds:
            failed = as_person(helper, ALICE, lambda: _run(words)) != 0
            counts = [held(helper, person)[0] for person in (ALICE, BOB)]

    assert (True, [1, 0]) == (failed, counts)


def _run(words: Sequence[str]) -> int:
    return subprocess.run(words, check=False, capture_output=True).returncode


def test_requests_at_once_get_exactly_what_is_allowed() -> None:
    """Eight at the same time where three are free: three, and nobody is refused too early."""
    with running_tap_helper(FEW) as helper:
        for _ in range(12):
            socks = [connect(helper.path) for _ in range(8)]
            outcomes, keep = at_once(socks)
            with keep:
                assert (3, 5) == (outcomes.count(None), outcomes.count(Code.QUOTA))
            assert wait_until(lambda: held(helper) == (0, 0))


def test_a_tap_in_the_making_is_not_counted_twice() -> None:
    """One is held, one has gone, two are asked for at once: with a place each, both are made."""
    with running_tap_helper(FEW) as helper, granted(helper, ONE)[1]:
        for _ in range(12):
            granted(helper, ONE)[1].close()
            outcomes, keep = at_once([connect(helper.path) for _ in range(2)])
            keep.close()

            assert [None, None] == outcomes


def at_once(socks: Sequence[socket.socket]) -> tuple[list[Code | None], OwnedFds]:
    """Ask on each of *socks* at the same time; return the outcomes, and what was granted."""
    outcomes: list[Code | None] = []
    keep = OwnedFds()

    def work(sock: socket.socket) -> None:
        with sock:
            answered = ask(sock, ONE)
        for fd in answered.fds.take():
            keep.add(fd)
        outcomes.append(answered.reply.code if isinstance(answered.reply, ErrorReply) else None)

    threads = [Thread(target=work, args=(sock,)) for sock in socks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes, keep


def test_one_who_asks_all_the_time_keeps_nobody_out() -> None:
    """Somebody else is served at once, or nearly."""
    with running_tap_helper() as helper, ExitStack() as stack:
        socks = [stack.enter_context(connect(helper.path)) for _ in range(15)]
        victim = stack.enter_context(connect(helper.path, BOB))
        kept: list[OwnedFds] = []
        thread = Thread(target=lambda: kept.append(at_once(socks)[1]))
        thread.start()
        answered = ask(victim, ONE)
        answered.fds.close()
        thread.join()
        kept[0].close()

    assert not isinstance(answered.reply, ErrorReply)


def test_each_sees_own_taps_and_root_sees_all() -> None:
    """Names, bridges and queues of one's own; to root who holds what."""
    with running_tap_helper() as helper:
        name, fds = granted(helper, tap_on(queues=4))
        kept = created(helper, tap_on(queues=2), BOB)
        with fds:
            lists = [ask_once(helper.path, ListTaps(), person).reply for person in (ALICE, BOB)]
            status = ask_once(helper.path, Status(), ROOT).reply
            refused = ask_once(helper.path, Status(), ALICE).reply

    assert isinstance(status, StatusReply)
    assert isinstance(refused, ErrorReply)
    assert [
        (OwnTap(name, "br0", 4, 4, stays=False, closed=False),),
        (OwnTap(kept, "br0", 0, 2, stays=True, closed=False),),
    ] == [reply.taps for reply in lists if isinstance(reply, ListReply)]
    assert {(ALICE.uid, name), (BOB.uid, kept)} == {(g.uid, g.name) for g in status.grants}


@pytest.mark.parametrize("person", [BOB, ROOT])
def test_only_its_user_can_delete_a_tap(person: Person) -> None:
    """And not while somebody has it open."""
    with running_tap_helper() as helper:
        name = created(helper, tap_on(queues=2))
        refused = ask_once(helper.path, Delete(name), person).reply
        queue = helper.inside_network(lambda: open_queue(name))
        with OwnedFds([queue]):
            busy = ask_once(helper.path, Delete(name)).reply
        done = ask_once(helper.path, Delete(name)).reply

    assert isinstance(refused, ErrorReply)
    assert isinstance(busy, ErrorReply)
    assert (Code.REFUSED, Code.BUSY, False) == (
        refused.code,
        busy.code,
        isinstance(done, ErrorReply),
    )


def test_nothing_but_a_tap_that_stays_can_be_deleted() -> None:
    """No bridge, no granted tap, and nothing that is not there."""
    with running_tap_helper() as helper:
        name, fds = granted(helper, ONE)
        with fds:
            replies = [
                ask_once(helper.path, Delete(target)).reply
                for target in (name, "br0", "lo", "bfp00000000", "", "bfp\0", "bfp%d")
            ]
            there = {link.name for link in helper.interfaces()}

    codes = [reply.code for reply in replies if isinstance(reply, ErrorReply)]
    assert [Code.REFUSED] * 7 == codes
    assert {name, "br0", "lo"} <= there
