# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether the ports and sockets on which QEMU, or passt for it, should listen are free.

A port is tried as QEMU does it (util/qemu-sockets.c): bound, and released at once. Nobody can
connect in between, since that takes listen(2).
"""

import errno
import re
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from bpferry.commandline.parts import Endpoint
from bpferry.errors import BpferryError, NotReady
from bpferry.machine.listening import check_free

UNPRIVILEGED: Final = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")

RANGE: Final = r"[0-9]+-[0-9]+"

ALL_PORTS: Final = "1-65535"
"""Of them, passt takes those that it can have."""

LISTENS: Final = "0A"
"""TCP_LISTEN of net/tcp_states.h, as in the tables."""

ADDRESS_COLUMN, STATE_COLUMN, INODE_COLUMN = 1, 3, 9

Address = tuple[int, int, str, int]
"""Family, type, address and port of a socket."""


def find_taken_ports(endpoints: Sequence[Endpoint]) -> Iterator[BpferryError]:
    """Yield the ports on which nobody could listen now, and the sockets that are taken.

    Each error's element is a key of the model.
    """
    seen: dict[tuple[str, str, str], str] = {}
    for endpoint in endpoints:
        if endpoint.kind == "unix":
            yield from _socket(endpoint)
        elif endpoint.kind in ("tcp", "udp") and endpoint.port and "%" not in endpoint.host:
            at = (endpoint.kind, endpoint.host, endpoint.port)
            if at in seen:
                yield _error(endpoint, f"'{seen[at]}' is there", "give one of them another port")
            else:
                seen[at] = endpoint.name
                yield from _port(endpoint)


def _socket(endpoint: Endpoint) -> Iterator[BpferryError]:
    try:
        check_free(Path(endpoint.path))
    except BpferryError as error:
        yield NotReady(error.message, error.hint, endpoint.key)


def _port(endpoint: Endpoint) -> Iterator[NotReady]:
    """Yield why QEMU could not listen on any address of *endpoint*; nothing if it could."""
    try:
        addresses = _addresses(endpoint)
    except (OSError, UnicodeError) as error:
        if isinstance(error, socket.gaierror) and error.errno == socket.EAI_SERVICE:
            cause, hint = f"no service is called '{endpoint.port}'", "give the number of a port"
        else:
            cause = f"there is no address of '{endpoint.host}'"
            hint = "name an address of this host, such as 127.0.0.1"
        yield _error(endpoint, cause, hint)
        return
    problems = [_try(address) for address in addresses]
    if re.fullmatch(RANGE, endpoint.port):
        # Part of it may be taken; but what this user may not have at all fails.
        problems = [one for one in problems if one and one.errno == errno.EACCES]
    if problems and all(problems):
        yield _error(endpoint, *_explain(endpoint, addresses[0], problems[0]))


def _addresses(endpoint: Endpoint) -> list[Address]:
    """Return where *endpoint* would be: of a range the first port, of all ports nothing."""
    if endpoint.port == ALL_PORTS:
        return []
    first = endpoint.port.partition("-")[0] if re.fullmatch(RANGE, endpoint.port) else endpoint.port
    kind = socket.SOCK_STREAM if endpoint.kind == "tcp" else socket.SOCK_DGRAM
    # If it listens on all addresses, IPv4 has to work.
    family = socket.AF_UNSPEC if endpoint.host else socket.AF_INET
    found = socket.getaddrinfo(endpoint.host or None, first, family, kind, flags=socket.AI_PASSIVE)
    return [(family, kind, str(where[0]), int(where[1])) for family, kind, _, _, where in found]


def _try(address: Address) -> OSError | None:
    family, kind, host, port = address
    try:
        with socket.socket(family, kind) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, port))
    except OSError as error:
        return error
    return None


def _error(endpoint: Endpoint, cause: str, hint: str) -> NotReady:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host or "*"
    message = f"cannot listen at {host}:{endpoint.port} for '{endpoint.name}': {cause}"
    return NotReady(message, hint, endpoint.key)


def _explain(endpoint: Endpoint, address: Address, error: OSError | None) -> tuple[str, str]:
    """Return cause and remedy of an error of bind(2)."""
    another = "choose another port" + (
        ", or -1 for one that is free" if endpoint.protocol in ("vnc", "websocket") else ""
    )
    match error.errno if error else 0:
        case errno.EADDRINUSE:
            return f"the port is taken now by {_who(endpoint.kind, address)}", another
        case errno.EACCES:
            first = _first_unprivileged()
            lower = "ask the administrator to lower net.ipv4.ip_unprivileged_port_start with sysctl"
            return (
                f"ports below {first} are reserved for root",
                f"choose a port from {first} on, or {lower}",
            )
        case errno.EADDRNOTAVAIL:
            return (
                f"this host has no address '{address[2]}'",
                "name one that it has (see 'ip address'), or 0.0.0.0 for all",
            )
    return str(error.strerror if error else ""), another


def _first_unprivileged() -> int:
    try:
        return int(UNPRIVILEGED.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 1024


def _who(kind: str, address: Address) -> str:
    """Return whose socket is at *address*, according to the kernel (proc_pid_net(5))."""
    from bpferry.machine.processes import (  # noqa: PLC0415 - few ports are taken
        describe_process,
        find_socket_owner,
    )

    for table in (kind, f"{kind}6"):
        for inode in _inodes(Path("/proc/net", table), address, is_tcp=kind == "tcp"):
            owner = find_socket_owner(inode)
            if owner is not None:
                return describe_process(owner)
    return "another process"


def _inodes(table: Path, address: Address, *, is_tcp: bool) -> Iterator[int]:
    """Yield the inodes of the sockets in *table* that are in the way of *address*."""
    try:
        lines = table.read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return
    family, _, host, port = address
    ours = _in_hexadecimal(socket.inet_pton(socket.AddressFamily(family), host))
    for columns in map(str.split, lines):
        theirs, _, taken = columns[ADDRESS_COLUMN].rpartition(":")
        same = theirs == ours or not (int(theirs, 16) and int(ours, 16))
        if int(taken, 16) == port and same and (not is_tcp or columns[STATE_COLUMN] == LISTENS):
            yield int(columns[INODE_COLUMN])


def _in_hexadecimal(packed: bytes) -> str:
    """Return an address in the format of the tables: words in this host's byte order."""
    words = (packed[at : at + 4] for at in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)
