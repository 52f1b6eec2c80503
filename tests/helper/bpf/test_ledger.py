# SPDX-License-Identifier: LGPL-2.1-or-later
"""The ledger errs to one side only, and survives the helper."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack
import pytest

from bpferry_helper.bpf.census import CensusUnavailable
from bpferry_helper.bpf.ledger import (
    LEDGER_FILE,
    MANY_ENTRIES,
    SLOW_FOR_S,
    SLOW_S,
    Count,
    Entry,
    Ledger,
    packed,
)
from bpferry_helper.bpf.state import StateFolder
from bpferry_helper.clock import now_s
from bpferry_helper.errors import HelperError, RequestError
from bpferry_wire.errors import Code
from bpferry_wire.messages import Grant

ALICE, BOB = 1001, 1002


class Kernel:
    """Says what is alive, as the test wants it."""

    def __init__(self) -> None:
        self.maps: set[int] = set()
        self.error: HelperError | None = None
        self.asked = 0

    def alive(self) -> frozenset[int]:
        """Return the ids, or raise."""
        self.asked += 1
        if self.error is not None:
            raise self.error
        return frozenset(self.maps)


@pytest.fixture
def kernel() -> Kernel:
    """Return a kernel without maps."""
    return Kernel()


@pytest.fixture
def ledger(state: StateFolder, kernel: Kernel) -> Iterator[Ledger]:
    """Yield an empty ledger."""
    ledger = Ledger(state, kernel)
    yield ledger
    ledger._file.close()


def again(state: StateFolder, kernel: Kernel) -> Ledger:
    """Return the ledger as the next process reads it."""
    return Ledger(state, kernel)


def grant(
    ledger: Ledger,
    kernel: Kernel,
    number: int,
    uid: int = ALICE,
    most: int = 3,
    *,
    without_census: bool = False,
) -> None:
    """Go through one grant whose only map has the id *number*."""
    with ledger.reserve(uid, most, 1000, without_census=without_census) as place:
        kernel.maps.add(number)
        ledger.record(Entry(uid, 1, "rss", now_s(), (number,)), place)


def refusal(act: Callable[[], object]) -> str:
    """Return the message with which *act* is refused for its quota."""
    with pytest.raises(RequestError) as caught:
        act()
    assert caught.value.code == Code.QUOTA
    return str(caught.value)


def test_the_quota_is_exact(ledger: Ledger, kernel: Kernel) -> None:
    """As many as allowed, and not one more."""
    for number in range(3):
        grant(ledger, kernel, number)

    assert "uid 1001 holds 3 sets" in refusal(lambda: grant(ledger, kernel, 9))


def test_a_quota_of_none_allows_none(ledger: Ledger, kernel: Kernel) -> None:
    """Zero is a quota too."""
    assert "holds 0 sets" in refusal(lambda: grant(ledger, kernel, 1, most=0))


def test_one_user_s_sets_do_not_count_for_another(ledger: Ledger, kernel: Kernel) -> None:
    """Each has an own quota."""
    for number in range(3):
        grant(ledger, kernel, number)
    grant(ledger, kernel, 9, uid=BOB)

    assert Count(1, 4, "kernel") == ledger.count(BOB)


def test_the_total_is_exact(ledger: Ledger, kernel: Kernel) -> None:
    """All users together."""
    grant(ledger, kernel, 1)
    grant(ledger, kernel, 2, uid=BOB)
    with pytest.raises(RequestError, match="all users together hold 2") as caught:
        ledger.reserve(7, 3, 2, without_census=False).__enter__()

    assert caught.value.code == Code.QUOTA


def test_a_set_that_is_being_loaded_counts(ledger: Ledger, kernel: Kernel) -> None:
    """Otherwise two at the same time would both be the last one."""
    with ledger.reserve(ALICE, 1, 1000, without_census=False):
        refusal(lambda: grant(ledger, kernel, 1, most=1))


def test_a_load_that_failed_does_not_count(ledger: Ledger, kernel: Kernel) -> None:
    """The place is free again."""
    with pytest.raises(ZeroDivisionError), ledger.reserve(ALICE, 1, 1000, without_census=False):
        _ = 1 / 0
    grant(ledger, kernel, 1, most=1)

    assert ledger.count(ALICE).held == 1


def test_a_recorded_set_counts_once(ledger: Ledger, kernel: Kernel) -> None:
    """Also in the moment between its record and the end of its reservation."""
    with ledger.reserve(ALICE, 2, 1000, without_census=False) as place:
        kernel.maps.add(1)
        ledger.record(Entry(ALICE, 1, "rss", granted_s=now_s(), map_ids=(1,)), place)
        grant(ledger, kernel, 2, most=2)

    assert ledger.count(ALICE).held == 2


def test_a_set_that_died_is_struck_off(ledger: Ledger, kernel: Kernel) -> None:
    """The quota is about what is alive."""
    for number in range(3):
        grant(ledger, kernel, number)
    kernel.maps.remove(1)
    grant(ledger, kernel, 9)

    assert ledger.count(ALICE).held == 3


def test_a_set_lives_as_long_as_any_of_its_maps(ledger: Ledger, kernel: Kernel) -> None:
    """Its holder may close some of its fds."""
    with ledger.reserve(ALICE, 3, 1000, without_census=False) as place:
        ledger.record(Entry(ALICE, 1, "rss", granted_s=now_s(), map_ids=(1, 2, 3)), place)
    kernel.maps.add(3)

    assert ledger.count(ALICE).held == 1


def test_the_kernel_is_asked_at_the_first_grant_and_at_the_limit(
    ledger: Ledger, kernel: Kernel
) -> None:
    """First whether it can say what is alive at all; then only when the count would say no."""
    for number in range(3):
        grant(ledger, kernel, number)
    asked = [kernel.asked]
    refusal(lambda: grant(ledger, kernel, 9))

    assert [1, 2] == [*asked, kernel.asked]


def test_a_helper_that_starts_again_grants_before_it_asks_the_kernel(
    state: StateFolder, ledger: Ledger, kernel: Kernel
) -> None:
    """In this boot the kernel could tell what is alive, and the first question takes a while."""
    grant(ledger, kernel, 1)
    asked, next_one = kernel.asked, again(state, kernel)
    grant(next_one, kernel, 2)

    assert (1, 1, Count(2, 2, "kernel")) == (asked, kernel.asked, next_one.count(ALICE))


def test_another_boot_may_be_of_another_kernel(
    state: StateFolder, ledger: Ledger, kernel: Kernel, tmp_path: Path
) -> None:
    """That the last one could tell what is alive says nothing about this one."""
    grant(ledger, kernel, 1)
    stored = msgpack.unpackb((tmp_path / LEDGER_FILE).read_bytes())
    stored["boot_id"] = "another"
    (tmp_path / LEDGER_FILE).write_bytes(msgpack.packb(stored))
    kernel.error = CensusUnavailable("no BTF")
    with pytest.raises(RequestError, match="cannot tell which sets are still in use"):
        grant(again(state, kernel), kernel, 2)


def test_a_kernel_that_could_not_tell_is_asked_again_by_the_next_helper(
    state: StateFolder, ledger: Ledger, kernel: Kernel
) -> None:
    """What policy allowed meanwhile does not let sets pass when policy forbids it."""
    kernel.error = CensusUnavailable("no BTF")
    grant(ledger, kernel, 1, without_census=True)
    with pytest.raises(RequestError, match="cannot tell which sets are still in use"):
        grant(again(state, kernel), kernel, 2)


def test_the_ledger_survives_a_restart(state: StateFolder, ledger: Ledger, kernel: Kernel) -> None:
    """Who held three before still holds three."""
    for number in range(3):
        grant(ledger, kernel, number)

    assert Count(3, 3, "kernel") == again(state, kernel).count(ALICE)


def test_what_an_earlier_boot_wrote_is_forgotten(
    state: StateFolder, ledger: Ledger, kernel: Kernel, tmp_path: Path
) -> None:
    """Its maps are gone, and their ids are somebody else's by now."""
    grant(ledger, kernel, 1)
    stored = msgpack.unpackb((tmp_path / LEDGER_FILE).read_bytes())
    stored["boot_id"] = "another"
    (tmp_path / LEDGER_FILE).write_bytes(msgpack.packb(stored))

    assert again(state, kernel).count(ALICE).held == 0


