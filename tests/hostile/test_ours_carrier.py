# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether a tap is open is the kernel's word, and not the carrier's, which is its holder's."""

import fcntl
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpferry_helper.tap.census import Census
from bpferry_helper.tap.link_codec import Link
from bpferry_wire.errors import Code
from bpferry_wire.messages import Delete, DeleteReply, ErrorReply, ListReply, ListTaps
from tests.helper.tap.own_host import Host, on_own_host, order
from tests.support.census import wait_until
from tests.support.people import ALICE, ask_once
from tests.support.tap_process import TapProcess, created, running_tap_helper, tap_on
from tests.support.tuns import FLAGS, TUNSETPERSIST, become, children, open_queue, set_carrier

pytestmark = pytest.mark.privileged


@pytest.fixture(scope="module")
def helper() -> Iterator[TapProcess]:
    """Yield a helper that the tests of this file share."""
    with running_tap_helper() as helper:
        yield helper


def hold_without_carrier(helper: TapProcess, name: str) -> None:
    """Open the tap *name* as Alice, who has no capability, and switch its carrier off."""
    become(helper, ALICE)
    set_carrier(open_queue(name, FLAGS), on=False)
    signal.pause()


def has_carrier(helper: TapProcess, name: str) -> bool:
    """Say whether ``ip`` shows a carrier for the tap *name*, which is switched on."""
    (link,) = json.loads(helper.ip(f"-json link show dev {name}"))
    return "NO-CARRIER" not in link["flags"]


def list_of(helper: TapProcess) -> list[tuple[str, int]]:
    """Return Alice's taps and how many of their queues are open, as she is told."""
    reply = ask_once(helper.path, ListTaps()).reply
    assert isinstance(reply, ListReply), reply
    return [(tap.interface, tap.queues) for tap in reply.taps]


def test_a_tap_of_one_queue_that_is_open_without_carrier_is_not_deleted(helper: TapProcess) -> None:
    """It is shown as open; and is deleted as soon as nobody has it."""
    name = created(helper, tap_on(queues=1))
    with children([lambda: hold_without_carrier(helper, name)]):
        time.sleep(1)  # The look below opens the tap, and must not do so before the child has.
        hidden = wait_until(lambda: not has_carrier(helper, name) and opened(helper, name))
        refused = ask_once(helper.path, Delete(name)).reply
        listed = list_of(helper)
    time.sleep(1)  # The helper answers only so many lists.
    wait_until(lambda: list_of(helper) == [(name, 0)])
    deleted = ask_once(helper.path, Delete(name)).reply

    assert hidden
    assert isinstance(refused, ErrorReply)
    assert (Code.BUSY, [(name, 1)], DeleteReply(name)) == (refused.code, listed, deleted)


def opened(helper: TapProcess, name: str) -> bool:
    """Say whether somebody has the tap *name* of one queue, which nobody else can open then."""
    try:
        helper.inside_network(lambda: open_queue(name, FLAGS))
    except OSError:
        return True
    return False


def sweep_of_an_open_tap(host: Host) -> bool:
    """Say whether a sweep deletes a tap that is open, persistent and without carrier."""
    made = host.make(order(queues=1))
    queue = made.fds[0].borrow()
    fcntl.ioctl(queue, TUNSETPERSIST, 1)
    set_carrier(queue, on=False)
    census = Census(host.links)
    census.sweep()
    return not host.links.taps(("bft",))


def test_the_sweeper_leaves_an_open_tap_without_carrier() -> None:
    """Its holder may still mean to use it."""
    assert not on_own_host(sweep_of_an_open_tap)


def test_by_the_carrier_an_open_tap_would_be_swept() -> None:
    """The control: the holder has switched it off."""

    def act(host: Host) -> bool:
        def by_carrier(tap: Link) -> int:
            return int(Path(f"/sys/class/net/{tap.name}/carrier").read_text(encoding="ascii"))

        host.links.open_queues = by_carrier  # type: ignore[method-assign]
        return sweep_of_an_open_tap(host)

    assert on_own_host(act)


@pytest.mark.parametrize("queues", [1, 4])
def test_each_open_queue_is_counted(queues: int) -> None:
    """Those that are switched off too; and none once the last is closed."""

    def act(host: Host) -> list[int]:
        made = host.make(order(queues=queues, stays=True))
        counts = [host.links.open_queues(host.links.expect(made.name))]
        made.fds.close()
        return [*counts, host.links.open_queues(host.links.expect(made.name))]

    assert [queues, 0] == on_own_host(act)
