# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where users and programs connect to a VM that runs.

Most of it is known beforehand. If QEMU chooses, as with a free port for VNC or a pseudo-terminal,
QMP says what it has chosen, as soon as it answers.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from bpferry.commandline.parts import Endpoint
from bpferry.errors import QemuError

if TYPE_CHECKING:
    from bpferry.qemu.monitor import Monitor

NOT_SAID: Final = "QEMU does not say where"

REMARKS: Final = {
    "pty": " (pseudo-terminal)",
    "udp": " (UDP)",
    "websocket": " (WebSocket, for browsers)",
    "spice-tls": " (TLS)",
    "telnet": " (telnet)",
    "vhost-user": " (vhost-user)",
}
"""What a user should know about a kind or a protocol."""

DISPLAYS: Final = {"vnc": "", "vnc-tls": ", TLS"}
"""The protocols with display numbers, and what else a user should know about them."""


async def find_chosen(monitor: "Monitor", endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """Return *endpoints* with what QEMU has chosen; what it does not report stays empty.

    Raises:
        QemuError: QEMU ended.
    """
    servers: list[dict[str, object]] = []
    chardevs: dict[str, str] = {}
    if any(one.kind == "tcp" and not one.port for one in endpoints):
        for display in _records(await monitor.execute("query-vnc-servers")):
            servers += _records(display.get("server"))
    if any(one.kind == "pty" for one in endpoints):
        for found in _records(await monitor.execute("query-chardev")):
            chardevs[str(found.get("label"))] = str(found.get("filename"))
    return tuple(_with_choice(one, servers, chardevs) for one in endpoints)


def _records(answer: object) -> Iterator[dict[str, object]]:
    if not isinstance(answer, list):
        raise QemuError("QEMU's answer about its sockets is not a list")
    yield from (record for record in answer if isinstance(record, dict))


def _with_choice(
    endpoint: Endpoint, servers: Sequence[dict[str, object]], chardevs: dict[str, str]
) -> Endpoint:
    if endpoint.kind == "pty":
        kind, _, path = chardevs.get(endpoint.chardev, "").partition(":")
        return msgspec.structs.replace(endpoint, path=path if kind == "pty" else "")
    if endpoint.kind == "tcp" and not endpoint.port:
        wanted = endpoint.protocol == "websocket"
        for server in servers:
            if server.get("websocket") is wanted:
                host, port = str(server.get("host")), str(server.get("service"))
                return msgspec.structs.replace(endpoint, host=host, port=port)
    return endpoint


def describe(endpoint: Endpoint) -> str:
    """Return how to reach *endpoint*, in one line."""
    return f"{endpoint.name}: {_where(endpoint)}{_remark(endpoint)}"


def _where(endpoint: Endpoint) -> str:
    match endpoint.kind:
        case "unix":
            return f"unix socket {endpoint.path}"
        case "pty":
            return endpoint.path or NOT_SAID
        case "pipe":
            return f"named pipes {endpoint.path}.in and {endpoint.path}.out"
        case "vsock":
            return f"CID {endpoint.port}"
    if not endpoint.port:
        return NOT_SAID
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host or "*"
    return f"{host}:{endpoint.port}"


def _remark(endpoint: Endpoint) -> str:
    if endpoint.protocol in DISPLAYS and endpoint.kind == "tcp" and endpoint.port.isdecimal():
        from bpferry.commandline.displays.vnc import FIRST_PORT  # noqa: PLC0415 - few have it

        return f" (display :{int(endpoint.port) - FIRST_PORT}{DISPLAYS[endpoint.protocol]})"
    return REMARKS.get(endpoint.protocol) or REMARKS.get(endpoint.kind, "")


def fields(endpoint: Endpoint) -> dict[str, object]:
    """Return *endpoint* for programs; what does not apply is None."""
    return {
        "name": endpoint.name,
        "kind": endpoint.kind,
        "protocol": endpoint.protocol or None,
        "host": endpoint.host or None,
        "port": int(endpoint.port) if endpoint.port.isdecimal() else endpoint.port or None,
        "path": endpoint.path or None,
    }
