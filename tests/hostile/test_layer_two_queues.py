# SPDX-License-Identifier: LGPL-2.1-or-later
"""A tap's holder adds queues to it, each of which holds memory of the kernel until it is read.

The owner of a tap may add queues, and the holder of one can become the owner, both without a
capability.
"""

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bpferry_wire.errors import Code
from bpferry_wire.fds import OwnedFds
from bpferry_wire.messages import ErrorReply
from tests.hostile.test_layer_two import ALICES, BOBS, octets
from tests.support.census import wait_until
from tests.support.people import ALICE, BOB, ask_once
from tests.support.tap_process import (
    OPEN_POLICY,
    TapProcess,
    created,
    granted,
    running_tap_helper,
    tap_on,
)
from tests.support.tuns import TUNSETOWNER, open_queue

pytestmark = pytest.mark.privileged

MADE_WITH = 2
MOST_OF_KERNEL = 256
"""MAX_TAP_QUEUES, drivers/net/tun.c."""

POLICY = f"""{OPEN_POLICY}
[bridges.locked]
address-lock = true
[service]
idle-exit-seconds = 1
"""

STAYS = f"""[users.{BOB.uid}]
bridges = ["*"]
[users.{ALICE.uid}]
bridges = ["*"]
"""
"""The helper does not end, so it only looks when it starts and a minute later."""

TUNSETOFFLOAD = 0x4004_54D0
CSUM_AND_TSO = 0x7
"""linux/if_tun.h: frames that are not segmented yet may come."""

PAYLOAD_BYTES = 65_000
FRAMES = 900
"""For each queue: enough to fill it, as the kernel chooses the queue by the flow."""


@pytest.fixture
def helper() -> Iterator[TapProcess]:
    """Yield a helper that looks at all taps when it ends, after a quiet second."""
    with running_tap_helper(POLICY, bridges=("plain", "locked")) as helper:
        yield helper


@contextmanager
def more_queues(helper: TapProcess, name: str, queue: int, most: int) -> Iterator[list[int]]:
    """Become the owner of the tap *name* and add queues until it has *most*; yield these."""
    added: list[int] = []

    def add() -> None:
        for _ in range(most - MADE_WITH):
            added.append(open_queue(name))  # noqa: PERF401 - those before an error have to be closed

    fcntl.ioctl(queue, TUNSETOWNER, os.getuid())
    try:
        helper.inside_network(add)
        yield added
    finally:
        for fd in added:
            os.close(fd)


def is_there(helper: TapProcess, name: str) -> bool:
    """Say whether the host has the interface *name*."""
    return any(link.name == name for link in helper.taps())


def test_the_kernel_lets_a_holder_add_queues(helper: TapProcess) -> None:
    """The control: up to 256, as long as nobody looks."""
    name, fds = granted(helper, tap_on("plain", MADE_WITH))
    helper.kill()
    with fds, more_queues(helper, name, fds[0].borrow(), MOST_OF_KERNEL):
        assert helper.find(name).data["numqueues"] == MOST_OF_KERNEL


def test_a_tap_with_more_queues_is_deleted_when_the_helper_looks(helper: TapProcess) -> None:
    """The log names the user, and one that was not changed stays."""
    name, fds = granted(helper, tap_on("plain", MADE_WITH))
    other_name, other = granted(helper, tap_on("plain", MADE_WITH))
    with fds, other, more_queues(helper, name, fds[0].borrow(), MADE_WITH + 1):
        assert wait_until(lambda: not is_there(helper, name), 6)
        stayed = is_there(helper, other_name)
    words = f"deleted '{name}', which had 3 queues instead of 2; uid {ALICE.uid}"

    assert (True, True) == (stayed, words in helper.log())


def test_a_tap_with_more_queues_is_deleted_when_the_helper_starts() -> None:
    """They were added while no helper ran; it does not take until the next look, or until it ends.

    The same for a tap whose user is denied the bridge by now: it is set down.
    """
    with running_tap_helper(STAYS, bridges=("plain",)) as helper:
        name, fds = granted(helper, tap_on("plain", MADE_WITH), BOB)
        denied, denied_fds = granted(helper, tap_on("plain", MADE_WITH), ALICE)
        helper.kill()
        helper.write_policy(f'{STAYS}deny = ["plain"]\n')
        with fds, denied_fds, more_queues(helper, name, fds[0].borrow(), MADE_WITH + 1):
            was_there = is_there(helper, name), helper.find(denied).up
            helper.start()
            gone = wait_until(lambda: not is_there(helper, name), 6)
            down = wait_until(lambda: not helper.find(denied).up, 6)
        ends = not helper.is_running()

    assert (was_there, gone, down, ends) == ((True, True), True, True, False)


