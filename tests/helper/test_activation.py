# SPDX-License-Identifier: LGPL-2.1-or-later
"""The sockets that systemd passes in, and what systemd is told."""

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bpferry_helper.activation import (
    FIRST_FD,
    Listener,
    Notifier,
    adopt_listener,
    adopt_listener_and_netlinks,
)
from bpferry_helper.errors import StartupError
from tests.support.children import in_child
from tests.support.helper_process import helper_command


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the socket is."""
    return tmp_path / "bpf.sock"


def listening(path: Path, kind: int = socket.SOCK_SEQPACKET, mode: int = 0o660) -> socket.socket:
    """Return a socket as systemd would open it."""
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.bind(str(path))
    path.chmod(mode)
    if kind != socket.SOCK_DGRAM:
        sock.listen()
    return sock


def environment(**changed: str) -> dict[str, str]:
    """Return what systemd sets, with changes; call it in the process that is activated."""
    return {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x", **changed}


def adopted(sock: socket.socket, **changed: str) -> str:
    """Adopt *sock* in a child as its fd 3; return "" or the error."""

    def adopt() -> str:
        os.dup2(sock.fileno(), FIRST_FD)
        try:
            adopt_listener(environment(**changed))
        except StartupError as error:
            return str(error)
        return ""

    return in_child(adopt)


def test_a_listening_socket_is_adopted(path: Path) -> None:
    """The one thing that it accepts."""
    with listening(path) as sock:
        assert adopted(sock) == ""


def test_the_adopted_socket_is_made_safe(path: Path) -> None:
    """Not inherited, not blocking, of the file's group; and the variables are gone."""

    def adopt() -> tuple[bool, bool, int, set[str]]:
        os.dup2(sock.fileno(), FIRST_FD)
        environ = environment(LANG="C")
        listener: Listener = adopt_listener(environ)
        return (
            os.get_inheritable(FIRST_FD), listener.sock.getblocking(), listener.gid, set(environ)
        )  # fmt: skip

    with listening(path) as sock:
        os.chown(path, -1, os.getgid())

        assert (False, False, os.getgid(), {"LANG"}) == in_child(adopt)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"LISTEN_PID": "1"}, "no socket was passed in"),
        ({"LISTEN_PID": ""}, "no socket was passed in"),
        ({"LISTEN_FDS": "0"}, "exactly one socket"),
        ({"LISTEN_FDS": "2"}, "exactly one socket"),
        ({"LISTEN_FDS": ""}, "exactly one socket"),
        ({"LISTEN_FDS": "1 "}, "exactly one socket"),
    ],
)
def test_none_or_several_sockets_are_an_error(
    path: Path, changed: dict[str, str], words: str
) -> None:
    """There is no fallback."""
    with listening(path) as sock:
        assert words in adopted(sock, **changed)


def stream(path: Path) -> socket.socket:
    """Return a stream socket."""
    return listening(path, socket.SOCK_STREAM)


def datagram(path: Path) -> socket.socket:
    """Return a datagram socket."""
    return listening(path, socket.SOCK_DGRAM)


def not_listening(path: Path) -> socket.socket:
    """Return a socket that is bound only."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.bind(str(path))
    return sock


def of_the_network(_path: Path) -> socket.socket:
    """Return a TCP socket."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    return sock


def open_to_all(path: Path) -> socket.socket:
    """Return a socket that anybody may connect to."""
    return listening(path, mode=0o666)


def abstract(_path: Path) -> socket.socket:
    """Return a socket without a path, which has no modes."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.bind(f"\0bpferry-test-{os.getpid()}")
    sock.listen()
    return sock


def unlinked(path: Path) -> socket.socket:
    """Return a socket whose file is gone."""
    sock = listening(path)
    path.unlink()
    return sock


WRONG = {
    "a stream socket": (stream, "not a listening AF_UNIX SOCK_SEQPACKET"),
    "a datagram socket": (datagram, "not a listening AF_UNIX SOCK_SEQPACKET"),
    "a socket that does not listen": (not_listening, "not a listening AF_UNIX SOCK_SEQPACKET"),
    "a socket of the network": (of_the_network, "not a listening AF_UNIX SOCK_SEQPACKET"),
    "a socket that is open to all": (open_to_all, "is open to everybody"),
    "a socket without a path": (abstract, "has no path"),
    "a socket whose file is gone": (unlinked, "cannot look at the socket"),
}


@pytest.mark.parametrize(("make", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_socket_is_an_error(
    path: Path, make: Callable[[Path], socket.socket], words: str
) -> None:
    """The message says what is wrong with the unit."""
    with make(path) as sock:
        assert words in adopted(sock)


def test_a_file_is_not_a_socket() -> None:
    """Whatever else systemd can pass."""

    def adopt() -> str:
        fd = os.open("/dev/null", os.O_RDONLY)
        os.dup2(fd, FIRST_FD)
        try:
            adopt_listener(environment())
        except StartupError as error:
            return str(error)
        return ""

    assert "is not a socket" in in_child(adopt)


def test_a_socket_that_was_not_passed_is_an_error() -> None:
    """The variables alone are not believed."""

    def adopt() -> str:
        # Whatever has this number in pytest is not needed in the child, which leaves by _exit().
        os.dup2(0, FIRST_FD)
        os.close(FIRST_FD)
        try:
            adopt_listener(environment())
        except StartupError as error:
            return str(error)
        return ""

    assert in_child(adopt) == "cannot use the fd from systemd: Bad file descriptor"


# -- three sockets, for the role tap


def netlink(proto: int = socket.NETLINK_ROUTE) -> socket.socket:
    """Return a socket as ``ListenNetlink=`` makes it; 0 is "route"."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, proto)
    sock.bind((0, 0))
    return sock


