# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guest's console on our standard streams."""

import os
import pty
import socket
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpferry.machine.console import relay as relays
from bpferry.machine.console.preamble import Preamble
from bpferry.machine.console.relay import Relay, relay_to
from bpferry.machine.console.streams import Streams
from bpferry.machine.console.terminal import every_key
from tests.client.support import wait_until


@pytest.fixture
def guest() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Make our end and the guest's end of a console."""
    ours, guests = socket.socketpair()
    with ours, guests:
        guests.settimeout(5)
        yield ours, guests


Ends = tuple[socket.socket, socket.socket]


def test_what_the_guest_writes_is_shown(guest: Ends, pipe: tuple[int, int]) -> None:
    """The guest's bytes come out as they are."""
    with relay_to(guest[0], Streams(pipe[1], None)):
        guest[1].sendall(b"login: \xff\r\n")

        assert os.read(pipe[0], 100) == b"login: \xff\r\n"


def test_last_words_are_shown(guest: Ends, pipe: tuple[int, int]) -> None:
    """What the guest wrote before its end is shown although the relay ends at once."""
    guest[1].sendall(b"x" * 20_000)
    guest[0].settimeout(0)
    ended = Relay(guest[0].fileno(), pipe[1], None)
    os.close(ended._end_writer)
    ended._run()

    assert len(os.read(pipe[0], 65536)) == 20_000


PTY = b"char device redirected to /dev/pts/0 (label charserial1)\n"


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(
    ("lines", "said", "shown"),
    [
        (1, PTY + b"hello\n", b"hello\n"),
        (2, PTY + PTY + PTY + b"hello\n", PTY + b"hello\n"),
        (1, b"char!\n" + PTY, b"char!\n" + PTY),
        (0, PTY, PTY),
    ],
)
def test_qemus_own_lines_at_the_start_are_left_out(
    size: int, lines: int, said: bytes, shown: bytes
) -> None:
    """As many as there are pseudo-terminals, however the bytes come; all else is the guest's."""
    preamble = Preamble(lines)

    pieces = (said[start : start + size] for start in range(0, len(said), size))
    assert shown == b"".join(preamble.strip(piece) for piece in pieces)


@pytest.mark.parametrize("size", [5, 500_000])
def test_what_is_typed_goes_to_the_guest(
    size: int, guest: Ends, pipe: tuple[int, int], tmp_path: Path
) -> None:
    """A file as keyboard is typed in full, however slowly the guest reads."""
    (tmp_path / "typed").write_bytes(b"k" * size)
    with (
        (tmp_path / "typed").open("rb") as typed,
        relay_to(guest[0], Streams(pipe[1], typed.fileno())),
    ):
        got = 0
        while got < size:
            got += len(guest[1].recv(4096))

    assert size == got


def test_end_of_the_keyboard_is_not_the_end(guest: Ends, pipe: tuple[int, int]) -> None:
    """With an empty keyboard, the console is still shown, and nothing spins."""
    with (
        Path("/dev/null").open("rb") as nothing,
        relay_to(guest[0], Streams(pipe[1], nothing.fileno())),
    ):
        before = time.process_time()
        time.sleep(0.5)
        guest[1].sendall(b"still")

        assert os.read(pipe[0], 100) == b"still"
        assert time.process_time() - before < 0.05


def test_reader_who_left_does_not_stop_the_guest(guest: Ends, pipe: tuple[int, int]) -> None:
    """When nobody reads our output any more, the guest can still write."""
    os.close(pipe[0])
    with relay_to(guest[0], Streams(pipe[1], None)):
        for _ in range(50):
            guest[1].sendall(b"y" * 65536)


def test_reader_who_is_slow_does_not_hold_up_the_end(
    guest: Ends, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An output that nobody reads delays the end by a bounded time."""
    monkeypatch.setattr(relays, "END_SECONDS", 0.2)
    began = time.monotonic()
    with relay_to(guest[0], Streams(pipe[1], None)):
        guest[1].sendall(b"z" * 100_000)
        time.sleep(0.2)

    assert time.monotonic() - began < 2
    # Let the thread that still writes get rid of it, and end.
    left = [thread for thread in threading.enumerate() if thread.name == "console"]
    while any(thread.is_alive() for thread in left):
        os.read(pipe[0], 65536)
        left[0].join(0.05)
    assert left != []


def test_terminal_gets_its_mode_back() -> None:
    """A terminal sends keys on at once while the console runs, and is as before afterwards."""
    main, terminal = pty.openpty()
    try:
        before = termios.tcgetattr(terminal)
        with every_key(terminal):
            during = termios.tcgetattr(terminal)
        assert not during[3] & (termios.ICANON | termios.ECHO)
        assert not during[3] & termios.ISIG
        assert before == termios.tcgetattr(terminal)
    finally:
        os.close(main)
        os.close(terminal)


def test_terminal_of_somebody_else_is_left_alone(guest: Ends, pipe: tuple[int, int]) -> None:
    """A terminal whose foreground is not ours is neither read nor changed."""
    main, terminal = pty.openpty()
    try:
        before = termios.tcgetattr(terminal)
        with relay_to(guest[0], Streams(pipe[1], terminal)):
            assert before == termios.tcgetattr(terminal)
            os.write(main, b"typed\n")
            guest[1].settimeout(0.3)
            with pytest.raises(TimeoutError):
                guest[1].recv(10)
    finally:
        os.close(main)
        os.close(terminal)


def test_thread_ends_with_the_guest(guest: Ends, pipe: tuple[int, int]) -> None:
    """When the guest's end is closed, the thread ends by itself."""
    with relay_to(guest[0], Streams(pipe[1], None)):
        guest[1].close()

        assert wait_until(
            lambda: all(thread.name != "console" for thread in threading.enumerate()), 5
        )
