# SPDX-License-Identifier: LGPL-2.1-or-later
"""One client that asks a helper for one thing after the other, and looks at what it gets."""

import random
import socket
import threading
from collections import Counter

from bpferry_wire import channel
from bpferry_wire.errors import WireError
from bpferry_wire.fds import OwnedFds
from bpferry_wire.messages import ErrorReply, Load, LoadReply, Tap, TapReply
from bpferry_wire.packets import decode_reply, encode_request
from tests.support.census import Held, held_through_fds
from tests.support.helper_process import HelperProcess
from tests.support.tuns import name_of


class Asking(threading.Thread):
    """Asks for sets or taps as root, lets go of each at once, and writes down what came."""

    def __init__(self, helper: HelperProcess, request: Load | Tap, pause_s: float = 0) -> None:
        super().__init__()
        self.outcomes: Counter[str] = Counter()
        self.held: set[Held | str] = set()
        """Everything that it ever had: programs and maps, or the names of taps."""
        self.stop = threading.Event()
        self._helper = helper
        self._request = request
        self._pause_s = pause_s

    def run(self) -> None:
        """Ask until told to stop."""
        chance = random.Random()  # noqa: S311 - other moments each time
        while not self.stop.wait(chance.uniform(0, self._pause_s)):
            try:
                self.outcomes[self._ask()] += 1
            except (OSError, WireError) as error:
                self.outcomes[type(error).__name__] += 1

    def maps(self) -> frozenset[Held]:
        """Return the programs and maps among what it had."""
        return frozenset(held for held in self.held if isinstance(held, Held))

    def _ask(self) -> str:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.settimeout(20)
            sock.connect(str(self._helper.path))
            channel.send(sock, encode_request(self._request))
            packet = channel.receive(sock)
            with packet.fds as fds:
                reply = decode_reply(packet.data, self._request)
                if isinstance(reply, ErrorReply):
                    return f"error {reply.code}"
                return self._look_at(reply, fds)

    def _look_at(self, reply: object, fds: OwnedFds) -> str:
        """Return whether the fds of *reply* are all there and nobody had any of them before."""
        held: frozenset[Held | str]
        if isinstance(self._request, Tap):
            assert isinstance(reply, TapReply)
            held = frozenset(name_of(fd.borrow()) for fd in fds)
            whole = len(fds) == self._request.queues and held == {reply.interface}
        else:
            assert isinstance(reply, LoadReply)
            held = frozenset(held_through_fds(fd.borrow() for fd in fds))
            whole = (len(reply.fds), len(held)) == (4, 4)
        twice = self.held & held
        self.held |= held
        if twice:
            return "given twice"
        return "granted" if whole else "partial"
