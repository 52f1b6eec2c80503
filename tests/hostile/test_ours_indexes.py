# SPDX-License-Identifier: LGPL-2.1-or-later
"""Numbers and spare taps: what was deleted on the host is not mistaken for something else."""

import errno
import subprocess

import pytest

from bpferry_helper.errors import RequestError
from bpferry_helper.tap import nursery
from bpferry_helper.tap.netlink import LinkError
from bpferry_wire.errors import Code
from bpferry_wire.messages import ErrorReply, TapReply
from tests.helper.tap.own_host import Host, on_own_host, order
from tests.support.census import wait_until
from tests.support.people import ask_once
from tests.support.tap_process import TapProcess, granted, running_tap_helper, tap_on

pytestmark = pytest.mark.privileged


# -- numbers


def indexes_of_ten_taps(host: Host) -> list[int]:
    """Return the numbers of the next ten taps on the host."""
    made = [host.make(order()) for _ in range(10)]
    for tap in made:
        tap.fds.close()
    return [tap.ifindex for tap in made]


def test_a_tap_has_no_number_that_a_deleted_link_may_have_had() -> None:
    """The kernel counts upwards from 1; a rule may still name the number of what is gone."""
    indexes = on_own_host(indexes_of_ten_taps)

    assert min(indexes) >= 2**30
    assert len(set(indexes)) == 10


def test_the_kernel_would_give_taps_the_numbers_of_deleted_links() -> None:
    """The control: those of our own namespace begin at 2, and are kept where they are free."""

    def act(host: Host) -> list[int]:
        vars(nursery)["new_index"] = lambda: 0
        return indexes_of_ten_taps(host)

    # On the host, 1 is lo and 2 the bridge: what was deleted there had a number from 3 on.
    assert set(range(3, 11)) <= set(on_own_host(act))


def test_a_number_that_is_in_use_on_the_host_costs_no_tap() -> None:
    """The kernel gives another one then; it is the helper's luck of one in a billion."""

    def act(host: Host) -> tuple[bool, int]:
        vars(nursery)["new_index"] = lambda: 2**30
        first, second = host.make(order()), host.make(order())
        there = {tap.ifindex for tap in host.links.taps(("bft",))}
        first.fds.close()
        second.fds.close()
        return first.ifindex != second.ifindex, len(there & {first.ifindex, second.ifindex})

    assert (True, 2) == on_own_host(act)


def test_what_we_choose_does_not_change_how_the_host_counts() -> None:
    """The next link of the administrator's has the number that it would have had."""
    with running_tap_helper() as helper:
        before = helper.find("br0").ifindex
        granted(helper, tap_on())[1].close()
        helper.ip("link add next type bridge")
        after = helper.find("next").ifindex

    assert after == before + 1


# -- spares


def with_spares(helper: TapProcess) -> list[str]:
    """Return the names of the two spares that wait after two requests, the older one first.

    It is certain of the older that the helper has finished it: one thread makes them in turn.
    """
    seen: set[str] = set()
    for _ in range(2):
        older = seen
        granted(helper, tap_on())[1].close()
        assert wait_until(helper.only_spares), helper.taps()
        seen = {tap.name for tap in helper.taps()}
    return sorted(seen, key=lambda name: name not in older)


@pytest.mark.parametrize("deleted", [1, 2])
def test_spares_that_somebody_deleted_cost_no_request(deleted: int) -> None:
    """Another tap is made, and new spares after it; the journal says what happened."""
    with running_tap_helper() as helper:
        names = with_spares(helper)
        for name in names[:deleted]:
            helper.ip(f"link delete dev {name}")
        replies = []
        for _ in range(3):
            answered = ask_once(helper.path, tap_on())
            answered.fds.close()
            replies.append(answered.reply)
        again = wait_until(helper.only_spares)
        said = helper.log()

    assert [TapReply] * 3 == [type(reply) for reply in replies], replies
    assert again
    assert "was deleted" in said, said


def test_a_spare_s_number_that_is_another_s_now_is_not_touched() -> None:
    """The administrator's link with it is not put on the bridge, as by number it would be."""
    with running_tap_helper() as helper:
        for number, name in enumerate(with_spares(helper)):
            index = helper.find(name).ifindex
            helper.ip(f"link delete dev {name}")
            peer = f"peer name peer{number}"
            helper.ip(f"link add name office{number} index {index} type veth {peer}")
        answered = ask_once(helper.path, tap_on())
        answered.fds.close()
        masters = {link.master for link in helper.interfaces() if link.name.startswith("office")}

    assert isinstance(answered.reply, TapReply)
    assert {""} == masters


def test_by_number_an_administrator_s_link_would_be_put_on_the_bridge() -> None:
    """The control: a message that names the spare's index."""

    def act(host: Host) -> int:
        index = 2**30 + 7
        words = f"ip link add name office index {index} type veth peer name peer"
        subprocess.run(words.split(), check=True)
        own = host.maker._nursery._own
        with host.netlink.namespace() as there:
            own.give(index, there.borrow(), [], up=False)
        bridge = host.links.expect("br0").ifindex
        host.links.set(index, [("IFLA_MASTER", bridge)], up=True)
        return int(host.links.expect("office").master == bridge)

    assert on_own_host(act) == 1


def test_spares_that_are_deleted_all_the_time_are_no_missing_bridge() -> None:
    """After three times the user is told to try again, and not that there is no bridge."""

    def act(host: Host) -> str:
        def gone(_name: str, _attributes: object, *, up: bool) -> None:
            raise LinkError(f"no such link {up}", errno.ENODEV)

        keeper = host.maker._nursery

        def spare(queues: int, *, stays: bool) -> nursery.Newborn:
            return keeper._bear("bft", queues)._replace(is_spare=not stays)

        vars(keeper._host)["set_named"], vars(keeper)["take"] = gone, spare
        try:
            host.make(order())
        except RequestError as error:
            return error.code.value
        return ""

    assert Code.BUSY.value == on_own_host(act)


def test_a_bridge_that_is_gone_is_still_said_to_be_gone() -> None:
    """Also when the next tap would have been a spare."""
    with running_tap_helper() as helper:
        with_spares(helper)
        helper.ip("link delete dev br0")
        reply = ask_once(helper.path, tap_on()).reply

    assert isinstance(reply, ErrorReply)
    assert reply.code is Code.NO_SUCH_BRIDGE
