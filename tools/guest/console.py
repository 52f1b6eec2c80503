# SPDX-License-Identifier: LGPL-2.1-or-later
"""Talk to the agent in the guest over the guest's serial line.

The other end is agent.py, which explains the commands. Other output on the line (firmware, kernel,
a crash) is kept, and its end is shown if the guest does not answer.
"""

import json
import os
import select
import time
from collections import deque
from typing import Protocol

from guest.command import GuestError

MARK = "@guest "
SHOWN_LINES = 15
KEPT_LINES = 1000
READ_BYTES = 64 << 10

BOOT_S = 150.0
"""A boot takes ten, and much longer on a host that is busy with other guests."""

HELLO_AGAIN_S = 5.0
"""How often a silent guest is asked again. One was seen to be up but silent: an incoming byte makes
its serial driver send what is still waiting."""

Answer = dict[str, object]


class HasFileno(Protocol):
    """A socket, a pipe's file object, a terminal."""

    def fileno(self) -> int:
        """Return the number of the open file."""


class Console:
    """The host's end of a guest's serial line. Borrows both files, which may be the same one."""

    def __init__(self, incoming: HasFileno, outgoing: HasFileno) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._pending = b""
        self._answers: deque[Answer] = deque()
        self._asked = 0
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        """The guest's output other than answers, newest last."""

    def wait_until_ready(self, timeout: float = BOOT_S) -> Answer:
        """Return the hello that the agent sends when it is ready, within *timeout* seconds.

        Raises:
            GuestError: It did not send one, or the guest is gone.
        """
        deadline = time.monotonic() + timeout
        while not self._heard(min(deadline, time.monotonic() + HELLO_AGAIN_S)):
            if time.monotonic() >= deadline:
                raise self._failure("the guest was not ready in time")
            self._send(b'{"do":"hello"}\n', deadline)
        return self._await({"do": "hello"}, deadline)

    def _heard(self, deadline: float) -> bool:
        """Read until *deadline*, and return whether there is an answer."""
        while not self._answers:
            seconds = max(0.0, deadline - time.monotonic())
            if not is_ready(self._incoming.fileno(), select.POLLIN, seconds):
                return False
            if not self._receive():
                raise self._closed()
        return True

    def ask(self, do: str, timeout: float = 120.0, **arguments: object) -> Answer:
        """Send the command *do* and return the agent's answer, within *timeout* seconds.

        Raises:
            GuestError: The agent reported an error or did not answer, or the guest is gone.
        """
        deadline = time.monotonic() + timeout
        self._asked += 1
        command = {"do": do, "id": self._asked, **arguments}
        self._send(json.dumps(command).encode() + b"\n", deadline)
        answer = self._await({"id": self._asked}, deadline)
        if "error" in answer:
            raise GuestError(f"the guest cannot do '{do}': {answer['error']}")
        return answer

    def _send(self, data: bytes, deadline: float) -> None:
        while data:
            self._wait(self._outgoing.fileno(), select.POLLOUT, deadline)
            try:
                data = data[os.write(self._outgoing.fileno(), data) :]
            except OSError as error:
                raise self._failure(f"cannot write to the guest: {error.strerror}") from error

    def _await(self, wanted: Answer, deadline: float) -> Answer:
        """Return the next answer that has all of *wanted*; drop older, late ones."""
        while True:
            while self._answers:
                answer = self._answers.popleft()
                if wanted.items() <= answer.items():
                    return answer
            self._wait(self._incoming.fileno(), select.POLLIN, deadline)
            if not self._receive():
                raise self._closed()

    def _closed(self) -> GuestError:
        return self._failure("the guest is gone: its console was closed")

    def _wait(self, file: int, event: int, deadline: float) -> None:
        if not is_ready(file, event, max(0.0, deadline - time.monotonic())):
            raise self._failure("the guest did not answer in time")

    def _receive(self) -> bool:
        """Read what has arrived; return whether the line is still open."""
        try:
            data = os.read(self._incoming.fileno(), READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            # This is how a terminal or a socket reports that the other end is closed.
            return False
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            self._sort(line.decode(errors="replace").strip())
        return bool(data)

    def _sort(self, line: str) -> None:
        """Sort one line; a broken answer counts as other output."""
        if line.startswith(MARK):
            try:
                self._answers.append(json.loads(line.removeprefix(MARK)))
            except ValueError:
                self.lines.append(line)
        elif line:
            self.lines.append(line)

    def _failure(self, reason: str) -> GuestError:
        # The reason may be in output that was not read yet.
        while is_ready(self._incoming.fileno(), select.POLLIN, 0.0) and self._receive():
            pass
        lines = [*self.lines, self._pending.decode(errors="replace")][-SHOWN_LINES:]
        shown = "".join(f"\n    {line}" for line in lines if line)
        said = f"the last lines of its console:{shown}" if shown else "it wrote nothing before"
        return GuestError(f"{reason}; {said}")


def is_ready(file: int, event: int, seconds: float) -> bool:
    """Wait up to *seconds* for *event*, or a hang-up, of the open *file*."""
    poll = select.poll()
    poll.register(file, event)
    return bool(poll.poll(seconds * 1000))
