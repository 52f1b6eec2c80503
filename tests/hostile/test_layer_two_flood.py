# SPDX-License-Identifier: LGPL-2.1-or-later
"""A tap's holder changes the tap's offloads all the time, which takes no capability.

The kernel tells of each change, so that the helper would see late, or never, that another tap took
an address.
"""

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from bpferry_wire.fds import OwnedFds
from bpferry_wire.messages import ErrorReply
from tests.hostile.test_layer_two import ALICES, BOBS, octets
from tests.hostile.test_layer_two_addresses import POLICY, THIEVES, address_of, is_there, tap
from tests.hostile.test_layer_two_queues import TUNSETOFFLOAD
from tests.support.census import wait_until
from tests.support.people import BOB, ask_once
from tests.support.tap_process import TapProcess, running_tap_helper, tap_on
from tests.support.tuns import raw_frames, set_address

pytestmark = pytest.mark.privileged

CHECKSUMS = 1
"""linux/if_tun.h: TUN_F_CSUM."""

FLOODS_S = 20
"""A process that floods ends by itself after this."""

LONGEST_S = 5
"""The most that a tap may keep another's address in a flood, on a loaded machine."""


@pytest.fixture
def helper() -> Iterator[TapProcess]:
    """Yield a helper with a bridge that locks addresses and one that does not."""
    with running_tap_helper(POLICY, bridges=("plain", "locked")) as helper:
        yield helper


@contextmanager
def flooding(queue: OwnedFds) -> Iterator[None]:
    """Change the offloads of the tap of *queue* in a process, as fast as that can."""
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            flood(queue[0].borrow())
        os._exit(0)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def flood(fd: int) -> None:
    """Switch the checksums of the tap *fd* on and off."""
    end = time.monotonic() + FLOODS_S
    while time.monotonic() < end:
        for offloads in (CHECKSUMS, 0):
            fcntl.ioctl(fd, TUNSETOFFLOAD, offloads)


def test_a_tap_that_is_changed_all_the_time_is_deleted(helper: TapProcess) -> None:
    """And its user has to wait for the next one."""
    name, flooder = tap(helper, "plain", ALICES)
    with tap(helper, "locked", BOBS, BOB)[1], flooder, flooding(flooder):
        gone = wait_until(lambda: not is_there(helper, name), 5)
        refused = ask_once(helper.path, tap_on("plain", 1)).reply

    assert gone
    assert isinstance(refused, ErrorReply)
    assert "its holder changed it all the time" in refused.message
    assert f"deleted '{name}', which was changed all the time" in helper.log()


def test_where_nobody_watches_it_is_not(helper: TapProcess) -> None:
    """The control: there, it keeps nobody from seeing anything."""
    name, flooder = tap(helper, "plain", ALICES)
    with flooder, flooding(flooder):
        assert not wait_until(lambda: not is_there(helper, name), 2)


@pytest.mark.parametrize("flooders", [0, 1, 4])
def test_how_long_a_tap_keeps_another_s_address_in_a_flood(
    helper: TapProcess, capsys: pytest.CaptureFixture[str], flooders: int
) -> None:
    """Thieves take it one after the other while another user floods; the times are printed."""
    spans = []
    with ExitStack() as stack:
        sock = stack.enter_context(helper.inside_network(lambda: raw_frames("lo")))
        stack.enter_context(tap(helper, "locked", BOBS, BOB)[1])
        thieves = [
            tap(helper, "plain", f"52:54:00:00:09:{number:02x}", person)
            for number, person in enumerate(THIEVES[:6])
        ]
        floods = [
            tap(helper, "plain", f"52:54:00:00:08:{number:02x}")[1] for number in range(flooders)
        ]
        for queue in (*floods, *(queue for _, queue in thieves)):
            stack.enter_context(queue)
        for queue in floods:
            stack.enter_context(flooding(queue))
        for name, queue in thieves:
            time.sleep(0.02)
            then = time.perf_counter()
            set_address(queue[0].borrow(), BOBS)
            while address_of(sock, name) == octets(BOBS) and time.perf_counter() - then < 10:
                time.sleep(0.0005)
            spans.append(time.perf_counter() - then)
    figures = ", ".join(f"{span * 1e3:.0f}" for span in spans)
    with capsys.disabled():
        print(f"\nanother's address, with {flooders} flooders: for {figures} ms")  # noqa: T201 - a figure

    assert max(spans) < LONGEST_S
