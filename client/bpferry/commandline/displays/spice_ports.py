# SPDX-License-Identifier: LGPL-2.1-or-later
"""The two ports of SPICE, one in plain text and one with TLS, and which of them a channel may use.

As in libvirt (qemu_process.c, qemuProcessSPICEAllocatePorts), automatic ports are those that the
modes of the channels need, and one with TLS if there are certificates.
"""

import zlib
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from bpferry.commandline.context import Context
from bpferry.commandline.displays.endpoints import Local, Nowhere, Place, Tcp
from bpferry.domain.model.graphics import Graphics
from bpferry.domain.names import Named
from bpferry.domain.remaining import numbered
from bpferry.errors import Unsupported

FIRST_AUTOMATIC_PORT: Final = 16000
AUTOMATIC_PORTS: Final = 8000
"""For each of the two. All are below those that Linux gives to outgoing connections
(ip_local_port_range, from 32768)."""

GIVE_A_PORT: Final = "give it one, or let ports be automatic (autoport)"


class Ports(Struct, frozen=True):
    """Where the server listens; 0 for nowhere."""

    plain: int = 0
    tls: int = 0


def ports_of(device: Named[Graphics], place: Place, context: Context) -> Ports:
    """Return the ports of a display that is offered at *place*."""
    return _wanted(device.value, context) if isinstance(place, Tcp) else Ports()


def check_ports(device: Named[Graphics], place: Place, ports: Ports) -> Iterator[Unsupported]:
    """Yield a refusal of each port that cannot exist, and of channels that have no port to use."""
    if not isinstance(place, Tcp):
        yield from _refuse_ports(device)
    has_plain = bool(ports.plain) or isinstance(place, Local | Nowhere)
    for field, mode in _modes(device.value):
        if mode == "secure" and not ports.tls:
            yield device.mistake(field, "there is no port with TLS", GIVE_A_PORT)
        if mode == "insecure" and not has_plain:
            yield device.mistake(field, "there is no port without TLS", GIVE_A_PORT)


def _wanted(graphics: Graphics, context: Context) -> Ports:
    plain, tls = automatic_ports(context)
    if graphics.autoport or graphics.port == graphics.tls_port == -1:
        modes = {mode for _, mode in _modes(graphics)}
        by_default = graphics.default_mode in (None, "any")
        offered = by_default and context.spice_certificates.are_there
        return Ports(
            plain if by_default or "insecure" in modes else 0,
            tls if offered or "secure" in modes else 0,
        )
    return Ports(
        plain if graphics.port == -1 else graphics.port or 0,
        tls if graphics.tls_port == -1 else graphics.tls_port or 0,
    )


def _modes(graphics: Graphics) -> Iterator[tuple[str, str | None]]:
    yield "default-mode", graphics.default_mode
    for index, channel in numbered(graphics.channels):
        yield f"channels[{index}].mode", channel.mode


def _refuse_ports(device: Named[Graphics]) -> Iterator[Unsupported]:
    """Refuse a port; the number that an automatic port had in a past run is ignored."""
    graphics = device.value
    for field in ("port", "tls_port"):
        if getattr(graphics, field) not in (None, -1, 0) and not graphics.autoport:
            yield device.mistake(field, "the display does not listen on a port", "leave it out")


def automatic_ports(context: Context) -> tuple[int, int]:
    """Return the ports of a VM that does not choose them: always the same for one user's VM.

    A heuristic: QEMU cannot look for a free port for SPICE, and fails if another process has this
    one. The folder of the VM's sockets tells users and VMs apart.
    """
    chosen = FIRST_AUTOMATIC_PORT + zlib.crc32(context.folders.runtime.encode()) % AUTOMATIC_PORTS
    return chosen, chosen + AUTOMATIC_PORTS
