# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reading the maps of a set, and what is said about them."""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from bpferry.errors import BpferryError
from bpferry.steering import settling, view
from bpferry.steering.maps import Steering, SteeringMaps, decode
from bpferry.steering.toeplitz import KEY_BYTES, Flow, HashType
from bpferry_wire.fds import BorrowedFd, OwnedFds
from tests.client import bpf
from tests.client.support import Record

KEY = bytes(range(100, 100 + KEY_BYTES))
TABLE = tuple(place % 4 for place in range(128))
WANTED = bpf.Wanted(types=0x3F, key=KEY, table=TABLE, default=3)
EXPECTED = Steering(redirect=True, hash_types=HashType(0x3F), key=KEY, table=TABLE, default_queue=3)


@pytest.fixture
def granted() -> Iterator[OwnedFds]:
    """Make the fds of a set."""
    with bpf.make_set() as fds:
        yield fds


def maps_of(granted: OwnedFds) -> SteeringMaps:
    """Map the maps of *granted*."""
    return SteeringMaps(*granted.borrow()[1:])


@pytest.mark.kernel
def test_fresh_maps_say_nothing(granted: OwnedFds) -> None:
    """Before the guest's driver came, there is no steering."""
    with maps_of(granted) as maps:
        steering = maps.read()

    assert not steering.redirect
    assert steering.table == ()


@pytest.mark.kernel
def test_written_maps_are_read_back(granted: OwnedFds) -> None:
    """What is written in QEMU's layout is read as it was meant, the key's first word too."""
    with maps_of(granted) as maps:
        bpf.write_maps(granted, WANTED)

        assert maps.read() == EXPECTED


@pytest.mark.kernel
def test_maps_outlive_their_fds(granted: OwnedFds) -> None:
    """The maps can be read after the fds were closed, as they are when QEMU runs."""
    with maps_of(granted) as maps:
        bpf.write_maps(granted, WANTED)
        granted.close()

        assert maps.read() == EXPECTED


@pytest.mark.parametrize("path", ["/proc/self/status", "/dev/null"])
def test_what_is_not_a_map_is_an_error(path: str) -> None:
    """An fd that cannot be mapped is an error, and nothing stays mapped."""
    with Path(path).open("rb") as file:
        fd = BorrowedFd(file.fileno())
        with pytest.raises(BpferryError, match="cannot map an eBPF map"):
            SteeringMaps(fd, fd, fd)


def test_table_length_beyond_the_map() -> None:
    """A length that no table has is cut at the table."""
    config = b"\x01\x00" + (1).to_bytes(4, "little") + b"\xff\xff" + b"\x00\x00"

    assert len(decode(config, bytes(40), bytes(1024)).table) == 128


def test_steering_predicts_only_where_it_is_on() -> None:
    """Without redirection, every flow goes to the default queue."""
    flow = Flow(ip_address("10.0.0.1"), ip_address("10.0.0.2"), "tcp", 1, 2)
    off = Steering(
        redirect=False, hash_types=HashType(63), key=KEY, table=(1,) * 128, default_queue=2
    )

    assert off.queue_for(flow) == 2


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (TABLE, "net0: steering by eBPF in the host's kernel, 4 queues, 128 table entries"),
        ((5,), "net0: steering by eBPF in the host's kernel, 1 queue, 1 table entry"),
    ],
)
def test_sentence(table: tuple[int, ...], sentence: str) -> None:
    """The sentence counts the queues that are in use and the entries of the table."""
    steering = Steering(
        redirect=True, hash_types=HashType(63), key=KEY, table=table, default_queue=0
    )

    assert sentence == view.describe("net0", steering)


def test_one_queue_is_not_steered() -> None:
    """The kernel runs no program if it can only take one queue."""
    assert view.describe("net0", EXPECTED, 2) == view.describe("net0", EXPECTED)
    assert "nothing is steered" in view.describe("net0", EXPECTED, 1)


async def settle_while(
    act: Callable[[settling.Watch], None], granted: OwnedFds, record: Record, pace: settling.Pace
) -> Steering:
    """Watch the maps of *granted*, and *act* a moment later; return what is there in the end."""
    with maps_of(granted) as maps:
        watch = settling.Watch(
            "net0", lambda: view.Seen(maps.read()), record.note, record.steering_changed, pace
        )
        asyncio.get_running_loop().call_later(0.4, act, watch)
        async with asyncio.timeout(20):
            seen = await watch.settle()
            assert seen.steering is not None
            return seen.steering


@pytest.mark.kernel
def test_watch_tells_what_comes_into_force_and_ends(granted: OwnedFds, record: Record) -> None:
    """As soon as the guest's driver has set RSS up, one sentence says so; then it is quiet."""

    def set_up(_watch: settling.Watch) -> None:
        bpf.write_maps(granted, WANTED)

    pace = settling.Pace(quiet_s=0.6, patience_s=60)

    assert EXPECTED == asyncio.run(settle_while(set_up, granted, record, pace))
    assert record.texts("note") == [
        "net0: steering by eBPF in the host's kernel, 4 queues, 128 table entries"
    ]
    assert record.steering == [("net0", EXPECTED)]


@pytest.mark.kernel
def test_watch_gives_a_guest_up_that_sets_nothing_up(granted: OwnedFds, record: Record) -> None:
    """After a while it ends with what is there, which is nothing."""

    def do_nothing(_watch: settling.Watch) -> None: ...

    pace = settling.Pace(quiet_s=0.1, patience_s=0.8)

    assert not asyncio.run(settle_while(do_nothing, granted, record, pace)).redirect
    assert [] == record.all


@pytest.mark.kernel
def test_watch_does_not_follow_a_restless_guest_for_ever(granted: OwnedFds, record: Record) -> None:
    """A guest that changes its table all the time is given up as well."""
    tables = ((number % 4,) * 128 for number in itertools.count())

    def change(watch: settling.Watch) -> None:
        bpf.write_maps(granted, replace(WANTED, table=next(tables)))
        asyncio.get_running_loop().call_later(0.05, change, watch)

    pace = settling.Pace(quiet_s=0.6, patience_s=2)

    assert asyncio.run(settle_while(change, granted, record, pace)).redirect
    assert len(record.steering) > 3


@pytest.mark.kernel
def test_watch_begins_once_more_when_asked(granted: OwnedFds, record: Record) -> None:
    """An event within the time to settle makes that time begin once more."""
    bpf.write_maps(granted, WANTED)
    pace = settling.Pace(quiet_s=0.6, patience_s=60)

    before = time.monotonic()
    asyncio.run(settle_while(settling.Watch.look_again, granted, record, pace))

    assert time.monotonic() - before > 1


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "qemu-system-x86_64: warning: Can't load eBPF RSS - fallback to software RSS",
            "QEMU could not attach the eBPF program: QEMU steers in user space",
        ),
        (
            "warning: Can't load eBPF RSS for vhost",
            f"QEMU could not attach the eBPF program: {view.OWN_RULE}",
        ),
        ("warning: something else about eBPF RSS", None),
    ],
)
def test_qemus_own_word_counts(line: str, sentence: str | None) -> None:
    """The maps are filled even where the program is not attached; QEMU says so once."""
    assert sentence == view.describe_fallback(line)
