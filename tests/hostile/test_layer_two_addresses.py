# SPDX-License-Identifier: LGPL-2.1-or-later
"""A tap's holder gives the tap another machine's address (SIOCSIFHWADDR, without a capability).

The bridge takes it for the tap's own. What the host sends there goes to the tap, and what others
send there ends at the host. Where a port with address-lock is alive the helper sees it happen.
"""

import fcntl
import os
import re
import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from bpferry_helper.errors import RequestError
from bpferry_helper.identity import Peer
from bpferry_helper.tap.penalties import LONGEST_S as LONGEST_PENALTY_S
from bpferry_helper.tap.penalties import MAX_KNOWN, Penalties
from bpferry_wire.errors import Code
from bpferry_wire.fds import OwnedFds
from bpferry_wire.messages import Can, CanReply, ErrorReply
from tests.hostile.test_layer_two import ALICES, BOBS, octets, reaches
from tests.support.census import wait_until
from tests.support.people import ALICE, BOB, Person, ask_once, connect
from tests.support.tap_process import OPEN_POLICY, TapProcess, granted, running_tap_helper, tap_on
from tests.support.tuns import HWADDR, VNET_HEADER, frame, frames_in, raw_frames, set_address

pytestmark = pytest.mark.privileged

GATEWAY = "52:54:00:00:00:fe"
"""A machine elsewhere, whose address the bridge does not know as a port's."""

SIOCGIFHWADDR = 0x8927
"""linux/sockios.h."""

ROUNDS = 40
LONGEST_S = 0.25
"""The most that a tap may keep another's address, on a loaded machine."""

THIEVES = tuple(Person(1_700_100 + number) for number in range(ROUNDS))
"""One for each round: a user who is caught has to wait."""

POLICY = f"""{OPEN_POLICY}
{"".join(f"[users.{thief.uid}]{chr(10)}bridges = ['*']{chr(10)}" for thief in THIEVES)}
[bridges.locked]
address-lock = true
[service]
idle-exit-seconds = 1
"""


@pytest.fixture
def helper() -> Iterator[TapProcess]:
    """Yield a helper that would end after a quiet second."""
    with running_tap_helper(POLICY, bridges=("plain", "locked")) as helper:
        yield helper


def tap(
    helper: TapProcess, bridge: str, address: str, person: Person = ALICE
) -> tuple[str, OwnedFds]:
    """Return name and queue of a tap on *bridge* for the card with *address*."""
    return granted(helper, tap_on(bridge, 1, mac=octets(address)), person)


def is_there(helper: TapProcess, name: str) -> bool:
    """Say whether the host has the interface *name*."""
    return any(link.name == name for link in helper.taps())


def host_reaches(helper: TapProcess, bridge: str, receiver: OwnedFds, address: str) -> bool:
    """Say whether a frame from the host to *address* comes to *receiver*."""
    with suppress(OSError):
        list(frames_in(receiver[0].borrow()))
    sock = helper.inside_network(lambda: raw_frames(bridge))
    with sock:
        sock.send(frame(helper.find(bridge).address, address)[len(VNET_HEADER) :])
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        with suppress(OSError):
            if any(got[12:14] == b"\x88\xb5" for got in frames_in(receiver[0].borrow())):
                return True
    return False


def address_of(sock: socket.socket, name: str) -> bytes:
    """Return the address of the interface *name* in the network of *sock*; empty if it is gone."""
    try:
        answer = fcntl.ioctl(sock, SIOCGIFHWADDR, HWADDR.pack(name.encode(), 0, b""))
    except OSError:
        return b""
    return bytes(HWADDR.unpack(answer)[2])


@pytest.mark.parametrize("stolen", [BOBS, GATEWAY], ids=["a neighbour's", "the gateway's"])
def test_without_address_lock_a_holder_gets_what_the_host_sends(
    helper: TapProcess, stolen: str
) -> None:
    """The control: no port on this host is locked, so nobody watches."""
    _, thief = tap(helper, "plain", ALICES)
    _, victim = tap(helper, "plain", BOBS, BOB)
    with thief, victim:
        os.write(victim[0].borrow(), frame(BOBS))
        set_address(thief[0].borrow(), stolen)
        time.sleep(LONGEST_S)

        assert host_reaches(helper, "plain", thief, stolen)
        assert not reaches(thief, victim, frame(ALICES, BOBS)) or stolen is GATEWAY


@pytest.mark.parametrize("stolen", [BOBS, GATEWAY], ids=["a neighbour's", "the gateway's"])
def test_a_tap_that_takes_another_s_address_is_deleted(helper: TapProcess, stolen: str) -> None:
    """And the neighbour sends and receives as before."""
    name, thief = tap(helper, "locked", ALICES)
    _, victim = tap(helper, "locked", BOBS, BOB)
    _, friend = tap(helper, "locked", "52:54:00:00:00:03", BOB)
    with thief, victim, friend:
        set_address(thief[0].borrow(), stolen)
        gone = wait_until(lambda: not is_there(helper, name))
        sees = host_reaches(helper, "locked", victim, BOBS)
        sends = reaches(victim, friend, frame(BOBS))
        receives = reaches(friend, victim, frame("52:54:00:00:00:03", BOBS))

    assert (True, True, True, True) == (gone, sees, sends, receives)