def spoiled(entries: object) -> bytes:
    """Return a ledger of this boot with *entries*."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    raw: bytes = msgpack.packb({"format": 1, "boot_id": boot_id, "entries": entries})
    return raw


BROKEN = {
    "empty": b"",
    "no msgpack": b"\xc1",
    "a list": msgpack.packb([]),
    "a number": msgpack.packb(1),
    "cut": spoiled([])[:-3],
    "no entries": msgpack.packb({"format": 1}),
    "entries as a number": spoiled(7),
    "an entry too short": spoiled([[1, 2]]),
    "an entry of text": spoiled(["abcde"]),
    "an infinite uid": spoiled([[float("inf"), 1, "rss", 1, [1]]]),
    "ids that are no list": spoiled([[1, 1, "rss", 1, 1]]),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_ledger_is_started_again(
    state: StateFolder, kernel: Kernel, tmp_path: Path, content: bytes
) -> None:
    """The helper starts; the worst is that somebody holds more than allowed."""
    (tmp_path / LEDGER_FILE).write_bytes(content)

    assert again(state, kernel).count(ALICE) == Count(0, 0, "kernel")


def test_what_cannot_be_written_down_is_not_granted(
    ledger: Ledger, kernel: Kernel, monkeypatch: pytest.MonkeyPatch, state: StateFolder
) -> None:
    """A grant that the next process would not know is refused."""

    def full(_name: str, _content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state, "write", full)
    with pytest.raises(RequestError, match="No space left") as caught:
        grant(ledger, kernel, 1)

    assert (caught.value.code, ledger.count(ALICE).held) == (Code.FAILED, 0)


def test_a_census_that_fails_this_time_strikes_nothing_off(ledger: Ledger, kernel: Kernel) -> None:
    """Without an answer, everything that was granted counts."""
    grant(ledger, kernel, 1)
    kernel.error = HelperError("no fds left")

    assert Count(1, 1, "kernel") == ledger.count(ALICE)


def test_without_a_census_nothing_is_granted(ledger: Ledger, kernel: Kernel) -> None:
    """Nothing would tell when a set is gone; the refusal says what the administrator can do."""
    kernel.error = CensusUnavailable("no BTF")
    with pytest.raises(RequestError, match="cannot tell which sets are still in use") as caught:
        grant(ledger, kernel, 1)

    assert (Code.REFUSED, True) == (caught.value.code, "without-census = true" in caught.value.hint)


def test_without_a_census_each_set_counts_for_good_if_policy_allows_it(
    state: StateFolder, ledger: Ledger, kernel: Kernel
) -> None:
    """Until the next boot, also for the next process; and the refusal says why."""
    kernel.error = CensusUnavailable("no BTF")
    for number in range(3):
        grant(ledger, kernel, number, without_census=True)
    kernel.maps.clear()
    next_one = again(state, kernel)
    counts = [ledger.count(ALICE), next_one.count(ALICE)]
    with pytest.raises(RequestError, match="holds 3 sets") as caught:
        grant(next_one, kernel, 9, without_census=True)

    assert [Count(3, 3, "grants")] * 2 == counts
    assert "until the host restarts" in caught.value.hint


def test_without_a_census_the_kernel_is_asked_once(ledger: Ledger, kernel: Kernel) -> None:
    """The answer would be the same."""
    kernel.error = CensusUnavailable("no BTF")
    for _ in range(5):
        ledger.count(ALICE)

    assert kernel.asked == 1


def test_grants_are_listed_oldest_first(ledger: Ledger, kernel: Kernel) -> None:
    """As ``status`` shows them."""
    grant(ledger, kernel, 1)
    grant(ledger, kernel, 2, uid=BOB)
    listed, counted_by = ledger.grants()

    assert ([Grant(ALICE, 1, "rss", 0), Grant(BOB, 1, "rss", 0)], "kernel") == (
        [g._replace(age_s=0) for g in listed],
        counted_by,
    )


def test_the_quota_is_exact_among_threads(ledger: Ledger, kernel: Kernel) -> None:
    """Eight at the same time get exactly as many as allowed."""
    refused: list[RequestError] = []
    numbers = iter(range(1000))
    barrier = threading.Barrier(8)

    def ask_five_times() -> None:
        barrier.wait()
        for _ in range(5):
            try:
                grant(ledger, kernel, next(numbers), most=17)
            except RequestError as error:
                refused.append(error)

    threads = [threading.Thread(target=ask_five_times) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (ledger.count(ALICE).held, len(refused)) == (17, 23)


# -- sets that were loaded before


def entry(number: int, uid: int = ALICE) -> Entry:
    """Return the entry of a set whose only map has the id *number*."""
    return Entry(uid, 4_000_000_000, "rss", now_s(), (number,))


def test_a_ready_set_is_added_to_what_is_written(
    state: StateFolder, ledger: Ledger, kernel: Kernel
) -> None:
    """The next process knows it, and the kernel need not be asked."""
    grant(ledger, kernel, 1)
    kernel.maps |= {2, 3}
    added = [ledger.record_at_once(entry(number), 3, 1000) for number in (2, 3)]
    asked = kernel.asked

    assert ([True, True], 1) == (added, asked)
    assert Count(3, 3, "kernel") == again(state, kernel).count(ALICE)


def test_a_ready_set_counts_for_its_user_and_in_total(ledger: Ledger, kernel: Kernel) -> None:
    """No more than allowed, and as many."""
    grant(ledger, kernel, 1)
    of_user = [ledger.record_at_once(entry(number), 3, 1000) for number in (2, 3, 4)]
    in_total = [ledger.record_at_once(entry(number, BOB), 3, 4) for number in (5, 6)]

    assert ([True, True, False], [True, False]) == (of_user, in_total)


def test_a_ready_set_has_no_place_that_is_reserved(ledger: Ledger, kernel: Kernel) -> None:
    """Neither the user's last one nor the last one of all."""
    grant(ledger, kernel, 1)
    with ledger.reserve(ALICE, 2, 2, without_census=False):
        added = [
            ledger.record_at_once(entry(2), 2, 1000),
            ledger.record_at_once(entry(3, BOB), 2, 2),
            ledger.record_at_once(entry(4, BOB), 2, 3),
        ]

    assert [False, False, True] == added


