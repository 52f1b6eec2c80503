# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whatever is asked, the kernel gets the same few calls with the same flags (T10, T11)."""

import fcntl
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpferry_wire.errors import Code
from bpferry_wire.messages import (
    Bandwidth,
    Create,
    Delete,
    ErrorReply,
    Hello,
    HelloReply,
    Quota,
    QuotaReply,
    Rate,
    TapReply,
)
from tests import requires
from tests.helper.tap.own_host import Host, on_own_host, order
from tests.support.census import wait_until
from tests.support.packets import packed
from tests.support.people import ALICE, ask, ask_once, code_of_next, connect, is_closed
from tests.support.tap_process import OPEN_POLICY, TapProcess, running_tap_helper, tap_on
from tests.support.tuns import FLAGS, IFF_MULTI_QUEUE, IFREQ, TUNSETIFF

pytestmark = pytest.mark.privileged

POLICY: Final = f"""{OPEN_POLICY}
[bridges.known]
address-lock = true
isolated = true
"""

IOCTLS: Final = {"TUNSETIFF", "TUNSETIFINDEX", "TUNSETOWNER", "TUNSETPERSIST", "TIOCOUTQ"}
"""The last asks a client's socket what was not read yet (connection)."""

PYTHON_S_OWN: Final = {"TCGETS", "FIONBIO"}
"""A file that is opened is asked whether it is a terminal, and a socket is told not to wait."""

MESSAGES: Final = {
    16: "NEWLINK",
    17: "DELLINK",
    18: "GETLINK",
    19: "SETLINK",
    22: "GETADDR",
    28: "NEWNEIGH",
    30: "GETNEIGH",
    36: "NEWQDISC",
    44: "NEWTFILTER",
}
"""linux/rtnetlink.h. strace shows numbers: the sockets are not of its own network."""

IFF_TUN_EXCL: Final = 0x8000
"""linux/if_tun.h."""


