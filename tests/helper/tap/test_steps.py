# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each step of making a tap fails once, and nothing is left; names that are taken; spares."""

import errno
import fcntl
import os
import resource
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from bpferry_helper.errors import RequestError
from bpferry_helper.policy.rules import Port
from bpferry_helper.tap import maker, nursery, tun
from bpferry_helper.tap.census import Census
from bpferry_helper.tap.links import Links
from bpferry_helper.tap.netlink import LinkError
from bpferry_wire.errors import Code
from tests.helper.tap.own_host import CLOSED, PLAIN, Host, on_own_host, order
from tests.support.census import wait_until
from tests.support.tuns import MULTI, TUNSETPERSIST, attach_error, open_queue

pytestmark = pytest.mark.privileged


class Outcome(NamedTuple):
    """What a request came to, and what there was before and after."""

    code: Code | None
    hint: str
    before: tuple[int, int, list[str]]
    after: tuple[int, int, list[str]]


def made_on(host: Host, wanted: maker.Order) -> Outcome:
    """Make *wanted* and give it back at once."""
    before = host.left()
    try:
        host.make(wanted).fds.close()
    except RequestError as error:
        return Outcome(error.code, error.hint, before, host.left())
    return Outcome(None, "", before, host.left())


def failing(number: int, at_call: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return *function*, but its call *at_call* (from 1) ends in an error of the kernel."""
    calls = 0

    def call(*arguments: Any, **more: Any) -> Any:  # noqa: ANN401 - whatever it takes
        nonlocal calls
        calls += 1
        if calls == at_call:
            raise LinkError("cannot do that", number)
        return function(*arguments, **more)

    return call


# Which method of Links fails at which call: those of one request, in their order.
STEPS = [
    ("find", 1, "look"),
    ("set_address", 1, "secure"),
    ("expect", 1, "make"),
    ("set_queue_length", 1, "limit its queues"),
    ("give", 1, "give"),
    ("expect", 2, "check"),
    ("set_port", 1, "set the port"),
    ("is_locked", 1, "look at the lock"),
    ("add_static_address", 1, "claim"),
    ("set", 1, "switch on"),
]
STEP_IDS = [step[2] for step in STEPS]


@pytest.mark.parametrize(("method", "at_call", "_step"), STEPS, ids=STEP_IDS)
@pytest.mark.parametrize("stays", [False, True], ids=["goes", "stays"])
def test_a_step_that_the_kernel_refuses_leaves_nothing(
    method: str,
    at_call: int,
    _step: str,
    stays: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """No tap in either network, no fd, and an error with a hint."""

    def act(host: Host) -> Outcome:
        setattr(Links, method, failing(errno.EPERM, at_call, getattr(Links, method)))
        return made_on(host, order(stays=stays, port=CLOSED))

    outcome = on_own_host(act)

    assert (Code.FAILED, "see the journal of bpferry-tap") == (outcome.code, outcome.hint)
    assert outcome.before == outcome.after


def test_a_kernel_that_cannot_lock_a_port_gets_no_tap_where_that_is_wanted() -> None:
    """An old one passes over what it does not know; so the port is looked at, and nothing left."""

    def act(host: Host) -> Outcome:
        set_port = Links.set_port

        def old(links: Links, index: int, settings: dict[str, bool]) -> None:
            set_port(links, index, {name: on for name, on in settings.items() if name != "LOCKED"})

        Links.set_port = old  # type: ignore[method-assign, assignment] # a child of ours
        return made_on(host, order(port=CLOSED))

    outcome = on_own_host(act)

    assert (Code.UNSUPPORTED, True) == (outcome.code, "Linux 5.16" in outcome.hint)
    assert outcome.before == outcome.after


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (errno.ETIMEDOUT, Code.BUSY, "locked"),
        (errno.EXFULL, Code.FAILED, "1,023 ports"),
        (errno.ENODEV, Code.BUSY, "deleted"),
        (errno.ENOBUFS, Code.FAILED, "journal"),
    ],
)
def test_an_error_is_put_in_words(number: int, code: Code, words: str) -> None:
    """Those that somebody can do something about have their own hint."""

    def act(host: Host) -> Outcome:
        setattr(Links, "give", failing(number, 1, Links.give))  # noqa: B010 - as above
        return made_on(host, order())

    outcome = on_own_host(act)

    assert (code, True) == (outcome.code, words in outcome.hint)
    assert outcome.before == outcome.after


# Which ioctl fails: of the first queue, of a later one, of its owner, of what makes it stay.
IOCTLS = [
    (tun.TUNSETIFF, 1),
    (tun.TUNSETIFF, 2),
    (tun.TUNSETIFF, 4),
    (tun.TUNSETOWNER, 1),
    (tun.TUNSETOWNER, 2),
    (tun.TUNSETPERSIST, 1),
]


@pytest.mark.parametrize(("request_", "at_call"), IOCTLS)
def test_an_ioctl_that_fails_leaves_nothing(request_: int, at_call: int) -> None:
    """Neither the queues before it, nor a tap that is half its user's."""

    def act(host: Host) -> Outcome:
        real, calls = fcntl.ioctl, 0

        def ioctl(fd: Any, number: int, *rest: Any) -> Any:  # noqa: ANN401 - as fcntl's
            nonlocal calls
            calls += number == request_
            if (number, calls) == (request_, at_call):
                raise OSError(errno.EBUSY, "Device or resource busy")
            return real(fd, number, *rest)

        fcntl.ioctl = ioctl
        return made_on(host, order(stays=True, queues=4))

    outcome = on_own_host(act)

    assert Code.FAILED == outcome.code
    assert outcome.before == outcome.after


def test_no_fd_for_a_queue_leaves_nothing() -> None:
    """At the limit of open files."""

    def act(host: Host) -> Outcome:
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        return made_on(host, order(queues=64))

    outcome = on_own_host(act)

    assert Code.FAILED == outcome.code
    assert outcome.before == outcome.after


def test_a_tap_is_made_and_goes() -> None:
    """The control: with nothing broken it is made, and with its fds it is gone."""
    outcomes = [
        on_own_host(lambda host, port=port: made_on(host, order(port=port)))  # type: ignore[misc]
        for port in (PLAIN, CLOSED)
    ]

    assert [None, None] == [outcome.code for outcome in outcomes]
    assert all(outcome.before == outcome.after for outcome in outcomes)


def test_a_bridge_that_goes_between_look_and_give_is_a_named_error() -> None:
    """In mid-request, as a hook does it here each time."""

    def act(host: Host) -> Outcome:
        real = Links.give

        def give(links: Links, *arguments: Any, **more: Any) -> None:  # noqa: ANN401 - as it
            host.links.delete(bridge)
            real(links, *arguments, **more)

        found = host.links.find("br0")
        assert found is not None
        bridge = found.ifindex
        setattr(Links, "give", give)  # noqa: B010 - mypy would not have it
        return made_on(host, order())

    outcome = on_own_host(act)

    assert Code.NO_SUCH_BRIDGE == outcome.code
    assert outcome.before == outcome.after


def test_a_tap_that_somebody_moves_off_its_bridge_is_not_handed_over() -> None:
    """The last step looks where it is."""

    def act(host: Host) -> Outcome:
        real = Links.expect

        def expect(links: Links, name: str) -> Any:  # noqa: ANN401 - a Link
            return real(links, name)._replace(master=0)

        setattr(Links, "expect", expect)  # noqa: B010 - as above
        return made_on(host, order())

    assert Code.BUSY == on_own_host(act).code


# -- T5: names that are taken


def name_them(*names: str) -> None:
    """Let new taps have these random names, one after the other, and then the last of them."""
    left = list(names)

    def new_name(prefix: str) -> str:
        return prefix + (left.pop(0) if len(left) > 1 else left[0])

    setattr(nursery, "new_name", new_name)  # noqa: B010 - in a process of its own


def persistent_tap(name: str) -> None:
    """Make a tap in our network that stays, as somebody else's that was there before."""
    queue = open_queue(name, MULTI)
    fcntl.ioctl(queue, TUNSETPERSIST, 1)
    os.close(queue)


@pytest.mark.parametrize("stays", [False, True], ids=["goes", "stays"])
def test_an_existing_tap_of_our_own_network_is_never_joined(
    stays: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """IFF_TUN_EXCL: a name that is taken is an error; the control shows that it could be joined."""

    def act(host: Host) -> tuple[int, Outcome]:
        name_them("000000000000")
        persistent_tap("bft000000000000")
        persistent_tap("bfp000000000000")
        return attach_error("bft000000000000", MULTI), made_on(host, order(stays=stays))

    joined, outcome = on_own_host(act)

    assert (0, Code.FAILED) == (joined, outcome.code)
    assert outcome.before == outcome.after


def test_a_name_that_is_taken_on_the_host_is_not_used() -> None:
    """Another one is taken; what was made under the first is gone."""

    def act(host: Host) -> tuple[str, list[str]]:
        persistent_tap("bft000000000000")
        index = host.maker._nursery._own.expect("bft000000000000").ifindex
        with host.netlink.namespace() as there:
            host.maker._nursery._own.give(index, there.borrow(), [], up=False)
        name_them("000000000000", "000000000001")
        made = host.make(order())
        taps = [tap.name for tap in host.links.taps(("bft",))]
        made.fds.close()
        return made.name, taps

    assert ("bft000000000001", ["bft000000000000", "bft000000000001"]) == on_own_host(act)


def test_three_names_that_are_taken_are_an_error() -> None:
    """There is an end to trying."""

    def act(host: Host) -> Outcome:
        persistent_tap("bft000000000000")
        index = host.maker._nursery._own.expect("bft000000000000").ifindex
        with host.netlink.namespace() as there:
            host.maker._nursery._own.give(index, there.borrow(), [], up=False)
        name_them("000000000000")
        return made_on(host, order())

    outcome = on_own_host(act)

    assert (Code.FAILED, True) == (outcome.code, "names that were tried" in outcome.hint)
    assert outcome.before == outcome.after


# -- spares


def spares_of(host: Host) -> list[str]:
    """Return the names of the taps that wait, as the kernel has them."""
    return [tap.name for tap in host.links.taps(("bft",)) if tap.alias == "bpferry spare"]


def test_spares_are_made_given_once_and_made_again() -> None:
    """Two wait after the first request; nobody gets one that another had."""

    def act(host: Host) -> tuple[int, int, int]:
        names = []
        for _ in range(12):
            made = host.make(order())
            names.append(made.name)
            made.fds.close()
            # The nursery works as we ask: now it is there with a spare, and now too late.
            wait_until(lambda: len(spares_of(host)) == 2, 0.02)
        refilled = wait_until(lambda: len(spares_of(host)) == 2)
        return len(set(names)), int(refilled), len(Census(host.links).alive())

    assert (12, 1, 0) == on_own_host(act, spares=2)


def test_a_spare_is_made_when_whoever_got_a_tap_had_time_to_use_it() -> None:
    """Making one holds the RTNL lock. If none is left, the next one who asks would wait longer."""

    def act(host: Host) -> list[bool]:
        nursery.PAUSE_S = 1.0  # type: ignore[misc] # a child of ours, as on_own_host says
        taken = []
        for left in (0, 1):
            host.make(order()).fds.close()
            begun = time.monotonic()
            wait_until(lambda left=left: len(spares_of(host)) > left)  # type: ignore[misc]
            taken.append(time.monotonic() - begun)
            wait_until(lambda: len(spares_of(host)) == 2)
        return [seconds > 0.8 for seconds in taken]

    assert [False, True] == on_own_host(act, spares=2)


def test_spares_of_another_size_are_replaced() -> None:
    """As many queues as were asked for last; the others are closed."""

    def act(host: Host) -> list[int | None]:
        sizes = []
        for queues in (2, 5):
            host.make(order(queues=queues)).fds.close()
            wait_until(
                lambda queues=queues: (  # type: ignore[misc]
                    [tap.queues for tap in host.links.taps(("bft",))] == [queues] * 2
                )
            )
            sizes += [tap.queues for tap in host.links.taps(("bft",))]
        return sizes

    assert [2, 2, 5, 5] == on_own_host(act, spares=2)


def test_a_spare_that_cannot_be_made_harms_no_request() -> None:
    """It is tried again when somebody asks; and none of the failed ones is left."""

    def act(host: Host) -> tuple[list[str], int]:
        host.maker._nursery._send_ahead = failing(  # type: ignore[method-assign]
            errno.EPERM, 1, host.maker._nursery._send_ahead
        )
        for _ in range(3):
            host.make(order()).fds.close()
        settled = wait_until(lambda: len(spares_of(host)) == 2)
        wait_until(lambda: len(host.links.taps(("bft",))) == 2)
        return [tap.alias for tap in host.links.taps(("bft",))], int(settled)

    assert (["bpferry spare"] * 2, 1) == on_own_host(act, spares=2)


def test_a_spare_has_what_a_new_tap_has() -> None:
    """Owner, bridge, MTU, alias and settings: nobody can tell which it was."""

    def act(host: Host) -> list[tuple[Any, ...]]:
        seen: list[tuple[Any, ...]] = []
        for port in (PLAIN, Port(isolated=True)) * 2:
            wait_until(lambda: len(spares_of(host)) == 2 or not seen)
            made = host.make(order(port=port))
            tap = host.links.find(made.name)
            assert tap is not None
            seen.append((tap.owner, tap.master, tap.mtu, tap.alias, tap.queues, tap.address[:2]))
            made.fds.close()
        return seen

    assert 1 == len(set(on_own_host(act, spares=2)))
