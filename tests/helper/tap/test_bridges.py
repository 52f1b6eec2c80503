# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bridges by name: what is one, what is not, and what may happen to one meanwhile (T4)."""

import subprocess

import pytest

from bpferry_wire import limits
from bpferry_wire.errors import Code
from bpferry_wire.messages import Create, ErrorReply
from tests.support import packets
from tests.support.people import Ended, ask, ask_once, connect, send_raw
from tests.support.tap_process import TapProcess, granted, running_tap_helper, tap_on
from tests.support.tuns import name_of

pytestmark = [pytest.mark.privileged, pytest.mark.usefixtures("nothing_left")]

JUMBO = 9000
FLICKER = "while ip link add brx type bridge; do sleep 0.005; ip link delete brx; done"
LONGEST = "b" * limits.MAX_INTERFACE_BYTES


@pytest.fixture(scope="module", autouse=True)
def _links(tap_helper: TapProcess) -> None:
    """Put on the host what is a bridge, and what is not."""
    tap_helper.bridge(LONGEST)
    tap_helper.bridge("jumbo")
    # One that has its MTU from when it was made follows its ports.
    tap_helper.ip(f"link set jumbo mtu {JUMBO}")
    tap_helper.bridge("off")
    tap_helper.ip("link set dev off down")
    tap_helper.ip("link property add dev br0 altname other-name")
    tap_helper.ip("link add name pair0 type veth peer name pair1")
    tap_helper.ip("link add name above link br0 type macvlan")


# -- T4: names

NO_NAMES = {
    "empty": "",
    "a dot": ".",
    "two dots": "..",
    "a path": "../br0",
    "a slash": "br/0",
    "a space": "br 0",
    "a space at its end": "br0 ",
    "a tab": "br0\t",
    "a newline": "br0\n",
    "a colon": "br0:1",
    "a format": "br%d",
    "a percent sign": "%s%n",
    "a wildcard": "br*",
    "NUL": "br0\0",
    "NUL within": "br0\0x",
    "a letter that looks alike": "b\u0433",
    "full width": "\uff42\uff52\uff10",
    "an accent": "br\u00f6",
    "a quote": "br0'",
    "a dash first": "-br0",
}
NO_BRIDGES = {
    "not there": "br9",
    "the loopback": "lo",
    "all": "all",
    "default": "default",
    "another case": "BR0",
    "another name of a bridge": "other-name",
    "one of a pair": "pair0",
    "a link above a bridge": "above",
    "cut by one": LONGEST[:-1],
}


@pytest.mark.parametrize("name", (NO_NAMES | NO_BRIDGES).values(), ids=NO_NAMES | NO_BRIDGES)
def test_what_is_not_a_bridge_is_refused(tap_helper: TapProcess, name: str) -> None:
    """With its code and a hint, and the connection stays."""
    with connect(tap_helper.path) as sock:
        replies = [ask(sock, request).reply for request in (tap_on(name), Create(tap_on(name)))]

    codes = [reply.code for reply in replies if isinstance(reply, ErrorReply) and reply.hint]
    assert [Code.NO_SUCH_BRIDGE] * 2 == codes


def test_a_name_that_is_too_long_is_a_bad_request(tap_helper: TapProcess) -> None:
    """It is not cut: the bridge of its first fifteen bytes is there."""
    packet = packets.packed({"v": 1, "op": "tap", "bridge": f"{LONGEST}b", "queues": 1})

    assert send_raw(tap_helper.path, packet) == Ended(Code.BAD_REQUEST, closed=True)


def test_bytes_that_are_no_text_are_a_bad_request(tap_helper: TapProcess) -> None:
    """The kernel would take them as a name."""
    text = packets.packed({"v": 1, "op": "tap", "bridge": "zz", "queues": 1})
    packet = text.replace(b"zz", b"\xff\xfe")

    assert send_raw(tap_helper.path, packet) == Ended(Code.BAD_REQUEST, closed=True)


def test_a_tap_is_not_a_bridge(tap_helper: TapProcess) -> None:
    """Not even the asking user's own."""
    name, fds = granted(tap_helper, tap_on())
    with fds:
        reply = ask_once(tap_helper.path, tap_on(name)).reply

    assert isinstance(reply, ErrorReply)
    assert reply.code == Code.NO_SUCH_BRIDGE


@pytest.mark.parametrize("bridge", ["br0", LONGEST, "off"])
def test_a_tap_is_on_the_bridge_that_was_named(tap_helper: TapProcess, bridge: str) -> None:
    """And switched on, whether the bridge is or not."""
    name, fds = granted(tap_helper, tap_on(bridge))
    with fds:
        tap = tap_helper.find(name)

    assert (bridge, True) == (tap.master, tap.up)


# -- queues and MTU


@pytest.mark.parametrize("queues", [1, 2, 16, 64])
def test_a_tap_has_as_many_queues_as_asked(tap_helper: TapProcess, queues: int) -> None:
    """One fd each, all of this tap, and the kernel has counted the same."""
    name, fds = granted(tap_helper, tap_on(queues=queues))
    with fds:
        names = {name_of(fd) for fd in fds.borrow()}
        data = tap_helper.find(name).data

    assert (queues, {name}) == (len(fds), names)
    assert (queues > 1, queues if queues > 1 else None) == (
        data["multi_queue"],
        data.get("numqueues"),
    )


