# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who asks: on the kernel's word, in full, and never guessed."""

import ctypes
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bpferry_helper import identity
from bpferry_helper.identity import (
    Credentials,
    GroupReader,
    IdentityError,
    Peer,
    identify,
    overflow_ids,
)
from tests.support.children import in_child
from tests.support.people import SOCKET_GID, Person, connect

pytestmark = pytest.mark.privileged

CLONE_NEWUSER = 0x1000_0000
PR_SET_DUMPABLE = 4
Accept = Callable[[], socket.socket]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the listening socket is, in a folder that anybody may enter."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    return tmp_path / "sock"


@pytest.fixture
def listener(path: Path) -> Iterator[socket.socket]:
    """Yield a socket that everybody may connect to."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(str(path))
        path.chmod(0o666)
        sock.listen()
        yield sock


def credentials_of(path: Path, listener: socket.socket, person: Person) -> Credentials:
    """Return what the helper sees when *person* connects."""
    with connect(path, person), listener.accept()[0] as accepted:
        return identify(accepted, overflow_ids())


def peer_of(path: Path, listener: socket.socket, person: Person, *named: int) -> Peer:
    """Return how the helper judges *person* by a policy that names the groups *named*."""
    with connect(path, person), listener.accept()[0] as accepted:
        return judged(accepted, *named)


def judged(accepted: socket.socket, *named: int) -> Peer:
    """Return who is at the other end, by a policy that names the groups *named*."""
    unmapped = overflow_ids()
    who = identify(accepted, unmapped)
    return GroupReader(unmapped).peer(accepted, who, who.uid, frozenset(named))


@pytest.mark.parametrize("uid", [0, 1, 2**31 - 1, 2**31, 2**32 - 2])
def test_every_uid_is_read_as_it_is(path: Path, listener: socket.socket, uid: int) -> None:
    """No uid turns negative, or into another one."""
    assert uid == credentials_of(path, listener, Person(uid)).uid


def test_the_overflow_uid_is_refused(path: Path, listener: socket.socket) -> None:
    """It means everybody whom this user namespace does not know."""
    with pytest.raises(IdentityError, match="not known in this user namespace"):
        credentials_of(path, listener, Person(65534))


@pytest.mark.parametrize("count", [0, 1, 2, 255, 256, 257, 65_536])
def test_all_groups_are_looked_through(path: Path, listener: socket.socket, count: int) -> None:
    """Also more than the 256 that fit into Python's own getsockopt(), in whatever order."""
    groups = tuple(range(100_000, 100_000 + count))
    named = (1001, 1002, 99_999, *groups[:1], *groups[-1:], 100_000 + count)
    peer = peer_of(path, listener, Person(1001, 1001, groups[::-1]), *named)

    assert ({1001, *groups[:1], *groups[-1:]}, count + 1) == (set(peer.gids), peer.group_count)
    assert (1001, *groups)[:256] == peer.shown


def test_only_groups_that_policy_names_are_kept(path: Path, listener: socket.socket) -> None:
    """However many there are, a peer takes no more room than others."""
    peer = peer_of(path, listener, Person(1001, 1001, tuple(range(5000, 70_536))), 6000, 7)

    assert ({6000}, 256, 65_537) == (set(peer.gids), len(peer.shown), peer.group_count)


def test_the_overflow_group_is_not_a_group(path: Path, listener: socket.socket) -> None:
    """A policy that names it would let in who has any unmapped group."""
    peer = peer_of(path, listener, Person(1001, 1001, (65534, 7)), 1001, 7, 65534)

    assert ({1001, 7}, (7, 1001)) == (set(peer.gids), peer.shown)


def test_root_of_a_user_namespace_is_who_made_it(path: Path, listener: socket.socket) -> None:
    """Uid 0 in there is the user out here."""

    def connect_as_root_inside() -> tuple[int, int]:
        os.setgroups([])
        os.setresgid(1_700_009, 1_700_009, 1_700_009)
        os.setresuid(1_700_009, 1_700_009, 1_700_009)
        unshare_user()
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text("0 1700009 1")
        Path("/proc/self/gid_map").write_text("0 1700009 1")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.connect(str(path))
        return os.getuid(), os.getgid()

    inside = in_child(connect_as_root_inside)
    with listener.accept()[0] as accepted:
        peer = judged(accepted, 0, 1_700_009)

    assert ((0, 0), 1_700_009, {1_700_009}) == (inside, peer.uid, set(peer.gids))


def unshare_user() -> None:
    """Make a user namespace; needs no privilege."""
    libc = ctypes.CDLL(None, use_errno=True)
    # After a change of uid, /proc/self would be root's otherwise.
    libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    if libc.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def test_an_unmapped_user_namespace_changes_nothing(path: Path, listener: socket.socket) -> None:
    """The kernel knows who it is, whatever the process itself sees."""

    def connect_unmapped() -> int:
        os.setresuid(1_700_009, 1_700_009, 1_700_009)
        unshare_user()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.connect(str(path))
        return os.getuid()

    inside = in_child(connect_unmapped)
    with listener.accept()[0] as accepted:
        peer = identify(accepted, overflow_ids())

    assert (inside, peer.uid) == (65534, 1_700_009)


