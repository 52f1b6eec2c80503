# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the agent in a guest says (qemu-guest-agent), at the Unix socket of its channel.

Requests and replies are lines of JSON. QEMU serves one client at a time, and what an agent answered
to a former client may still be in between, so we begin with ``guest-sync-delimited``: its answer
follows a byte that is never part of JSON (qga/qapi-schema.json). What comes from there is a
guest's, and is believed as little as possible.
"""

import ipaddress
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from bpferry.errors import BpferryError
from bpferry.network.neighbours import IpAddress

SECONDS: Final = 3.0
"""An agent answers in some milliseconds; a guest without one never does."""

MAX_BYTES: Final = 1 << 20
"""An answer about some hundred interfaces has a tenth of that."""

DELIMITER: Final = b"\xff"


class GuestAddress(NamedTuple):
    """An address that a guest says it has."""

    mac: str
    """Of the interface, in lower case."""
    address: IpAddress
    interface: str


def read_addresses(path: str, seconds: float = SECONDS) -> list[GuestAddress]:
    """Return the addresses of all interfaces of the guest whose agent is at the socket *path*.

    It has so many *seconds* to answer.

    Raises:
        BpferryError: there is no agent that answers, or its answer is not valid.
    """
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            answer = _Agent(sock, path, seconds).ask("guest-network-get-interfaces")
    except TimeoutError as error:
        message = f"no answer within {seconds:g} s"
        raise BpferryError(message, "is qemu-guest-agent running in the guest?") from error
    except OSError as error:
        raise BpferryError(f"'{path}': {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise BpferryError("it gave no valid answer") from error
    return list(_addresses(answer))


class _Agent:
    """A connection to an agent, with one time limit for everything."""

    def __init__(self, sock: socket.socket, path: str, seconds: float) -> None:
        self._sock = sock
        self._end = time.monotonic() + seconds
        self._rest = b""
        self._limit()
        sock.connect(path)
        number = int.from_bytes(os.urandom(3))
        # The first byte makes the agent forget a request that was cut off.
        self._send(DELIMITER, "guest-sync-delimited", {"id": number})
        while self._reply(after=DELIMITER).get("return") != number:
            pass

    def ask(self, command: str) -> object:
        """Return what the agent answers to *command*."""
        self._send(b"", command, {})
        reply = self._reply()
        if "return" not in reply:
            raise BpferryError(f"the agent refuses '{command}'")
        return reply["return"]

    def _send(self, before: bytes, command: str, arguments: Mapping[str, object]) -> None:
        request = {"execute": command, **({"arguments": arguments} if arguments else {})}
        self._limit()
        self._sock.sendall(before + json.dumps(request).encode() + b"\n")

    def _reply(self, after: bytes = b"") -> Mapping[str, object]:
        line = self._line()
        while after and after not in line:
            line = self._line()
        reply = json.loads(line.rpartition(after)[2] if after else line)
        if not isinstance(reply, dict):
            raise ValueError(reply)  # noqa: TRY004 - the caller knows one kind of bad answer
        return reply

    def _line(self) -> bytes:
        while b"\n" not in self._rest:
            self._limit()
            data = self._sock.recv(1 << 16)
            self._rest += data
            if not data or len(self._rest) > MAX_BYTES:
                raise ValueError(len(self._rest))
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _limit(self) -> None:
        self._sock.settimeout(max(0.001, self._end - time.monotonic()))


def _addresses(answer: object) -> Iterator[GuestAddress]:
    for interface in _records(answer):
        mac, name = interface.get("hardware-address"), interface.get("name")
        for found in _records(interface.get("ip-addresses")):
            try:
                address = ipaddress.ip_address(str(found.get("ip-address")))
            except ValueError:
                continue
            # What follows a percent sign is any text, and of no use outside of the guest.
            scoped = isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None
            if isinstance(mac, str) and not address.is_loopback and not scoped:
                yield GuestAddress(mac.lower(), address, _shown(name))


def _records(value: object) -> Iterator[Mapping[str, object]]:
    yield from (one for one in value if isinstance(one, dict)) if isinstance(value, list) else ()


def _shown(name: object) -> str:
    """Return the name of an interface, unless it has signs that a terminal would obey."""
    return name if isinstance(name, str) and name.isprintable() else ""