def test_a_tap_that_stays_has_no_more_queues_either(helper: TapProcess) -> None:
    """Its owner may open as many as it was made with."""
    name = created(helper, tap_on("plain", MADE_WITH))
    queues = helper.inside_network(lambda: [open_queue(name) for _ in range(MADE_WITH)])
    assert wait_until(lambda: not helper.is_running(), 6)
    stayed = is_there(helper, name)
    queues.append(helper.inside_network(lambda: open_queue(name)))
    helper.start()
    assert wait_until(lambda: not helper.is_running(), 6)
    for queue in queues:
        os.close(queue)

    assert (True, False) == (stayed, is_there(helper, name))


def test_where_links_are_watched_it_is_deleted_at_once(helper: TapProcess) -> None:
    """And its user waits for the next one."""
    name, fds = granted(helper, tap_on("plain", MADE_WITH, mac=octets(ALICES)))
    locked = granted(helper, tap_on("locked", 1, mac=octets(BOBS)), BOB)[1]
    with fds, locked, more_queues(helper, name, fds[0].borrow(), MADE_WITH + 1):
        gone = wait_until(lambda: not is_there(helper, name))
        refused = ask_once(helper.path, tap_on("plain")).reply

    assert gone
    assert isinstance(refused, ErrorReply)
    assert refused.code is Code.REFUSED
    assert "added queues to it: it had 3 instead of 2" in refused.message


# -- What one queue holds


def unsegmented(flow: int) -> bytes:
    """Return a frame of 64 KiB, such as a guest with TSO sends, of one of many flows."""
    ethernet = octets("ff:ff:ff:ff:ff:ff") + octets(ALICES) + b"\x08\x00"
    total = 40 + PAYLOAD_BYTES
    header = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, total, 1, 0, 64, 6, 0, b"\x0a\0\0\x01", b"\x0a\0\0\x02"
    )
    words = sum(struct.unpack(">10H", header))
    checksum = 0xFFFF ^ ((words & 0xFFFF) + (words >> 16))
    header = header[:10] + struct.pack(">H", checksum) + header[12:]
    segment = struct.pack(">HHIIBBHHH", flow, 80, 1, 1, 0x50, 0x10, 1000, 0, 0)
    # A checksum is missing, and it is to become segments of TCP for IPv4 (linux/virtio_net.h).
    virtio = struct.pack("=BBHHHH", 1, 1, 54, 1448, 34, 16)
    return virtio + ethernet + header + segment + bytes(PAYLOAD_BYTES)


def available_mib() -> int:
    """Return how much memory the machine has left."""
    lines = dict(line.split()[:2] for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["MemAvailable:"]) // 1024


def accept_unsegmented(fds: OwnedFds) -> None:
    """Let frames of 64 KiB come, as QEMU does for a guest."""
    for fd in fds.borrow():
        fcntl.ioctl(fd, TUNSETOFFLOAD, CSUM_AND_TSO)


def test_what_an_unread_queue_holds_of_the_kernel_s_memory(
    helper: TapProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    """The figure is printed: 512 frames of 64 KiB and what the kernel adds."""
    queues = 4
    _, sender = granted(helper, tap_on("plain", 1))
    name, lazy = granted(helper, tap_on("plain", queues))
    with sender, lazy:
        accept_unsegmented(sender)
        accept_unsegmented(lazy)
        assert wait_until(lambda: "state forwarding" in helper.ip(f"-d link show {name}"))
        before = available_mib()
        for flow in range(queues * FRAMES):
            os.write(sender[0].borrow(), unsegmented(1024 + flow))
        held = (before - available_mib()) / queues
    with capsys.disabled():
        print(f"\nan unread queue of 512 frames holds {held:.0f} MiB")  # noqa: T201 - a figure

    assert 16 < held < 64
