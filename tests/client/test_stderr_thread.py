# SPDX-License-Identifier: LGPL-2.1-or-later
"""Standard error that nobody reads holds up nobody."""

import os
import re
import threading

import pytest

from bpferry.cli import output
from bpferry.cli import stderr_thread as module
from bpferry.cli.stderr_thread import Writer, unhurried_stderr
from tests.client.support import wait_until

MISSING = re.compile(r"bpferry: (\d+) lines are missing here: nobody read them in time")


def read_all(pipe: tuple[int, int]) -> bytes:
    """Close the end to write, and return all that is in the pipe."""
    os.close(pipe[1])
    with os.fdopen(os.dup(pipe[0]), "rb") as file:
        return file.read()


def test_lines_are_written_in_their_order(pipe: tuple[int, int]) -> None:
    """All of them, by the time the writer is closed."""
    writer = Writer(pipe[1])
    for number in range(1000):
        writer.put(f"{number}\n")

    assert writer.close()
    assert read_all(pipe).split() == [str(number).encode() for number in range(1000)]


def test_reader_that_stalls_is_told_what_is_missing(pipe: tuple[int, int]) -> None:
    """Nobody waits for it, and what it gets is whole lines and their number."""
    writer, line = Writer(pipe[1]), "x" * 99 + "\n"
    for _ in range(10_000):
        writer.put(line)

    read: list[bytes] = []
    reading = threading.Thread(target=lambda: read.append(_until_end(pipe[0])))
    reading.start()
    assert wait_until(lambda: not writer._lines)
    assert writer.close()
    os.close(pipe[1])
    reading.join()

    lines = read[0].decode().splitlines()
    told = [MISSING.fullmatch(one) for one in lines if one != line.rstrip()]
    missing = sum(int(one[1]) for one in told if one)
    assert missing > 0
    assert None not in told
    assert len(lines) - len(told) + missing == 10_000


def _until_end(fd: int) -> bytes:
    found = b""
    while data := os.read(fd, 65536):
        found += data
    return found


def test_reader_that_stalls_for_ever_does_not_hold_up_the_end(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last lines wait for a bounded time."""
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.1)
    writer = Writer(pipe[1])
    writer.put("x" * 200_000)

    assert not writer.close()
    left = 200_000
    while left:
        left -= len(os.read(pipe[0], left))
    assert wait_until(lambda: not writer._thread.is_alive())


def test_reader_that_has_left_is_no_failure(pipe: tuple[int, int]) -> None:
    """A VM runs on without anybody who reads."""
    os.close(pipe[0])
    writer = Writer(pipe[1])
    writer.put("a\n")

    assert writer.close()


def test_what_is_said_in_the_block_is_written(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is said after it, in the usual way."""
    monkeypatch.setattr(module, "STDERR", pipe[1])
    monkeypatch.setattr(module, "_may_stall", lambda: True)
    with unhurried_stderr():
        output.say("héllo")
    assert read_all(pipe) == "bpferry: héllo\n".encode()


def test_a_file_needs_no_thread(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody has to be waited for."""
    before = threading.active_count()
    with unhurried_stderr():
        assert before == threading.active_count()
        output.say("hello")
    assert capsys.readouterr().err == "bpferry: hello\n"
