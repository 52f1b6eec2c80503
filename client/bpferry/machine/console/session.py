# SPDX-License-Identifier: LGPL-2.1-or-later
"""Somebody at a console, until one of the two ends."""

import contextlib
import os
import socket
from typing import Final

from bpferry.errors import BpferryError, NotReady, NotRunning
from bpferry.machine.console.keys import Asked, Choice, Keys, name_key
from bpferry.machine.console.relay import Relay
from bpferry.machine.console.streams import Streams
from bpferry.machine.console.terminal import every_key, is_ours, is_own_terminal, writable
from bpferry.machine.control.client import Conversation, Reply
from bpferry.machine.reporter import Reporter
from bpferry_wire.fds import OwnedFd

QUESTION: Final = (
    "bpferry: '{name}': d detaches, p powers down, e ends it now, {key} sends {key}, any other key "
    "goes back: "
)


def open_stream(reply: Reply) -> OwnedFd:
    """Open the console that *reply* (to ``console``) names, without blocking.

    Raises:
        BpferryError: it cannot be opened.
    """
    path = str(reply.fields.get("path", ""))
    with reply.fds:
        try:
            match reply.fields.get("kind"):
                case "stream" if len(reply.fds) == 1:
                    stream = OwnedFd(reply.fds[0].take())
                case "pty":
                    stream = OwnedFd(os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
                case "unix":
                    stream = _connect(path)
                case _:
                    raise NotRunning("the VM gave no valid answer: there is no console in it")
        except OSError as error:
            message = f"cannot open the console '{path}': {error.strerror}"
            raise NotReady(message) from error
    os.set_blocking(stream.borrow(), False)
    return stream


def _connect(path: str) -> OwnedFd:
    sock = socket.socket(socket.AF_UNIX)
    with sock:
        sock.connect(path)
        return OwnedFd(sock.detach())


def attend(
    control: Conversation,
    stream: int,
    streams: Streams,
    escape: int | None,
    reporter: Reporter,
) -> bool:
    """Be at the console *stream*; return True if the user detached, and False at its end.

    If the keyboard of *streams* is a terminal of ours, every key of it is the guest's but *escape*;
    the terminal's mode comes back with the end, however that comes.
    """
    output, keyboard, bell = streams
    desk = None
    with contextlib.ExitStack() as stack:
        if keyboard is not None and is_own_terminal(keyboard):
            reporter.note(introduce(control.vm_name, escape))
            screen = stack.enter_context(writable(keyboard))
            stack.enter_context(every_key(keyboard))
            desk = _Desk(control, screen, Keys(escape), reporter)
        elif keyboard is not None and not is_ours(keyboard):
            keyboard = None
        relay = Relay(stream, output, keyboard, desk, bell)
        relay.start()
        stack.callback(relay.stop)
        relay.wait()
    return desk is not None and desk.detached


def introduce(vm_name: str, escape: int | None) -> str:
    """Say what the keys do, in one line."""
    keys = f"all keys go to the guest of '{vm_name}', Ctrl-C too"
    if escape is None:
        return f"{keys}; to end it, use 'bpferry stop' on another terminal"
    return f"{keys}; {name_key(escape)} leaves"


class _Desk:
    """Asks the user who pressed the escape key, and does what the answer is."""

    def __init__(self, control: Conversation, screen: int, keys: Keys, reporter: Reporter) -> None:
        self._control = control
        self._screen = screen
        self._keys = keys
        self._reporter = reporter
        self._at_start = True
        """The cursor is at the start of a line, as far as we know."""
        self.detached = False

    @property
    def asking(self) -> bool:
        """Whether the user is asked something."""
        return self._keys.asking

    def showed(self, data: bytes) -> None:
        """Take note of what was shown last."""
        if data:
            self._at_start = data.endswith((b"\n", b"\r"))

    def interrupted(self) -> None:
        """Ask again, below the line that somebody else has written."""
        self._at_start = True
        if self.asking:
            self._ask()

    def take(self, typed: bytes) -> bytes | None:
        """Return what of *typed* is for the guest; None if the user detaches."""
        kept = b""
        for item in self._keys.take(typed):
            match item:
                case bytes():
                    kept += item
                case Asked.ASKED:
                    self._ask()
                case Choice.DETACH:
                    self._write("\n")
                    self.detached = True
                    return None
                case _:
                    self._write("\n")
                    self._at_start = True
                    self._do(item)
        return kept

    def _ask(self) -> None:
        key = "the key" if self._keys.escape is None else name_key(self._keys.escape)
        question = QUESTION.format(name=self._control.vm_name, key=key)
        self._write(question if self._at_start else f"\n{question}")

    def _do(self, choice: Choice | Asked) -> None:
        if choice not in (Choice.POWER_DOWN, Choice.END):
            return
        try:
            self._control.ask("stop", force=choice is Choice.END)
        except NotRunning:
            # Which shows anyway.
            return
        except BpferryError as error:
            self._reporter.warn(error.message, error.hint)

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            os.write(self._screen, text.encode())