def test_a_tap_of_another_bridge_is_watched_as_well(helper: TapProcess) -> None:
    """As long as any port of the host is locked; after that nobody is."""
    name, thief = tap(helper, "plain", ALICES)
    with tap(helper, "locked", BOBS, BOB)[1], thief:
        set_address(thief[0].borrow(), GATEWAY)

        assert wait_until(lambda: not is_there(helper, name))


@pytest.mark.parametrize("pause_s", [0.0, 0.15], ids=["while taps are made", "at rest"])
def test_how_long_a_tap_keeps_another_s_address(
    helper: TapProcess, capsys: pytest.CaptureFixture[str], pause_s: float
) -> None:
    """From the call that takes it until the tap has its own again; the figure is printed.

    Just after a tap was asked for, the helper makes spare ones, which holds the kernel's lock.
    """
    sock = helper.inside_network(lambda: raw_frames("lo"))
    spans = []
    with sock, tap(helper, "locked", BOBS, BOB)[1]:
        for person in THIEVES:
            name, thief = tap(helper, "locked", ALICES, person)
            with thief:
                time.sleep(pause_s)
                then = time.perf_counter()
                set_address(thief[0].borrow(), BOBS)
                while address_of(sock, name) == octets(BOBS):
                    pass
                spans.append(time.perf_counter() - then)
                assert wait_until(lambda name=name: not is_there(helper, name))  # type: ignore[misc]
    with capsys.disabled():
        print(  # noqa: T201 - a figure that people want to see
            f"\nanother's address, {pause_s} s after the tap was made: for "
            f"{statistics.median(spans) * 1e3:.2f} ms (median), "
            f"{max(spans) * 1e3:.2f} ms at most, of {ROUNDS}"
        )

    assert max(spans) < LONGEST_S


def test_the_helper_stays_while_a_port_is_locked(helper: TapProcess) -> None:
    """It would end after a second; and does, once the tap is gone."""
    _, fds = tap(helper, "locked", ALICES)
    with fds:
        time.sleep(2.5)
        stayed = helper.is_running()
    assert (True, True) == (stayed, wait_until(lambda: not helper.is_running(), 5))


def test_a_helper_that_was_killed_mends_it_when_it_is_back(helper: TapProcess) -> None:
    """What was done meanwhile is seen at the start."""
    name, thief = tap(helper, "locked", ALICES)
    _, victim = tap(helper, "locked", BOBS, BOB)
    with thief, victim:
        helper.kill()
        set_address(thief[0].borrow(), BOBS)
        helper.start()
        connect(helper.path).close()
        gone = wait_until(lambda: not is_there(helper, name))

        assert (True, True) == (gone, host_reaches(helper, "locked", victim, BOBS))


def test_who_is_caught_waits_for_the_next_tap(helper: TapProcess) -> None:
    """The user who asked for the tap, longer each time; others do not."""
    wanted = tap_on("plain", 1)
    thefts = [tap(helper, "plain", f"52:54:00:00:01:0{number}") for number in range(2)]
    with tap(helper, "locked", BOBS, BOB)[1]:
        waits = []
        for name, thief in thefts:
            with thief, suppress(OSError):
                while True:
                    set_address(thief[0].borrow(), GATEWAY)
            assert wait_until(lambda name=name: not is_there(helper, name))  # type: ignore[misc]
            refused = ask_once(helper.path, wanted).reply
            assert isinstance(refused, ErrorReply)
            assert refused.code is Code.REFUSED
            waits.append(int(re.findall(r"try again in (\d+) s", refused.hint)[0]))
        foretold = ask_once(helper.path, Can(wanted)).reply
        granted(helper, wanted, BOB)[1].close()
    assert wait_until(lambda: len(_told(helper)) == 2)
    lines = _told(helper)

    assert isinstance(foretold, CanReply)
    assert not foretold.allowed
    assert 8 <= waits[0] <= 10 < waits[1] <= 20
    assert f"uid {ALICE.uid}" in lines[0]
    assert lines[0].endswith("no other tap for that user for 10 s")


def _told(helper: TapProcess) -> list[str]:
    return [line for line in helper.log().splitlines() if "gave the address" in line]


def test_penalties_grow_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is twice the last one, up to an hour; after a quiet hour it begins again."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    kept, peer = Penalties(), Peer(ALICE.uid, frozenset(), 1)
    lengths = [kept.add(peer.uid, tap, "was bad") for tap in (1, 1, 2, 1, *range(3, 13))]
    with pytest.raises(RequestError, match="because its holder was bad"):
        kept.check(peer)
    now[0] += LONGEST_PENALTY_S
    kept.check(peer)
    now[0] += LONGEST_PENALTY_S

    assert lengths == [10, 0, 20, 0, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600, 3600]
    assert kept.add(peer.uid, 99, "was bad") == 10


def test_few_penalties_are_remembered() -> None:
    """However many users there are; the shortest is forgotten first."""
    kept = Penalties()
    for tap in (1, 2):
        kept.add(ALICE.uid, tap, "was bad")
    for uid in range(MAX_KNOWN):
        kept.add(uid, 3, "was bad")

    kept.check(Peer(0, frozenset(), 1))
    for uid in (ALICE.uid, MAX_KNOWN - 1):
        with pytest.raises(RequestError):
            kept.check(Peer(uid, frozenset(), 1))
