# SPDX-License-Identifier: LGPL-2.1-or-later
"""Send requests to the helper, and measure the time from before connect(2) until the answer."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.command import BenchError
from bpferry_wire import channel
from bpferry_wire.errors import WireError
from bpferry_wire.fds import OwnedFds
from bpferry_wire.messages import (
    ErrorReply,
    Hello,
    Load,
    LoadReply,
    Quota,
    QuotaReply,
    Reply,
    Request,
    Status,
    StatusReply,
    Tap,
)
from bpferry_wire.packets import decode_reply, encode_request
from failure import last_lines

ANSWER_S = 60.0
"""Longer than the very first load, for which the helper reads every installed QEMU."""


@dataclass(frozen=True, slots=True)
class Client:
    """Sends requests to the helper that listens on *path*, with a new connection each time."""

    path: Path
    log: Path

    def hello_ns(self) -> int:
        """Send a hello: everything that a load takes, except the load and the fds."""
        return self._ask_ns(Hello(), 1)

    def load_ns(self, load: Load, at_once: int = 1) -> int:
        """Ask for *at_once* sets over as many connections; return the time until all arrived."""
        return self._ask_ns(load, at_once)

    def tap_ns(self, tap: Tap) -> int:
        """Ask for a tap and release it; return the time until all its queues had arrived."""
        return self._ask_ns(tap, 1)

    def ready(self) -> int:
        """Ask how many sets are loaded ahead."""
        asked = Status()
        with self._explaining(), ExitStack() as stack:
            reply = _check(asked, channel.receive(self._ask(stack, encode_request(asked))))
            assert isinstance(reply, StatusReply)  # noqa: S101 - decoded as the answer to this
            return reply.ready

    def census(self) -> None:
        """Let the helper count what is alive."""
        self.quota_ns()

    def quota_ns(self) -> int:
        """Ask how much is alive, which the helper asks the kernel."""
        return self._ask_ns(Quota(), 1)

    def hold(self, tap: Tap) -> OwnedFds:
        """Ask for a tap and keep it: the caller owns its queues."""
        with self._explaining(), ExitStack() as stack:
            packet = channel.receive(self._ask(stack, encode_request(tap)))
            stack.callback(packet.fds.close)
            _check(tap, packet)
            return OwnedFds(packet.fds.take())

    def taps_alive(self) -> int:
        """Ask how many taps are alive, according to the kernel."""
        asked = Quota()
        with self._explaining(), ExitStack() as stack:
            packet = channel.receive(self._ask(stack, encode_request(asked)))
            stack.callback(packet.fds.close)
            reply = _check(asked, packet)
            assert isinstance(reply, QuotaReply)  # noqa: S101 - decoded as the answer to this
            return reply.held_by_all

    def _ask_ns(self, request: Request, times: int) -> int:
        with self._explaining():
            return self._timed_ns(request, times)

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except (OSError, WireError) as error:
            words = last_lines(self.log.read_text())
            raise BenchError(f"cannot ask the helper: {error}; it says: {words}") from error

    def _timed_ns(self, request: Request, times: int) -> int:
        asked = encode_request(request)
        packets = []
        with ExitStack() as stack:
            start = time.perf_counter_ns()
            socks = [self._ask(stack, asked) for _ in range(times)]
            for sock in socks:
                packet = channel.receive(sock)
                stack.callback(packet.fds.close)
                packets.append(packet)
            end = time.perf_counter_ns()
            for packet in packets:
                _check(request, packet)
        return end - start

    def _ask(self, stack: ExitStack, packet: bytes) -> socket.socket:
        sock = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        sock.settimeout(ANSWER_S)
        sock.connect(str(self.path))
        channel.send(sock, packet)
        return sock


def _check(request: Request, packet: channel.Packet) -> Reply:
    """Return the reply in *packet*, which must grant *request*: a quick refusal does not count.

    Raises:
        BenchError: it does not.
    """
    reply = decode_reply(packet.data, request)
    if isinstance(reply, ErrorReply):
        raise BenchError(f"the helper refused: {reply.message}", reply.hint)
    wanted = len(reply.fds) if isinstance(reply, LoadReply) else 0
    wanted = request.queues if isinstance(request, Tap) else wanted
    if len(packet.fds) != wanted:
        raise BenchError(f"the helper announced {wanted} fds and sent {len(packet.fds)}")
    return reply
