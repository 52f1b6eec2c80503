# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sets that are loaded ahead: how many, for how long, and each for one."""

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from bpferry_helper.bpf import pool as module
from bpferry_helper.bpf.loader import LoadedSet
from bpferry_helper.bpf.pool import Key, Means, Pool
from bpferry_helper.errors import RequestError
from bpferry_helper.policy.rules import Policy
from bpferry_wire.errors import Code
from bpferry_wire.fds import OwnedFds

MANY = 100
PATIENCE_S = 60.0
"""For MANY to be taken, which the threads do when they get the interpreter's lock."""

OLD, NEW = Key("rss", b"o" * 32), Key("rss", b"n" * 32)
POLICY = Policy("policy.toml", frozenset(), frozenset())


class Host:
    """Loads sets of one fd each, and says what the test wants."""

    def __init__(self) -> None:
        self.loaded: list[Key] = []
        self.carried = {OLD, NEW}
        self.room = 1000
        self.error: RequestError | None = None
        self.pool = Pool(Means(self.load, lambda key, _: key in self.carried, lambda _: self.room))

    def load(self, key: Key, _policy: Policy) -> LoadedSet:
        """Return a new set."""
        if self.error is not None:
            raise self.error
        self.loaded.append(key)
        fds = OwnedFds([os.open("/dev/null", os.O_RDONLY)])
        return LoadedSet(fds, (), (len(self.loaded),))

    def tend(self) -> float | None:
        """Tend the pool until it need not be at once."""
        while (again_s := self.pool.tend()) == 0.0:
            pass
        return again_s

    def ready(self, key: Key) -> int:
        """Take all sets of *key*, put them back, and return how many there were."""
        taken = []
        while (one := self.pool.take(key)) is not None:
            taken.append(one)
        for one in taken:
            self.pool.put(key, one)
        return len(taken)


@pytest.fixture
def host() -> Iterator[Host]:
    """Yield a host; its pool is emptied afterwards."""
    host = Host()
    yield host
    host.pool.keep_at_most(0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list of one number: the time, as the pool sees it."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def grant(host: Host, key: Key, count: int, policy: Policy = POLICY) -> None:
    """Grant *count* sets, as at the start of one VM."""
    for _ in range(count):
        host.pool.note(key, policy)


def test_nothing_is_loaded_before_somebody_asks(host: Host) -> None:
    """And nobody looks after it."""
    assert (None, []) == (host.tend(), host.loaded)


@pytest.mark.parametrize(("cards", "ready"), [(1, 1), (3, 3), (8, 8), (20, 8)])
def test_as_many_are_ready_as_one_vm_asks_for(host: Host, cards: int, ready: int) -> None:
    """At most as many as policy says."""
    grant(host, NEW, cards)
    host.tend()

    assert ready == len(host.pool) == host.ready(NEW)


def test_what_was_taken_is_loaded_again(host: Host, clock: list[float]) -> None:
    """One for each."""
    grant(host, NEW, 3)
    host.tend()
    clock[0] += module.BURST_S * 2
    for _ in range(2):
        taken = host.pool.take(NEW)
        assert taken is not None
        taken.fds.close()
        grant(host, NEW, 1)
    host.tend()

    assert (3, 5) == (host.ready(NEW), len(host.loaded))


def test_one_is_loaded_at_a_time(host: Host) -> None:
    """Between two, a worker looks whether somebody asks."""
    grant(host, NEW, 2)
    loaded = [(host.pool.tend(), len(host.loaded)) for _ in range(3)]

    assert loaded == [(0.0, 1), (module.LOOK_S, 2), (module.LOOK_S, 2)]


def test_none_is_ready_when_nobody_has_asked_for_long(host: Host, clock: list[float]) -> None:
    """And nobody looks any more."""
    grant(host, NEW, 3)
    host.tend()
    clock[0] += module.FORGET_S - 1
    early = (host.tend(), len(host.pool))
    clock[0] += 2

    assert [(module.LOOK_S, 3), (None, 0)] == [early, (host.tend(), len(host.pool))]


def test_a_large_vm_is_forgotten_while_small_ones_start(host: Host, clock: list[float]) -> None:
    """The pool has the size of what was asked for lately, not ever."""
    grant(host, NEW, 8)
    for _ in range(5):
        clock[0] += module.FORGET_S / 4
        grant(host, NEW, 2)
    host.tend()

    assert host.ready(NEW) == 2


def test_vms_that_start_after_each_other_do_not_add_up(host: Host, clock: list[float]) -> None:
    """Each is a burst of its own."""
    for _ in range(4):
        grant(host, NEW, 2)
        clock[0] += module.BURST_S * 2
    host.tend()

    assert host.ready(NEW) == 2


def test_who_asks_for_one_object_does_not_crowd_out_another(host: Host) -> None:
    """Each has its share, whoever was first, and whoever asks more."""
    grant(host, OLD, 8)
    host.tend()
    grant(host, NEW, 3)
    host.tend()
    shares = (host.ready(OLD), host.ready(NEW))
    grant(host, NEW, 20)
    host.tend()

    assert [(5, 3), (4, 4)] == [shares, (host.ready(OLD), host.ready(NEW))]


def test_sets_of_what_no_qemu_carries_any_more_are_thrown_away(host: Host) -> None:
    """The QEMU was upgraded: the next one asks for another object."""
    grant(host, OLD, 2)
    host.tend()
    host.carried.remove(OLD)

    assert (None, 0) == (host.tend(), len(host.pool))


def test_users_go_before_the_pool(host: Host) -> None:
    """Where they may have no more in total, none is ready, and none is loaded."""
    grant(host, NEW, 4)
    host.room = 2
    host.tend()
    some = len(host.pool)
    host.room = 0
    host.tend()

    assert (2, 0, 2) == (some, len(host.pool), len(host.loaded))


def test_policy_can_have_no_pool(host: Host) -> None:
    """With sets-ready = 0, also if there were some before."""
    grant(host, NEW, 2)
    host.tend()
    grant(host, NEW, 1, POLICY._replace(sets_ready=0))
    host.tend()

    assert (0, 2) == (len(host.pool), len(host.loaded))


def test_an_object_that_only_policy_knows_is_not_loaded_ahead(host: Host) -> None:
    """Nobody knows whether its maps begin empty."""
    grant(host, Key("other", bytes(32)), 3)

    assert (None, []) == (host.tend(), host.loaded)


def test_a_load_that_fails_is_not_tried_again_before_somebody_asks(
    host: Host, capfd: pytest.CaptureFixture[str]
) -> None:
    """And the journal says so."""
    grant(host, NEW, 2)
    host.error = RequestError(Code.FAILED, "no memory")

    assert host.tend() is None
    assert "cannot load a set of 'rss' 6e6e6e6e6e6e6e6e ahead: no memory" in capfd.readouterr().err


def test_each_set_is_taken_once(host: Host) -> None:
    """By six who take at the same time as one loads."""
    taken: Counter[int] = Counter()
    grant(host, NEW, 8)
    stop = threading.Event()

    def take() -> None:
        while not stop.is_set():
            one = host.pool.take(NEW)
            if one is not None:
                taken[one.map_ids[0]] += 1
                one.fds.close()

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + PATIENCE_S
    while len(taken) <= MANY and time.monotonic() < deadline:
        host.pool.tend()
    stop.set()
    for thread in threads:
        thread.join()

    assert len(taken) > MANY
    assert {1} == set(taken.values())
    assert taken.total() + len(host.pool) == len(host.loaded)