def test_before_the_file_is_this_process_s_nothing_is_added(
    state: StateFolder, ledger: Ledger, kernel: Kernel
) -> None:
    """A worker writes it first, and again after as many as may be added."""
    assert not ledger.record_at_once(entry(1), 1000, 1000)
    grant(ledger, kernel, 1)
    added = [ledger.record_at_once(entry(n), 1000, 1000) for n in range(2, MANY_ENTRIES + 4)]

    assert added == [True] * MANY_ENTRIES + [False, False]
    assert not again(state, kernel).record_at_once(entry(1), 1000, 1000)


def test_without_a_census_a_worker_decides(ledger: Ledger, kernel: Kernel) -> None:
    """It knows what policy says of that."""
    kernel.error = CensusUnavailable("no BTF")
    grant(ledger, kernel, 1, without_census=True)

    assert not ledger.record_at_once(entry(2), 1000, 1000)


def test_the_loop_does_not_wait_for_a_census(ledger: Ledger, kernel: Kernel) -> None:
    """It takes a worker 25 ms at first."""
    grant(ledger, kernel, 1)
    started, gate = threading.Event(), threading.Event()

    def alive() -> frozenset[int]:
        started.set()
        gate.wait()
        return frozenset({1})

    kernel.alive = alive  # type: ignore[method-assign]
    counting = threading.Thread(target=ledger.count, args=(ALICE,))
    counting.start()
    started.wait()
    added = ledger.record_at_once(entry(2), 1000, 1000)
    gate.set()
    counting.join()

    assert not added


