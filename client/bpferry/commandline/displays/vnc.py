# SPDX-License-Identifier: LGPL-2.1-or-later
"""VNC (-vnc; ui/vnc.c of QEMU 10.0)."""

from collections.abc import Iterator
from typing import Final

from bpferry.commandline.context import Context
from bpferry.commandline.displays.audios import audio_id
from bpferry.commandline.displays.endpoints import Local, Nowhere, Tcp, place_of
from bpferry.commandline.parts import Endpoint, Option, OwnSocket, Part, join
from bpferry.domain.model.graphics import MAX_PORT, Graphics
from bpferry.domain.names import Named

MEANINGFUL: Final = frozenset(
    {
        "type",
        "port",
        "autoport",
        "websocket",
        "address",
        "socket",
        "listens",
        "keymap",
        "audio",
        "share_policy",
        "power_control",
    }
)

FIRST_PORT: Final = 5900
"""Of display 0 (RFC 6143, section 8.1)."""

LAST_AUTOMATIC_DISPLAY: Final = 99
"""QEMU looks for a free port from display 0 to this one, when it starts."""


def vnc(device: Named[Graphics], context: Context) -> Iterator[Part]:
    """Yield what offers the display over VNC."""
    graphics = device.value
    place = place_of(device, context)
    common = {
        "share": graphics.share_policy,
        "power_control": graphics.power_control,
        "audiodev": audio_id(device, context),
    }
    if isinstance(place, Tcp):
        yield Option("-vnc", join("", **_tcp(place, device), **common))
        yield from _endpoints(place, device)
        return
    _refuse_ports(device)
    if isinstance(place, Local):
        yield OwnSocket(place.path)
        yield Endpoint("vnc", "unix", device.key, path=place.path, protocol="vnc")
        yield Option("-vnc", join("", vnc=f"unix:{place.path}", **common))
    elif isinstance(place, Nowhere):
        yield Option("-vnc", join("none", **common))


def _tcp(place: Tcp, device: Named[Graphics]) -> dict[str, object]:
    graphics = device.value
    host = f"[{place.address}]" if ":" in place.address else place.address
    websocket = graphics.websocket or None
    if _is_automatic(device):
        display, last = 0, LAST_AUTOMATIC_DISPLAY
    else:
        display, last = _display(device), None
    return {
        "vnc": f"{host}:{display}",
        "to": last,
        # With -1, QEMU takes 5700 and the number of the display, or the next that is free.
        "websocket": "on" if websocket == -1 else websocket,
    }


def _endpoints(place: Tcp, device: Named[Graphics]) -> Iterator[Part]:
    """Yield where to connect; ports that QEMU chooses are known when it runs."""
    graphics, key = device.value, device.key
    port = "" if _is_automatic(device) else str(graphics.port)
    yield Endpoint("vnc", "tcp", key, place.address, port, protocol="vnc")
    if graphics.websocket:
        port = "" if graphics.websocket == -1 else str(graphics.websocket)
        yield Endpoint("vnc", "tcp", key, place.address, port, protocol="websocket")


def _is_automatic(device: Named[Graphics]) -> bool:
    """Say whether any free port will do, as in libvirt where none is named."""
    graphics = device.value
    if graphics.autoport is not None:
        return graphics.autoport
    return graphics.port in (None, -1)


def _display(device: Named[Graphics]) -> int:
    """Return the number of the display, which is its port's distance from 5900."""
    graphics = device.value
    if graphics.port is None:
        raise device.refusal("autoport", "no port is given", "give one, or let it be automatic")
    if graphics.port < FIRST_PORT:
        raise device.refusal(
            "port", f"a port of VNC is one from {FIRST_PORT} to {MAX_PORT} for QEMU"
        )
    return graphics.port - FIRST_PORT


def _refuse_ports(device: Named[Graphics]) -> None:
    """Raise Unsupported if a port is asked for where there is none.

    What an automatic port came to be in a past run says nothing.
    """
    graphics = device.value
    if graphics.websocket:
        raise device.refusal("websocket", "web sockets need a display that listens at a port")
    if graphics.port not in (None, -1, 0) and not graphics.autoport:
        raise device.refusal("port", "the display does not listen at a port", "take it out")
