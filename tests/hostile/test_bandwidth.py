# SPDX-License-Identifier: LGPL-2.1-or-later
"""A flood to a VM is held to its limit, whatever the holder of the tap does with its fd.

A flood from a VM needs a kernel with a policer: see tests/vm/test_bandwidth.py. On one without it
the tap is refused.
"""

import fcntl
import os
import subprocess
import time
from collections.abc import Iterator
from typing import Final

import pytest

from bpferry_wire.errors import Code
from bpferry_wire.fds import OwnedFds
from bpferry_wire.messages import (
    Bandwidth,
    Can,
    CanReply,
    ErrorReply,
    ListReply,
    ListTaps,
    Rate,
    Status,
    StatusReply,
)
from tests.support.people import ALICE, BOB, ROOT, Person, ask_once
from tests.support.tap_process import OPEN_POLICY, TapProcess, granted, running_tap_helper, tap_on
from tests.support.tuns import (
    IFF_ATTACH_QUEUE,
    IFF_DETACH_QUEUE,
    TUNSETPERSIST,
    VNET_HEADER,
    as_person,
    name_of,
    set_carrier,
    set_queue,
)

pytestmark = pytest.mark.privileged

FRAMES: Final = 4000
FRAME: Final = b"\xff" * 6 + bytes((0x52, 0x54, 0, 0, 0, 1)) + b"\x88\xb5" + bytes(1400)
"""A broadcast of the protocol of experiments (IEEE 802)."""

LIMIT: Final = 100_000
BURST: Final = 131_072
"""Bytes per second, and bytes. Without a limit, a slow emulated machine gets 700,000 through."""

POLICY: Final = f"""{OPEN_POLICY}
[bridges.limited]
bandwidth = {{ inbound = "800 kbit/s" }}
""".replace(f"[users.{BOB.uid}]\n", f'[users.{BOB.uid}]\nbandwidth = {{ inbound = "100 kB/s" }}\n')
"""Bob is limited on each bridge, Alice on one."""


@pytest.fixture(scope="module")
def helper() -> Iterator[TapProcess]:
    """Yield a helper with a bridge whose taps are limited, and one whose taps are not."""
    with running_tap_helper(POLICY, bridges=("plain", "limited")) as helper:
        yield helper


def flood(sender: OwnedFds, receiver: OwnedFds) -> tuple[int, float]:
    """Return how many bytes of a flood came through, and how long it took in seconds."""
    queues = [receiver[number].borrow() for number in range(len(receiver))]
    for queue in queues:
        os.set_blocking(queue, False)
    started, count = time.monotonic(), 0
    for _ in range(FRAMES):
        os.write(sender[0].borrow(), VNET_HEADER + FRAME)
        count += sum(map(drained, queues))
    return count, time.monotonic() - started


def drained(queue: int) -> int:
    """Return how many bytes of the flood wait in *queue*, and read them."""
    count = 0
    while True:
        try:
            frame = os.read(queue, 4096)[len(VNET_HEADER) :]
        except OSError:
            # There is nothing, or the queue is detached.
            return count
        count += len(frame) if frame == FRAME else 0


def is_held(result: tuple[int, float]) -> bool:
    """Say whether no more came through than the limit allows."""
    count, seconds = result
    return count < BURST + LIMIT * seconds + 2 * len(FRAME)


REQUESTED: Final = Bandwidth(inbound=Rate(LIMIT))


@pytest.mark.parametrize(
    ("bridge", "person", "asked", "held"),
    [
        ("plain", ALICE, Bandwidth(), False),
        ("plain", ALICE, REQUESTED, True),
        ("limited", ALICE, Bandwidth(), True),
        ("plain", BOB, Bandwidth(), True),
    ],
    ids=["the control", "as asked for", "by the bridge's table", "by the user's table"],
)
def test_a_flood_to_a_vm_is_held_to_its_limit(
    helper: TapProcess, bridge: str, person: Person, asked: Bandwidth, *, held: bool
) -> None:
    """Whoever sets the limit; without one the flood comes through."""
    with (
        granted(helper, tap_on(bridge, 1))[1] as sender,
        granted(helper, tap_on(bridge, 1, bandwidth=asked), person)[1] as receiver,
    ):
        result = flood(sender, receiver)

    assert held == is_held(result), result