def test_a_busy_disk_is_for_workers(
    ledger: Ledger, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds up the loop once, and not again before a minute is over."""
    grant(ledger, kernel, 1)
    now, write = [1000.0], os.write

    def slow(fd: int, raw: bytes) -> int:
        now[0] += SLOW_S * 2
        return write(fd, raw)

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    added = [ledger.record_at_once(entry(2), 1000, 1000)]
    monkeypatch.setattr(os, "write", slow)
    added += [ledger.record_at_once(entry(number), 1000, 1000) for number in (3, 4)]
    now[0] += SLOW_FOR_S
    added.append(ledger.record_at_once(entry(5), 1000, 1000))

    assert added == [True, True, False, True]


def test_a_full_disk_leaves_whole_entries(
    state: StateFolder,
    ledger: Ledger,
    kernel: Kernel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A part of one is taken back, and the set is not handed over."""
    grant(ledger, kernel, 1)
    assert ledger.record_at_once(entry(2), 1000, 1000)
    before = (tmp_path / LEDGER_FILE).read_bytes()
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, raw: write(fd, raw[:7]))
    added = ledger.record_at_once(entry(3), 1000, 1000)
    monkeypatch.undo()
    kernel.maps |= {2, 3}

    assert (False, before) == (added, (tmp_path / LEDGER_FILE).read_bytes())
    assert again(state, kernel).count(ALICE).held == 2


