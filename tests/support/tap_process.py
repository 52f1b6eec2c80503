# SPDX-License-Identifier: LGPL-2.1-or-later
r"""The real tap helper: its own user, CAP_NET_ADMIN alone, and a network namespace of its own.

What it takes for the host is a network namespace of the test's, with a /sys that shows it, and a
/dev/net/tun that everybody may open. The test opens the netlink sockets there, as systemd does for
the unit. Nothing of it has a name, so all of it is gone with the process that holds it.

    with running_tap_helper() as helper:
        helper.ip("link add br0 type bridge")
        answered = ask_once(helper.path, Tap("br0", is_network=False, queues=4))
"""

import ctypes
import fcntl
import json
import os
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar, Final, NamedTuple, TypeVar

from bpferry_wire.fds import OwnedFds
from bpferry_wire.messages import Create, Tap, TapReply
from tests.support.helper_process import (
    HelperProcess,
    as_helper,
    helper_command,
    helper_folder,
    running,
)
from tests.support.people import ALICE, BOB, Person, ask_once

T = TypeVar("T")

CAPABILITIES: Final = "-all,+net_admin"

CLONE_NEWNET: Final = 0x4000_0000
"""linux/sched.h."""

SPARE_ALIAS: Final = "bpferry spare"
"""As an administrator sees it, and not as the helper's code has it."""

PASSED_FD: Final = 100
"""Above the numbers that systemd puts its sockets to."""

ACTIVATE: Final = """
exec 3<&0 0</dev/null 4<&$1 5<&$2
eval "exec $1<&- $2<&-"
shift 2
export LISTEN_PID=$$
exec "$@"
"""
"""The netlink sockets come under any number; only bash moves one of two digits."""

NAMESPACE: Final = """
set -e
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$1/upper,workdir=$1/work" /etc
mount --bind "$1/policy" /etc/bpferry
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=0755 tmpfs /dev/net
mknod --mode=0666 /dev/net/tun c 10 200
ip link set lo up
echo ready
exec cat
"""

OPEN_POLICY: Final = f"""
[users.{ALICE.uid}]
bridges = ["*"]
[users.{BOB.uid}]
bridges = ["*"]
[quota]
taps-at-once = 1000
taps-per-second = 1000
taps-per-second-in-total = 1000
queues-per-tap = 64
"""
"""Alice and Bob may use any bridge, and the pace of a test's own requests does not matter."""


GET_LINK: Final = struct.Struct("=IHHIIBxHiII")
"""struct nlmsghdr of linux/netlink.h, and struct ifinfomsg of linux/rtnetlink.h."""

GET_LOOPBACK: Final = GET_LINK.pack(GET_LINK.size, 18, 0x001, 1, 0, 0, 0, 1, 0, 0)
GET_ALL: Final = GET_LINK.pack(GET_LINK.size, 18, 0x301, 1, 0, 0, 0, 0, 0, 0)
"""RTM_GETLINK as a request for one, and for a list."""


class Interface(NamedTuple):
    """One network interface as ``ip`` shows it, which has nothing to do with the helper's code."""

    name: str
    ifindex: int
    mtu: int
    address: str
    master: str
    alias: str
    up: bool
    data: dict[str, Any]
    """What its driver says."""


