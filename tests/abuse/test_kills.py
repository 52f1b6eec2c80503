# SPDX-License-Identifier: LGPL-2.1-or-later
"""kill -9 of both helpers, of clients and of QEMUs at any moment, while all of them are at work.

Two users run VMs of two cards, one after the other, with sets that are loaded ahead; root asks for
sets and taps beside them. Each QEMU holds whole sets and taps or none, and none that anybody else
had; in the end nothing is left of what anybody was ever granted.
"""

import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import pytest

from bpferry_wire.messages import Load, Tap
from tests.abuse.amounts import IN_TWO_FORMS, amount
from tests.abuse.asking import Asking
from tests.abuse.host import USERS, Holding, VmHost, vm_host
from tests.abuse.lives import CLIENT, QEMU, Lives, Witness, complaints
from tests.support.census import Held, wait_until
from tests.support.helper_process import HelperProcess, left_alive

pytestmark = IN_TWO_FORMS

BPF, TAP = "bpf helper", "tap helper"
VICTIMS: Final = (BPF, TAP, CLIENT, QEMU)

KILLS_EACH: Final = amount(4, 750)

LATEST_S: Final = 0.35
"""Between two kills of helpers. A start takes 0.1 s and a load 0.07 s."""

GIVE_UP_S: Final = amount(200.0, 14_400.0)
"""A kill of each kind takes two seconds on two processors."""

AHEAD: Final = 4
"""So many more kills of helpers than of VMs at most, or no VM would ever be whole."""

PAUSE_S: Final = 0.2
"""Of those who ask for sets and taps: both processors are busy all the same."""

UIDS: Final = (0, *(person.uid for person in USERS))

POLICY: Final = (
    f"[load]\nusers = {list(UIDS)}\n"
    "[quota]\nqueues-per-tap = 4\n"
    "loads-at-once = 1000\nloads-per-second = 1000\nloads-per-second-in-total = 1000\n"
    "taps-at-once = 1000\ntaps-per-second = 1000\ntaps-per-second-in-total = 1000\n"
    + "".join(f'[users.{uid}]\nbridges = ["*"]\n' for uid in UIDS)
)
"""The pace does not matter. The pool is the default one."""


def open_in(helper: HelperProcess) -> Counter[str]:
    """Return the kinds of fds that *helper* has open once nobody asks it."""
    targets = helper.settle().elements()
    return Counter(re.sub(r":\[\d+\]$", "", target) for target in targets)


@contextmanager
def at_work(threads: Sequence[Asking | Lives]) -> Iterator[None]:
    """Let *threads* run inside the block."""
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.stop.set()
        for thread in threads:
            thread.join()


def kill_helpers(host: VmHost, witness: Witness) -> frozenset[Held]:
    """Kill helpers until everything was killed often enough; return the sets that were ready."""
    chance = random.Random()  # noqa: S311 - other moments each time
    ready: frozenset[Held] = frozenset()
    number = 0
    end = time.monotonic() + GIVE_UP_S
    while not (witness.wrong or witness.has(VICTIMS, KILLS_EACH) or time.monotonic() > end):
        time.sleep(chance.uniform(0, LATEST_S))
        if number > witness.kills[CLIENT] + witness.kills[QEMU] + AHEAD:
            continue
        name, helper = chance.choice([(BPF, host.bpf), (TAP, host.tap)])
        ready |= host.bpf.held()
        helper.kill()
        witness.killed(name)
        number += 1
        # Every fourth may be killed while it starts.
        helper.start(wait=number % 4 != 0)
    return ready


def test_whoever_is_killed_leaves_nothing(rss_digest: bytes, say: Callable[[str], None]) -> None:
    """No partial grant, no set or tap given twice, no map, tap, fd or process left."""
    with vm_host(POLICY) as host:
        before = open_in(host.bpf), open_in(host.tap)
        witness = Witness()
        lives = [Lives(host, person, f"vm{person.uid}", witness) for person in USERS]
        askers = (
            Asking(host.bpf, Load("rss", rss_digest), PAUSE_S),
            Asking(host.tap, Tap("br0", is_network=False, queues=4), PAUSE_S),
        )
        began = time.monotonic()
        with at_work([*askers, *lives]):
            ready = kill_helpers(host, witness)
        took_s = time.monotonic() - began
        host.bpf.restart()
        host.tap.restart()
        outcomes = [asker.outcomes for asker in askers]
        say(
            f"kills: N = {witness.kills.total()} {dict(witness.kills)} in {took_s:.0f} s; "
            f"{witness.whole} VMs whole; ended by themselves: {witness.ended.total()}; "
            f"asked for sets {dict(outcomes[0])}, for taps {dict(outcomes[1])}"
        )

        assert witness.wrong == []
        assert witness.has(VICTIMS, KILLS_EACH)
        for found in outcomes:
            assert (found["partial"], found["given twice"]) == (0, 0)
            assert found["granted"] > KILLS_EACH / 4, outcomes
        # Otherwise the kills of QEMUs have shown nothing.
        assert witness.whole > KILLS_EACH / 2
        assert not witness.maps & askers[0].maps()
        assert not witness.taps & askers[1].held
        check_nothing_is_left(host, witness.maps | askers[0].maps() | ready | host.bpf.granted())
        assert (open_in(host.bpf), open_in(host.tap)) == before


def check_nothing_is_left(host: VmHost, maps: frozenset[Held] | set[Held]) -> None:
    """Fail unless all *maps* and taps are gone, and nothing counts for anybody."""
    assert host.processes() == []
    assert left_alive(frozenset(maps)) == set()
    assert wait_until(lambda: not host.tap.granted_taps()), host.tap.granted_taps()
    assert host.held_by_all() == (0, 0)


@pytest.mark.parametrize(
    "holding",
    [
        Holding(frozenset({Held("prog", 1), Held("map", 2)}), Counter()),
        Holding(frozenset(), Counter(bft0=4)),
        Holding(frozenset(), Counter(bft0=4, bft1=3)),
    ],
)
def test_a_part_would_be_seen(holding: Holding) -> None:
    """Some of the maps, one tap of two, or some of the queues."""
    witness = Witness()
    witness.look_at("vm", holding)
    assert complaints(holding)
    assert witness.wrong


def test_what_is_given_twice_would_be_seen() -> None:
    """A set, or a tap."""
    for holding in (
        Holding(frozenset({Held("prog", 1), Held("map", 2)}), Counter()),
        Holding(frozenset(), Counter(bft0=4)),
    ):
        witness = Witness()
        witness.look_at("first", holding)
        witness.wrong.clear()
        witness.look_at("second", holding)
        assert any("what others had" in wrong for wrong in witness.wrong)