def test_a_user_whom_our_namespace_does_not_know_is_refused(
    path: Path, listener: socket.socket
) -> None:
    """Seen from a user namespace that maps root only, everybody else is the overflow uid."""

    def identify_inside() -> str:
        unshare_user()
        Path("/proc/self/uid_map").write_text("0 0 1")
        with listener.accept()[0] as accepted:
            try:
                return str(identify(accepted, overflow_ids()))
            except IdentityError as error:
                return str(error)

    with connect(path, Person(1001)):
        assert "not known in this user namespace" in in_child(identify_inside)


def test_who_connected_counts_after_its_death(path: Path, listener: socket.socket) -> None:
    """The credentials are those of connect(2); the process may be gone."""

    def connect_and_die() -> None:
        os.setresuid(1_700_009, 1_700_009, 1_700_009)
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect(str(path))

    in_child(connect_and_die)
    with listener.accept()[0] as accepted:
        assert identify(accepted, overflow_ids()).uid == 1_700_009


def test_who_connected_counts_and_not_who_holds_the_socket(
    path: Path, listener: socket.socket
) -> None:
    """A socket that was passed on speaks for who made it."""
    with connect(path, Person(1_700_009)) as sock, listener.accept()[0] as accepted:

        def send_as_another() -> None:
            os.setresuid(1_700_010, 1_700_010, 1_700_010)
            sock.send(b"x")

        in_child(send_as_another)

        assert (accepted.recv(10), identify(accepted, frozenset()).uid) == (b"x", 1_700_009)


def test_a_group_that_was_left_after_connecting_still_counts(
    path: Path, listener: socket.socket
) -> None:
    """The groups too are those of connect(2)."""
    with connect(path, Person(1001, SOCKET_GID, (5,))), listener.accept()[0] as accepted:
        # acting_as() has given the group back already.
        assert {5, SOCKET_GID} == judged(accepted, 5, 6, SOCKET_GID).gids


class Mute(socket.socket):
    """A socket whose peer cannot be asked about."""

    def getsockopt(self, *_: int) -> bytes:  # type: ignore[override]
        """Fail."""
        raise OSError(22, "Invalid argument")


class Short(socket.socket):
    """A socket that says too little about its peer."""

    def getsockopt(self, *_: int) -> bytes:  # type: ignore[override]
        """Return what would read as root if it were filled up with zeroes."""
        return bytes(8)


@pytest.mark.parametrize("kind", [Mute, Short])
def test_credentials_that_cannot_be_read_are_refused(kind: type[socket.socket]) -> None:
    """They are not read as uid 0."""
    with kind(socket.AF_UNIX) as sock, pytest.raises(IdentityError, match="credentials"):
        identify(sock, frozenset())


def test_groups_that_cannot_be_read_are_refused() -> None:
    """A socket that is not connected has no peer and no groups."""
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(IdentityError):
        GroupReader(frozenset()).peer(sock, Credentials(1, 1, 1), 1, frozenset())


def test_too_many_groups_are_refused(
    path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the kernel to allow more than we have room for, we would not take a part of them."""
    monkeypatch.setattr(identity, "MAX_GROUPS", 300)

    with pytest.raises(IdentityError, match="more than 300 groups"):
        peer_of(path, listener, Person(1001, 1001, tuple(range(100, 500))))


@pytest.mark.parametrize("count", [0, 1, 256, 257, identity.FEW_GROUPS])
def test_few_groups_are_read_in_the_loop(path: Path, listener: socket.socket, count: int) -> None:
    """As in a worker, whether or not Python alone has room for them."""
    groups = tuple(range(5000, 5000 + count))
    named = frozenset({1001, 4999, *groups[:1], *groups[-1:], 5000 + count})
    reader = GroupReader(frozenset())
    with connect(path, Person(1001, 1001, groups)), listener.accept()[0] as accepted:
        who = identify(accepted, frozenset())
        peer = reader.peer_with_few(accepted, who, 1001, named)

        assert peer == reader.peer(accepted, who, 1001, named)
    assert peer is not None
    assert (count + 1, {1001, *groups[:1], *groups[-1:]}) == (peer.group_count, set(peer.gids))


def test_many_groups_are_not_read_in_the_loop(path: Path, listener: socket.socket) -> None:
    """To copy them takes the kernel long."""
    person = Person(1001, 1001, tuple(range(5000, 5001 + identity.FEW_GROUPS)))
    with connect(path, person), listener.accept()[0] as accepted:
        who = identify(accepted, frozenset())

        assert GroupReader(frozenset()).peer_with_few(accepted, who, 1001, frozenset()) is None


def test_the_overflow_ids_are_the_host_s() -> None:
    """65534 unless somebody changed it."""
    expected = {
        int(Path(f"/proc/sys/kernel/overflow{kind}").read_text()) for kind in ("uid", "gid")
    }

    assert expected == overflow_ids()
