# SPDX-License-Identifier: LGPL-2.1-or-later
"""Unix sockets that QEMU inherits: made for one user, never taken from somebody else, removed."""

import fcntl
import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from bpferry.commandline.parts import Listen
from bpferry.errors import BpferryError
from bpferry.machine import listening
from bpferry.machine.listening import connect_to, is_bound, make_folder, open_listen


def listen_at(path: Path) -> Listen:
    """Return the part that asks for a socket at *path*."""
    return Listen("channel0", str(path))


def leave_stale(path: Path) -> None:
    """Make the file of a socket at which nobody listens."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def test_client_connects_before_anybody_accepts(tmp_path: Path) -> None:
    """Who connects before QEMU runs waits in the queue."""
    path = tmp_path / "channel.sock"

    with open_listen(listen_at(path)), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))

        assert str(path) == client.getpeername()


def test_socket_and_new_folders_are_for_the_user_alone(tmp_path: Path) -> None:
    """Neither the socket nor a folder that was made for it is open to others."""
    path = tmp_path / "vm" / "sockets" / "channel.sock"

    with open_listen(listen_at(path)):
        modes = [stat.S_IMODE(p.stat().st_mode) for p in (path, path.parent, path.parent.parent)]

    assert [0o600, 0o700, 0o700] == modes


def test_socket_is_removed_with_the_block(tmp_path: Path) -> None:
    """Nothing is left, also where our end was closed as soon as QEMU had it."""
    path = tmp_path / "channel.sock"

    with open_listen(listen_at(path)) as sock:
        sock.close()

        assert path.exists()
    assert not path.exists()


def test_file_that_replaced_the_socket_stays(tmp_path: Path) -> None:
    """Somebody else's file at the same path is not ours to remove."""
    path = tmp_path / "channel.sock"

    with open_listen(listen_at(path)):
        path.unlink()
        path.write_text("of somebody else")

    assert "of somebody else" == path.read_text()


def test_stale_socket_is_replaced(tmp_path: Path) -> None:
    """What a killed run has left does not hold up the next one."""
    path = tmp_path / "channel.sock"
    leave_stale(path)

    with open_listen(listen_at(path)):
        assert is_bound(path)


def test_living_socket_is_refused(tmp_path: Path) -> None:
    """A socket at which somebody listens stays that of who listens."""
    path = tmp_path / "channel.sock"

    with (
        open_listen(listen_at(path)),
        pytest.raises(BpferryError, match="a process is already listening there"),
        open_listen(listen_at(path)),
    ):
        pass


def test_looking_at_a_socket_disturbs_nobody(tmp_path: Path) -> None:
    """Finding out whether somebody listens is not a connection."""
    path = tmp_path / "channel.sock"

    with open_listen(listen_at(path)) as sock:
        assert is_bound(path)

        sock.settimeout(0)
        with pytest.raises(BlockingIOError):
            sock.accept()


def test_file_in_the_way_is_refused(tmp_path: Path) -> None:
    """A file that is not a socket is never removed."""
    path = tmp_path / "channel.sock"
    path.write_text("important")

    with pytest.raises(BpferryError, match="no socket is in the way"), open_listen(listen_at(path)):
        pass

    assert "important" == path.read_text()


def test_long_path_is_refused_with_its_length(tmp_path: Path) -> None:
    """A path that does not fit into a socket's address is told with the limit."""
    path = tmp_path / ("x" * 108)

    with pytest.raises(BpferryError, match="at most 107 bytes"), open_listen(listen_at(path)):
        pass


@pytest.mark.privileged
def test_folder_of_somebody_else_in_a_shared_place_is_refused(tmp_path: Path) -> None:
    """In a place like /tmp, a folder that another user made first is not used."""
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    theirs = shared / "bpferry-0"
    theirs.mkdir()
    os.chown(theirs, 65534, 65534)

    with pytest.raises(BpferryError, match="belongs to the user 65534"):
        make_folder(theirs / "vm")


@pytest.mark.privileged
def test_a_link_of_somebody_else_in_a_shared_place_is_not_followed(tmp_path: Path) -> None:
    """The kernel follows it too, unless fs.protected_symlinks is set (proc_sys_fs(5))."""
    shared = tmp_path / "tmp"
    shared.mkdir()
    (tmp_path / "ours").mkdir()
    link = shared / "bpferry-0"
    link.symlink_to(tmp_path / "ours")
    os.chown(link, 65534, 65534, follow_symlinks=False)
    shared.chmod(0o1777)

    with pytest.raises(BpferryError, match=r"belongs to the user 65534|Permission denied"):
        make_folder(link / "vm")
    assert list((tmp_path / "ours").iterdir()) == []


def test_another_at_work_in_the_folder_is_awaited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between looking at a stale socket and taking its place, nobody else does so."""
    monkeypatch.setattr(listening, "LOCK_SECONDS", 0.1)
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)

        with (
            pytest.raises(BpferryError, match="somebody else holds a lock"),
            open_listen(listen_at(tmp_path / "channel.sock")),
        ):
            pass
    finally:
        os.close(fd)


def test_two_at_once_take_a_stale_socket_once(tmp_path: Path) -> None:
    """Of several that find a stale socket at the same time, one gets the path."""
    path = tmp_path / "channel.sock"
    leave_stale(path)
    start, done = threading.Barrier(8), threading.Barrier(8)
    won: list[int] = []

    def attempt(number: int) -> None:
        start.wait()
        try:
            with open_listen(listen_at(path)):
                won.append(number)
                done.wait(10)
        except BpferryError:
            done.wait(10)

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 1 == len(won)


def test_connection_is_there_before_anybody_listens_for_it(tmp_path: Path) -> None:
    """What is written waits for the process that accepts, and nothing is left at the path."""
    path = tmp_path / "run" / "fs0.sock"

    connection, listens = connect_to(path)
    with connection, listens:
        connection.sendall(b"hello")
        accepted, _ = listens.accept()
        with accepted:
            assert b"hello" == accepted.recv(5)
        assert [] == list(path.parent.iterdir())
        assert not is_bound(path)


def test_connection_is_not_made_where_something_else_is(tmp_path: Path) -> None:
    """A file that is no socket stays, and no fd is left open."""
    path = tmp_path / "fs0.sock"
    path.write_text("mine")

    with pytest.raises(BpferryError, match="a file that is no socket is in the way"):
        connect_to(path)

    assert "mine" == path.read_text()