class TapProcess(HelperProcess):
    """See the module's docstring. Made by ``running_tap_helper``."""

    role: ClassVar[str] = "tap"
    unshare: ClassVar[tuple[str, ...]] = ("unshare", "--mount", "--net", "--propagation=private")
    namespace: ClassVar[str] = NAMESPACE
    sockets: ClassVar[int] = 4

    def __init__(self, folder: Path, limits: Sequence[str], environ: Mapping[str, str]) -> None:
        super().__init__(folder, limits, environ)
        self._netlinks: tuple[int, ...] = ()

    def enter(self, tmpfs_size: str) -> None:
        """Make the namespaces, and open the netlink sockets that the helper gets."""
        super().enter(tmpfs_size)
        for _ in range(2):
            with self.inside_network(open_route_socket) as sock:
                passed = fcntl.fcntl(sock, fcntl.F_DUPFD_CLOEXEC, PASSED_FD)
                self._netlinks = (*self._netlinks, passed)

    def close(self) -> None:
        """End every process and close every fd."""
        super().close()
        for fd in self._netlinks:
            os.close(fd)

    def leave_answers(self, count: int) -> None:
        """Ask on the helper's netlink socket *count* times for a link, then for all of them.

        None of it is read, as if the helper had been killed meanwhile.
        """
        with socket.socket(fileno=os.dup(self._netlinks[0])) as sock:
            for _ in range(count):
                sock.send(GET_LOOPBACK)
            sock.send(GET_ALL)

    def _inside(self) -> tuple[str, ...]:
        return (*super()._inside(), f"--net=/proc/{self.holder}/ns/net")

    def _activation(self) -> list[str]:
        command = as_helper(helper_command("tap"), CAPABILITIES)
        numbers = [str(fd) for fd in self._netlinks]
        return ["unshare", "--net", "bash", "-c", ACTIVATE, "bash", *numbers, *command]

    def _passed_fds(self) -> tuple[int, ...]:
        return self._netlinks

    # -- the network that it takes for the host's

    @property
    def holder(self) -> int:
        """The process that holds the namespaces."""
        assert self._namespace is not None
        return self._namespace.pid

    def command(self, *arguments: str) -> list[str]:
        """Return *arguments* as a command in the host's namespaces."""
        return [*self._inside(), *arguments]

    def ip(self, arguments: str) -> str:
        """Run ``ip`` in the host's network; return what it prints."""
        return self.run("ip", *arguments.split())

    def run(self, *arguments: str) -> str:
        """Run *arguments* in the host's namespaces; return what is printed."""
        done = subprocess.run(self.command(*arguments), check=True, capture_output=True, text=True)
        return done.stdout

    def bridge(self, name: str = "br0", more: str = "") -> None:
        """Make the bridge *name* and switch it on."""
        self.ip(f"link add name {name} {more} type bridge")
        self.ip(f"link set dev {name} up")

    def interfaces(self) -> list[Interface]:
        """Return all interfaces of the host."""
        return [_interface(link) for link in json.loads(self.ip("-json -details link show"))]

    def taps(self) -> list[Interface]:
        """Return those with a name of the helper's, the spares too."""
        return [link for link in self.interfaces() if link.name.startswith(("bft", "bfp"))]

    def granted_taps(self) -> list[Interface]:
        """Return those that somebody has been given."""
        return [tap for tap in self.taps() if tap.alias != SPARE_ALIAS]

    def only_spares(self) -> bool:
        """Say whether two spares are all that is there, by one look: a tap may go between two."""
        return [SPARE_ALIAS] * 2 == [tap.alias for tap in self.taps()]

    def find(self, name: str) -> Interface:
        """Return the interface *name*, which is there."""
        return next(link for link in self.interfaces() if link.name == name)

    def inside_network(self, function: Callable[[], T]) -> T:
        """Return what *function* returns in the host's network, in a thread of its own."""
        return in_network(self.holder, function)


def _interface(link: dict[str, Any]) -> Interface:
    return Interface(
        name=link["ifname"],
        ifindex=link["ifindex"],
        mtu=link["mtu"],
        address=link.get("address", ""),
        master=link.get("master", ""),
        alias=link.get("ifalias", ""),
        up="UP" in link["flags"],
        data=link.get("linkinfo", {}).get("info_data", {}),
    )


def open_route_socket() -> socket.socket:
    """Return a socket as ``ListenNetlink=route 0`` makes it; the caller closes it."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    sock.bind((0, 0))
    return sock


def enter_network(pid: int) -> None:
    """Let this thread, and no other, be in the network namespace of *pid* from now on."""
    with Path(f"/proc/{pid}/ns/net").open("rb") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter the network of process {pid}")


def in_network(pid: int, function: Callable[[], T]) -> T:
    """Return what *function* returns in the network of *pid*, or raise what it raises there."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            enter_network(pid)
            results.append(function())
        except BaseException as error:  # noqa: BLE001 - raised in the thread that asked
            errors.append(error)

    thread = Thread(target=run)
    thread.start()
    thread.join()
    for error in errors:
        raise error
    return results[0]


def tap_on(bridge: str = "br0", queues: int = 4, **more: Any) -> Tap:  # noqa: ANN401 - of several types
    """Return the request for a tap on *bridge*."""
    return Tap(bridge, is_network=False, queues=queues, **more)


@contextmanager
def running_tap_helper(
    policy: str | None = OPEN_POLICY,
    *,
    limits: Sequence[str] = (),
    bridges: Sequence[str] = ("br0",),
    etc: Mapping[str, str] | None = None,
    start: bool = True,
) -> Iterator[TapProcess]:
    """Run a tap helper with *bridges* on its host, and take everything down again."""
    with (
        helper_folder(etc) as folder,
        running(TapProcess(folder, limits, {}), policy, "", start=False) as helper,
    ):
        for bridge in bridges:
            helper.bridge(bridge)
        if start:
            helper.start()
        yield helper


def granted(helper: TapProcess, request: Tap, person: Person = ALICE) -> tuple[str, OwnedFds]:
    """Ask as *person* for a tap that is granted; return its name and queues, which it owns."""
    answered = ask_once(helper.path, request, person)
    assert isinstance(answered.reply, TapReply), answered.reply
    return answered.reply.interface, answered.fds


def created(helper: TapProcess, request: Tap, person: Person = ALICE) -> str:
    """Ask as *person* for a tap that stays; return its name."""
    answered = ask_once(helper.path, Create(request), person)
    assert isinstance(answered.reply, TapReply), answered.reply
    return answered.reply.interface