@pytest.mark.parametrize("queues", [-1, 0, 65, 256, 2**31, 2**63, True, 1.0, "4", None])
def test_no_other_number_of_queues_is_possible(tap_helper: TapProcess, queues: object) -> None:
    """A bad request ends the connection."""
    packet = packets.packed({"v": 1, "op": "tap", "bridge": "br0", "queues": queues})

    assert send_raw(tap_helper.path, packet) == Ended(Code.BAD_REQUEST, closed=True)


@pytest.mark.parametrize("mtu", [None, 68, 1500, JUMBO])
def test_a_tap_has_its_bridge_s_mtu(tap_helper: TapProcess, mtu: int | None) -> None:
    """Whatever the card wants that is not above; and the bridge keeps its own."""
    name, fds = granted(tap_helper, tap_on("jumbo", mtu=mtu))
    with fds:
        mtus = (tap_helper.find(name).mtu, tap_helper.find("jumbo").mtu)

    assert (JUMBO, JUMBO) == mtus


def test_a_spare_gets_the_bridge_s_mtu_too(tap_helper: TapProcess) -> None:
    """It was made before anybody named a bridge."""
    found = []
    for bridge in ("jumbo", "br0", "jumbo"):
        name, fds = granted(tap_helper, tap_on(bridge))
        with fds:
            found.append((tap_helper.find(name).mtu, tap_helper.find(bridge).mtu))

    assert [(JUMBO, JUMBO), (1500, 1500), (JUMBO, JUMBO)] == found


def test_more_than_the_bridge_carries_is_refused(tap_helper: TapProcess) -> None:
    """With the command that would change that."""
    reply = ask_once(tap_helper.path, tap_on("jumbo", mtu=JUMBO + 1)).reply

    assert isinstance(reply, ErrorReply)
    assert (Code.FAILED, True) == (reply.code, "ip link set jumbo mtu 9001" in reply.hint)


# -- a bridge that changes meanwhile


def test_bridges_that_come_and_go_leave_nothing(tap_helper: TapProcess) -> None:
    """Each request is granted or refused with a named error, and no tap is left without a home."""
    flicker = tap_helper.command("sh", "-c", FLICKER)
    outcomes: dict[Code | None, str] = {}
    with subprocess.Popen(flicker) as process, connect(tap_helper.path) as sock:
        # On a busy machine it is a while until there is a bridge at all.
        for turn in range(5000):
            if turn >= 300 and len(outcomes) > 1:
                break
            answered = ask(sock, tap_on("brx", 2, isolated=turn % 2 == 0))
            answered.fds.close()
            reply = answered.reply
            if isinstance(reply, ErrorReply):
                outcomes[reply.code] = reply.message
            else:
                outcomes[None] = ""
        process.kill()

    assert {None, Code.NO_SUCH_BRIDGE} == set(outcomes), outcomes


def test_a_bridge_of_a_known_name_is_looked_at_again(tap_helper: TapProcess) -> None:
    """Deleted and made again, with its old index too: it is given an address of its own again."""
    kinds = []
    for _ in range(2):
        tap_helper.bridge("again", "index 700")
        tap_helper.ip("address add 192.0.2.1/24 dev again")
        granted(tap_helper, tap_on("again"))[1].close()
        path = f"/proc/{tap_helper.holder}/root/sys/class/net/again/addr_assign_type"
        with open(path, encoding="ascii") as file:  # noqa: PTH123 - one line of a file of the kernel
            kinds.append(file.read().strip())
        tap_helper.ip("link delete again")

    assert ["3", "3"] == kinds


def test_a_tap_whose_bridge_is_gone_is_listed_without(tap_helper: TapProcess) -> None:
    """It still counts, and goes with its fds."""
    tap_helper.bridge("gone")
    name, fds = granted(tap_helper, tap_on("gone"))
    with fds:
        tap_helper.ip("link delete gone")
        tap = tap_helper.find(name)

    assert (name, "") == (tap.name, tap.master)


@pytest.mark.slow
def test_a_full_bridge_is_a_named_error(tap_helper: TapProcess) -> None:
    """1,023 ports; what was made for the next one is gone."""
    tap_helper.bridge("full")
    # All of them are down, so that nothing goes round.
    lines = "".join(
        f"link add name p{n} type veth peer name q{n}\n"
        f"link set dev p{n} master full\nlink set dev q{n} master full\n"
        for n in range(511)
    )
    subprocess.run(tap_helper.command("ip", "-batch", "-"), input=lines, text=True, check=True)
    name, fds = granted(tap_helper, tap_on("full"))
    with fds:
        reply = ask_once(tap_helper.path, tap_on("full")).reply
        taps = [tap.name for tap in tap_helper.granted_taps()]
    tap_helper.ip("link delete full")

    assert isinstance(reply, ErrorReply)
    assert (Code.FAILED, "the bridge has 1,023 ports") == (reply.code, reply.hint[:26])
    assert [name] == taps


# -- a namespace that nobody is in


def test_the_host_s_network_stays_as_long_as_the_socket() -> None:
    """The helper goes on, in a namespace that it alone keeps, and ends as it would."""
    with running_tap_helper() as helper:
        helper.end_namespace()
        name, fds = granted(helper, tap_on())
        fds.close()
        refused = ask_once(helper.path, tap_on("br9")).reply

    assert isinstance(refused, ErrorReply)
    assert (name[:3], Code.NO_SUCH_BRIDGE) == ("bft", refused.code)