@pytest.mark.parametrize("cut", range(1, 30))
def test_what_a_kill_cut_off_was_not_handed_over(
    state: StateFolder, ledger: Ledger, kernel: Kernel, tmp_path: Path, cut: int
) -> None:
    """The entries before it count."""
    grant(ledger, kernel, 1)
    kernel.maps |= {2, 3}
    ledger.record_at_once(entry(2), 1000, 1000)
    ledger.record_at_once(entry(3), 1000, 1000)
    file = tmp_path / LEDGER_FILE
    file.write_bytes(file.read_bytes()[:-cut])

    assert again(state, kernel).count(ALICE).held == 2


@pytest.mark.parametrize("vm", ["", "w", "v" * 32])
@pytest.mark.parametrize("ids", [(), (1,), (1, 2, 2**32 - 1)])
def test_an_entry_is_packed_as_msgpack_does(ids: tuple[int, ...], vm: str) -> None:
    """Only faster."""
    written = Entry(2**32 - 2, 2**31, "é" * 32, 2**40, ids)._replace(vm=vm)

    assert msgpack.unpackb(packed(written)) == [*written[:4], list(ids), vm]


def test_the_next_process_knows_the_names_of_vms(
    state: StateFolder, ledger: Ledger, kernel: Kernel
) -> None:
    """Of a set that a worker wrote down, of one that was ready, and of one without a name."""
    entries = [entry(number)._replace(vm=vm) for number, vm in enumerate(("web", "db", ""))]
    kernel.maps |= {0, 1, 2}
    with ledger.reserve(ALICE, 3, 1000, without_census=False) as place:
        ledger.record(entries[0], place)
    assert [ledger.record_at_once(each, 3, 1000) for each in entries[1:]] == [True, True]
    told = [each.grants() for each in (ledger, again(state, kernel))]

    assert [["web", "db", ""]] * 2 == [[grant.vm for grant in grants] for grants, _ in told]


def test_entries_of_an_earlier_helper_are_read(
    state: StateFolder, ledger: Ledger, kernel: Kernel, tmp_path: Path
) -> None:
    """They end before the name of the VM; those that it had added too."""
    grant(ledger, kernel, 1)
    kernel.maps |= {2, 3}
    file = tmp_path / LEDGER_FILE
    stored = msgpack.unpackb(file.read_bytes())
    stored["entries"] = [each[:5] for each in stored["entries"]]
    added = msgpack.packb(tuple(entry(2)[:5]))
    file.write_bytes(msgpack.packb(stored) + added + packed(entry(3)._replace(vm="web")))
    grants, _ = again(state, kernel).grants()

    assert ["", "", "web"] == [grant.vm for grant in grants]
    assert again(state, kernel).count(ALICE).held == 3