def tc(helper: TapProcess, person: Person, *arguments: str) -> int:
    """Return the exit status of tc on the helper's host, run as *person* with no privilege."""
    command = ["tc", *arguments]
    return as_person(
        helper, person, lambda: subprocess.run(command, capture_output=True, check=False).returncode
    )


def test_the_holder_cannot_take_the_limit_away(helper: TapProcess) -> None:
    """Not with tc, and not with what the fd of a tap allows; the administrator can."""
    with (
        granted(helper, tap_on("plain", 1))[1] as sender,
        granted(helper, tap_on("plain", 2, bandwidth=REQUESTED))[1] as receiver,
    ):
        name = name_of(receiver[0].borrow())
        looked, taken = (
            tc(helper, ALICE, "qdisc", do, "dev", name, "root") for do in ("show", "del")
        )
        for queue, flag in ((1, IFF_DETACH_QUEUE), (1, IFF_ATTACH_QUEUE), (0, IFF_DETACH_QUEUE)):
            assert set_queue(receiver[queue].borrow(), flag) == 0
        fcntl.ioctl(receiver[1].borrow(), TUNSETPERSIST, 1)
        fcntl.ioctl(receiver[1].borrow(), TUNSETPERSIST, 0)
        set_carrier(receiver[1].borrow(), on=False)
        set_carrier(receiver[1].borrow(), on=True)
        held = flood(sender, receiver)
        helper.run("tc", "qdisc", "del", "dev", name, "root")
        free = flood(sender, receiver)

    assert (looked, taken != 0) == (0, True)
    assert (is_held(held), is_held(free)) == (True, False), (held, free)


def test_more_than_policy_allows_is_refused(helper: TapProcess) -> None:
    """In the request itself, and when one asks about it."""
    wanted = tap_on("limited", 1, bandwidth=Bandwidth(inbound=Rate(LIMIT + 1)))
    refused, asked = (ask_once(helper.path, what).reply for what in (wanted, Can(wanted)))

    assert isinstance(refused, ErrorReply)
    assert isinstance(asked, CanReply)
    assert (refused.code, asked.allowed) == (Code.REFUSED, False)
    assert "inbound 800.008 kbit/s: policy allows 800 kbit/s" in refused.message
    assert refused.message == asked.because


def test_everybody_is_told_the_limit(helper: TapProcess) -> None:
    """Who asks what is allowed, whose tap it is, and the administrator."""
    reply = ask_once(helper.path, Can(tap_on("limited", 1))).reply
    with granted(helper, tap_on("limited", 1))[1]:
        own = ask_once(helper.path, ListTaps()).reply
        all_of_them = ask_once(helper.path, Status(), ROOT).reply

    assert isinstance(reply, CanReply)
    assert reply.because.endswith("; at most 800 kbit/s to the VM")
    assert isinstance(own, ListReply)
    assert [(LIMIT, 0)] == [(tap.inbound, tap.outbound) for tap in own.taps]
    assert isinstance(all_of_them, StatusReply)
    assert [(LIMIT, 0)] == [(grant.inbound, grant.outbound) for grant in all_of_them.grants]


def test_a_flood_from_a_vm_is_limited_or_the_tap_is_refused(helper: TapProcess) -> None:
    """There is never a tap that only seems to have the limit."""
    before = len(helper.granted_taps())
    answered = ask_once(helper.path, tap_on("plain", 1, bandwidth=Bandwidth(None, Rate(LIMIT))))
    if isinstance(answered.reply, ErrorReply):
        assert answered.reply.code == Code.UNSUPPORTED
        assert "sch_ingress cls_matchall act_police" in answered.reply.message
        assert before == len(helper.granted_taps())
    else:
        with answered.fds as sender, granted(helper, tap_on("plain", 1))[1] as receiver:
            assert is_held(flood(sender, receiver))