def both_adopted(*socks: socket.socket, count: str = "3") -> tuple[str, list[int], list[bool]]:
    """Adopt *socks* in a child as its fds 3 and on.

    Returns the error or "", the fds in the order in which they are returned, and whether any is
    inherited.
    """

    def adopt() -> tuple[str, list[int], list[bool]]:
        copies = [os.dup(os.dup(os.dup(sock.fileno()))) for sock in socks]
        for place, copy in enumerate(copies):
            os.dup2(copy, FIRST_FD + place)
        try:
            listener, link, changes = adopt_listener_and_netlinks(environment(LISTEN_FDS=count))
        except StartupError as error:
            return str(error), [], []
        fds = [listener.sock.fileno(), link.fileno(), changes.fileno()]
        return "", fds, [os.get_inheritable(fd) for fd in fds]

    return in_child(adopt)


@pytest.mark.parametrize("turned", [False, True])
def test_all_sockets_are_adopted_in_any_order(
    path: Path,
    turned: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """As the unit lists them, or the other way round; none is inherited."""
    with listening(path) as sock, netlink() as link, netlink() as changes:
        socks = (link, changes, sock) if turned else (sock, link, changes)
        places = [2, 0, 1] if turned else [0, 1, 2]

        assert ("", [FIRST_FD + place for place in places], [False] * 3) == both_adopted(*socks)


@pytest.mark.parametrize("count", ["0", "1", "2", "4", "", "3 "])
def test_another_number_than_three_is_an_error(path: Path, count: str) -> None:
    """The role tap has no use for fewer, and none for a fourth."""
    with listening(path) as sock, netlink() as link, netlink() as changes:
        error, _, _ = both_adopted(sock, link, changes, count=count)

    assert "exactly 3 sockets are needed" in error


def test_two_listening_sockets_are_an_error(path: Path) -> None:
    """Two have to be netlink."""
    with listening(path) as sock, listening(path.with_name("other")) as other, netlink() as link:
        error, _, _ = both_adopted(sock, other, link)

    assert "ListenNetlink=route 0" in error


def test_three_netlink_sockets_are_an_error() -> None:
    """One has to be listened on."""
    with netlink() as link, netlink() as other, netlink() as third:
        error, _, _ = both_adopted(link, other, third)

    assert "ListenNetlink=route 0" in error


def test_netlink_of_another_kind_is_an_error(path: Path) -> None:
    """Such as that of udev's events."""
    uevents = 15  # linux/netlink.h: NETLINK_KOBJECT_UEVENT
    with listening(path) as sock, netlink() as link, netlink(uevents) as other:
        error, _, _ = both_adopted(sock, link, other)

    assert "ListenNetlink=route 0" in error


@pytest.mark.parametrize(
    ("make", "words"),
    [entry for name, entry in WRONG.items() if name != "a socket of the network"],
    ids=[name for name in WRONG if name != "a socket of the network"],
)
def test_a_wrong_socket_beside_netlink_is_an_error(
    path: Path, make: Callable[[Path], socket.socket], words: str
) -> None:
    """The listening one is looked at as closely as for the role bpf."""
    with make(path) as sock, netlink() as link, netlink() as changes:
        error, _, _ = both_adopted(sock, link, changes)

    assert words in error


# -- what systemd is told


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """Yield the end that a service manager listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(5)
        yield sock


def test_the_manager_is_told(manager: socket.socket) -> None:
    """One datagram, as sd_notify(3) says."""
    Notifier({"NOTIFY_SOCKET": manager.getsockname()}).tell("READY=1")

    assert manager.recv(100) == b"READY=1"


def test_an_abstract_address_works_too() -> None:
    """Systemd writes it with @."""
    name = f"bpferry-test-notify-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}")
        sock.settimeout(5)
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).tell("READY=1")

        assert sock.recv(100) == b"READY=1"


@pytest.mark.parametrize("address", ["", "/nonexistent/notify", "@nobody-listens-here"])
def test_nobody_to_tell_is_not_an_error(address: str) -> None:
    """The helper also runs where nobody asked for it."""
    Notifier({"NOTIFY_SOCKET": address}).tell("READY=1")


def test_no_fd_to_tell_with_is_not_an_error(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the limit of open files the helper stays up."""
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()})

    def none_left(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socket", none_left)
    notifier.tell("WATCHDOG=1")


def test_the_variables_are_taken_out() -> None:
    """Nothing that we start could speak for us; nothing is started, and the rule is cheap."""
    environ = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "LANG": "C"}
    Notifier(environ)

    assert environ == {"LANG": "C"}


@pytest.mark.parametrize(
    ("usec", "pid", "expected"),
    [
        ("30000000", None, 30.0),
        ("30000000", "1", 0.0),
        ("", None, 0.0),
        ("-1", None, 0.0),
        ("soon", None, 0.0),
    ],
)
def test_the_watchdog_s_time_is_read(usec: str, pid: str | None, expected: float) -> None:
    """In seconds, and only if it is meant for this process."""
    environ = {"WATCHDOG_USEC": usec} | ({"WATCHDOG_PID": pid} if pid else {})

    assert expected == Notifier(environ).watchdog_s


# -- the whole program


@pytest.mark.privileged
@pytest.mark.parametrize("role", ["bpf", "tap"])
def test_started_by_hand_it_says_so(role: str) -> None:
    """Exit status 1, and a sentence about how it is meant to be started."""
    done = subprocess.run(helper_command(role), capture_output=True, text=True, check=False)

    assert (done.returncode, "started by systemd" in done.stderr) == (1, True)
