# SPDX-License-Identifier: LGPL-2.1-or-later
"""VNC (-vnc; ui/vnc.c of QEMU 10.0)."""

from collections.abc import Iterator
from typing import Final, Literal

from bpferry.commandline.addresses import is_reachable
from bpferry.commandline.context import Context
from bpferry.commandline.displays.audios import audio_id
from bpferry.commandline.displays.endpoints import Local, Nowhere, Tcp, place_of
from bpferry.commandline.displays.passwords import MEANINGFUL as OF_PASSWORDS
from bpferry.commandline.displays.passwords import Password, check_password, password_of
from bpferry.commandline.parts import (
    Certificates,
    Endpoint,
    Found,
    Option,
    OwnSocket,
    Part,
    Remark,
    join,
    json_of,
)
from bpferry.domain.model.graphics import MAX_PORT, Graphics
from bpferry.domain.names import Named
from bpferry.errors import Unsupported

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
        *OF_PASSWORDS,
    }
)

CREDENTIALS: Final = "vnc-tls-creds0"

LESS_THAN_TLS: Final = (
    "the password keeps others from connecting, but everything, also what you type, goes over the "
    "network unencrypted"
)

FIRST_PORT: Final = 5900
"""The port of display 0 (RFC 6143, section 8.1)."""

LAST_AUTOMATIC_DISPLAY: Final = 99
"""QEMU looks for a free port from display 0 to this one, when it starts."""


def vnc(device: Named[Graphics], context: Context) -> Iterator[Found]:
    """Yield what offers the display over VNC."""
    graphics = device.value
    place = place_of(device, context)
    yield from check_password(device)
    password = password_of(device, context)
    yield from () if password is None else password.parts
    common = {
        "share": graphics.share_policy,
        **_password(password),
        "power_control": graphics.power_control,
        "audiodev": audio_id(device, context),
    }
    if isinstance(place, Tcp):
        tls = context.vnc_certificates
        yield from _tls(tls.folder, device.key) if tls.are_there else ()
        creds = CREDENTIALS if tls.are_there else None
        yield Option("-vnc", join("", **_tcp(place, device), tls_creds=creds, **common))
        yield from _endpoints(place, device, "vnc-tls" if creds else "vnc")
        if is_reachable(place.address) and password and password.secret and not creds:
            hint = f"for TLS, put certificates into '{tls.folder}'; or connect through ssh -L"
            yield Remark(LESS_THAN_TLS, hint, f"{device.key}.password")
        return
    yield from _refuse_ports(device)
    if isinstance(place, Local):
        yield OwnSocket(place.path)
        yield Endpoint("vnc", "unix", device.key, path=place.path, protocol="vnc")
        yield Option("-vnc", join("", vnc=f"unix:{place.path}", **common))
    elif isinstance(place, Nowhere):
        yield Option("-vnc", join("none", **common))


def _password(password: Password | None) -> dict[str, object]:
    """Return who may connect: everybody, those who know the password, or nobody without one."""
    if password is None:
        return {}
    return {"password_secret": password.secret, "password": None if password.secret else True}


def _tls(folder: str, key: str) -> Iterator[Part]:
    """Yield what TLS needs; as by default in libvirt, clients need no certificate."""
    yield Certificates(folder, key)
    credentials = {
        "qom-type": "tls-creds-x509",
        "id": CREDENTIALS,
        "dir": folder,
        "endpoint": "server",
        "verify-peer": False,
    }
    yield Option("-object", json_of(credentials))


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
        # With -1, QEMU takes 5700 plus the number of the display, or the next free port.
        "websocket": "on" if websocket == -1 else websocket,
    }


def _endpoints(
    place: Tcp, device: Named[Graphics], protocol: Literal["vnc", "vnc-tls"]
) -> Iterator[Part]:
    """Yield where to connect; ports that QEMU chooses are known once it runs."""
    graphics, key = device.value, device.key
    port = "" if _is_automatic(device) else str(graphics.port)
    yield Endpoint("vnc", "tcp", key, place.address, port, protocol=protocol)
    if graphics.websocket:
        port = "" if graphics.websocket == -1 else str(graphics.websocket)
        yield Endpoint("vnc", "tcp", key, place.address, port, protocol="websocket")


def _is_automatic(device: Named[Graphics]) -> bool:
    """Say whether any free port will do; as in libvirt, that is so if none is named."""
    graphics = device.value
    if graphics.autoport is not None:
        return graphics.autoport
    return graphics.port in (None, -1)


def _display(device: Named[Graphics]) -> int:
    """Return the number of the display, which is its port minus 5900."""
    graphics = device.value
    if graphics.port is None:
        raise device.mistake(
            "autoport", "no port is given", "give one, or let QEMU choose it (autoport)"
        )
    if graphics.port < FIRST_PORT:
        raise device.mistake(
            "port",
            f"it is {graphics.port}: expected a number from {FIRST_PORT} to {MAX_PORT}",
            f"the displays of VNC begin at port {FIRST_PORT}: write a higher port, or leave it out "
            "for a free one",
        )
    return graphics.port - FIRST_PORT


def _refuse_ports(device: Named[Graphics]) -> Iterator[Unsupported]:
    """Refuse a port that cannot exist.

    The number that an automatic port had in a past run is ignored.
    """
    graphics = device.value
    if graphics.websocket:
        yield device.mistake(
            "websocket",
            "web sockets need a display that listens at a port",
            "leave it out, or let the display listen at an address",
        )
    if graphics.port not in (None, -1, 0) and not graphics.autoport:
        yield device.mistake("port", "the display does not listen on a port", "remove it")