@contextmanager
def traced(helper: TapProcess, path: Path) -> Iterator[None]:
    """Write the calls of *helper* that matter here to *path*, while the block runs."""
    calls = "trace=ioctl,sendto,sendmsg,execve,fork,vfork,clone,clone3,openat,socket,setsockopt"
    command = [requires.program("strace"), "-f", "-p", str(helper.pid), "-o", str(path), "-s", "64"]
    with subprocess.Popen([*command, "-e", calls], stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        process.stderr.readline()
        try:
            yield
        finally:
            process.terminate()
            process.communicate()


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return all that the helper asked the kernel for while each kind of request was made."""
    requires.root()
    path = tmp_path_factory.mktemp("trace") / "calls"
    with running_tap_helper(POLICY, bridges=("br0", "known")) as helper:
        # By then it has read the policy, and looked up the names in it: a start does that once.
        assert wait_until(lambda: isinstance(ask_once(helper.path, Quota()).reply, QuotaReply))
        with traced(helper, path):
            use_everything(helper)
        assert path.read_text(), "strace wrote nothing"
    return path.read_text()


def use_everything(helper: TapProcess) -> None:
    """Make each kind of request, with what is granted and with what is refused."""
    mac = bytes.fromhex("525400000001")
    with connect(helper.path) as sock:
        for wanted in (
            tap_on(queues=1),
            tap_on(queues=4),
            tap_on(queues=4),
            tap_on("known", 2, mac=mac, isolated=True, mtu=1400),
            tap_on("br0", 2, bandwidth=Bandwidth(Rate(1000), Rate(1000))),
            tap_on("br9"),
            tap_on("br%d"),
            tap_on("lo"),
            Create(tap_on(queues=2)),
            Create(tap_on("known", 1, mac=mac)),
        ):
            answered = ask(sock, wanted)
            answered.fds.close()
            if isinstance(wanted, Create) and isinstance(answered.reply, TapReply):
                ask(sock, Delete(answered.reply.interface))
    wait_until(lambda: len(helper.taps()) == 2)


def test_only_these_ioctls_are_made(trace: str) -> None:
    """Of tun three, and one of the client's socket."""
    found = set(re.findall(r"ioctl\(\d+, ([A-Z]\w+)", trace))

    assert IOCTLS == (found | {"TIOCOUTQ"}) - PYTHON_S_OWN


@pytest.mark.parametrize(("queues", "more"), [(1, 0), (4, IFF_MULTI_QUEUE)])
def test_the_flags_of_a_tap_are_fixed(queues: int, more: int) -> None:
    """They depend on nothing but whether it has several queues; the first is exclusive."""

    def act(host: Host) -> list[int]:
        real, flags = fcntl.ioctl, []

        def ioctl(fd: Any, number: int, *rest: Any) -> Any:  # noqa: ANN401 - as fcntl's
            if number == TUNSETIFF:
                flags.append(IFREQ.unpack(rest[0])[1])
            return real(fd, number, *rest)

        fcntl.ioctl = ioctl
        host.make(order(queues=queues)).fds.close()
        return flags

    assert [FLAGS | more | IFF_TUN_EXCL, *[FLAGS | more] * (queues - 1)] == on_own_host(act)


def test_a_tap_belongs_to_the_helper_or_its_user(trace: str) -> None:
    """No other owner is ever set, and what stays is set to stay, not to go."""
    owners = set(re.findall(r"TUNSETOWNER, (\w+)", trace))
    stays = set(re.findall(r"TUNSETPERSIST, (\w+)", trace))
    numbers = {int(owner, 0) for owner in owners}

    assert (2, True, {"0x1"}) == (len(numbers), ALICE.uid in numbers, stays)


def test_only_these_messages_are_sent(trace: str) -> None:
    """About links, ports, limits, and one address; no route, no rule, no address of IP."""
    found = {int(number, 16) for number in re.findall(r"nlmsg_type=(0x\w+)", trace)}

    assert set(MESSAGES) == found


def test_nothing_is_started_and_no_socket_opened(trace: str) -> None:
    """Not ``ip``, not anything; the one thread more is the helper's own."""
    assert [] == re.findall(r"execve\(.*|v?fork\(.*|socket\((?!AF_UNIX, SOCK_DGRAM).*", trace)


def test_no_file_is_opened_but_these(trace: str) -> None:
    """The policy, the tun device, some lines about each bridge; none has a client's word in it."""
    paths = set(re.findall(r'openat\(\S+ "([^"]+)", O_RD', trace))
    ours = (
        r"/dev/net/tun|/etc/bpferry(/policy\.toml)?|/etc/qemu(/bridge\.conf)?"
        r"|/sys/(class|devices/virtual)/net/(br0|known)/(ifindex|addr_assign_type"
        r"|bridge/vlan_filtering)|/|/etc|/proc/.*"
    )

    assert {path for path in paths if not re.fullmatch(ours, path)} == set()


# -- requests of any kind


@cache
def shared() -> list[TapProcess]:
    """Return where the fuzzed helper is kept, since hypothesis and fixtures do not mix."""
    return []


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[TapProcess]:
    """Yield a helper that is sent nonsense; nobody may do anything with it."""
    requires.root()
    with running_tap_helper(OPEN_POLICY, bridges=("br0",)) as helper:
        shared().append(helper)
        yield helper
        shared().clear()


KEYS: Final = st.sampled_from(
    [
        "v",
        "op",
        "bridge",
        "network",
        "queues",
        "mtu",
        "mac",
        "isolated",
        "vlan",
        "tagged",
        "bandwidth",
        "inbound",
        "average",
        "interface",
        "request",
    ]
) | st.sampled_from(["name", "flags", "owner", "fd", ""])
VALUES: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.integers(0, 70)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | st.sampled_from(["br0", "lo", "bft%d", "tap", "create", "delete", "can", "list"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=5,
)
REQUESTS: Final = st.dictionaries(KEYS, VALUES, max_size=6).flatmap(
    lambda more: st.sampled_from(["tap", "create", "delete", "can", "list", "quota"]).map(
        lambda op: {**more, "v": 1, "op": op}
    )
)


@pytest.mark.slow
@pytest.mark.usefixtures("fuzzed")
@given(REQUESTS)
@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_request_is_answered_with_a_named_error(request_: dict[str, object]) -> None:
    """Or is one that may be granted by chance, or hung up on; the helper never makes a mistake."""
    helper = shared()[0]
    with connect(helper.path) as sock:
        sock.send(packed(request_))
        code = code_of_next(sock)
        closed = code == Code.BAD_REQUEST and is_closed(sock)

    assert code in {None, Code.BAD_REQUEST, Code.NO_SUCH_BRIDGE, Code.REFUSED}
    assert closed == (code == Code.BAD_REQUEST)


def test_after_all_that_nothing_is_left(fuzzed: TapProcess) -> None:
    """No tap but the spares and those that stay, no fault in the log, and it serves."""
    wait_until(lambda: not [tap for tap in fuzzed.granted_taps() if tap.name[:3] == "bft"])
    reply = ask_once(fuzzed.path, Hello()).reply

    assert isinstance(reply, HelloReply)
    assert not isinstance(reply, ErrorReply)
    assert [] == [tap for tap in fuzzed.granted_taps() if tap.name[:3] == "bft"]
    assert [] == [line for line in fuzzed.log().splitlines() if line.startswith("<3>")]
