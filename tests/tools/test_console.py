# SPDX-License-Identifier: LGPL-2.1-or-later
"""The host's end of a guest's serial line, with a thread that plays the guest."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from guest import console
from guest.command import GuestError
from guest.console import Console
from guest.flows import AT_ONCE, Route, make_flows, send_from_guest

HELLO = b'\n@guest {"do":"hello","kernel":"6.1"}\n'


@contextmanager
def _guest(play: Callable[[socket.socket], None]) -> Iterator[Console]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        thread = threading.Thread(target=play, args=(theirs,))
        thread.start()
        try:
            yield Console(ours, ours)
        finally:
            ours.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_a_guest_whose_hello_got_stuck_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A serial driver that waits for something to happen sends when a byte comes in."""
    monkeypatch.setattr(console, "HELLO_AGAIN_S", 0.05)
    asked: list[object] = []

    def play(line: socket.socket) -> None:
        asked.append(json.loads(line.recv(4096)))
        line.sendall(HELLO)

    with _guest(play) as host:
        assert host.wait_until_ready(5.0)["kernel"] == "6.1"
    assert asked == [{"do": "hello"}]


def test_a_silent_guest_is_an_error_with_its_last_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel wrote before it fell silent is what a person needs."""
    monkeypatch.setattr(console, "HELLO_AGAIN_S", 0.05)
    with (
        _guest(lambda line: line.sendall(b"Kernel panic - not syncing\n")) as host,
        pytest.raises(GuestError, match=r"(?s)not ready in time.*Kernel panic"),
    ):
        host.wait_until_ready(0.2)


def test_a_guest_that_is_gone_is_told_at_once() -> None:
    """There is nothing to wait for when the line is closed."""

    def play(line: socket.socket) -> None:
        line.shutdown(socket.SHUT_RDWR)

    with _guest(play) as host, pytest.raises(GuestError, match="its console was closed"):
        host.wait_until_ready(60.0)


def test_answers_that_come_twice_do_no_harm() -> None:
    """A guest that was asked while it said hello by itself says it twice."""

    def play(line: socket.socket) -> None:
        line.sendall(HELLO + HELLO)
        command = json.loads(line.recv(4096))
        line.sendall(b"@guest " + json.dumps({**command, "combined": 4}).encode() + b"\n")

    with _guest(play) as host:
        host.wait_until_ready(5.0)
        assert host.ask("channels", 5.0, count=4)["combined"] == 4


def test_many_flows_go_to_the_guest_in_several_commands() -> None:
    """Its line takes few bytes at a time, and each flow is to be sent once."""
    flows = make_flows(
        2 * AT_ONCE + 1, [Route("10.0.0.1", "10.0.0.2"), Route("fd00::1", "fd00::2")]
    )
    commands: list[dict[str, object]] = []

    def play(line: socket.socket) -> None:
        with line.makefile("r") as commanded:
            for text in commanded:
                commands.append(json.loads(text))
                answer = {"do": "send", "id": commands[-1]["id"]}
                line.sendall(b"@guest " + json.dumps(answer).encode() + b"\n")

    with _guest(play) as host:
        send_from_guest(host, flows, 2)

    asked = [cast("list[list[object]]", command["flows"]) for command in commands]
    assert [AT_ONCE, AT_ONCE, 1] == [len(some) for some in asked]
    assert [list(flow) for flow in flows] == [flow for some in asked for flow in some]
    assert {2} == {command["packets"] for command in commands}
