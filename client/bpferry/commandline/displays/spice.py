# SPDX-License-Identifier: LGPL-2.1-or-later
"""SPICE (-spice; ui/spice-core.c of QEMU 10.0)."""

import zlib
from collections.abc import Iterator
from typing import Final

from bpferry.commandline.context import Context
from bpferry.commandline.displays.endpoints import Local, Nowhere, Tcp, place_of
from bpferry.commandline.parts import Endpoint, Option, OwnSocket, Part, Remark, join
from bpferry.domain.model.graphics import Graphics
from bpferry.domain.names import Named

MEANINGFUL: Final = frozenset(
    {
        "type",
        "port",
        "tls_port",
        "autoport",
        "address",
        "socket",
        "listens",
        "keymap",
        "default_mode",
        "channels",
        "image_compression",
        "jpeg_compression",
        "zlib_compression",
        "playback_compression",
        "streaming",
        "mouse_mode",
        "copy_paste",
        "file_transfer",
        "gl",
        "render_node",
    }
)

FIRST_AUTOMATIC_PORT: Final = 16000
AUTOMATIC_PORTS: Final = 8000
"""Below those that Linux gives to outgoing connections (ip_local_port_range, from 32768)."""


def spice(device: Named[Graphics], context: Context) -> Iterator[Part]:
    """Yield what offers the display over SPICE."""
    graphics = device.value
    _refuse_tls(device)
    place = place_of(device, context)
    if isinstance(place, Local):
        yield OwnSocket(place.path)
        yield Endpoint("spice", "unix", device.key, path=place.path, protocol="spice")
    plain = [f"plaintext-channel={name}" for name in _plaintext_channels(graphics)]
    where = _where(place, device, context)
    settings = join("", **where, **_settings(device))
    yield Option("-spice", ",".join((settings, *plain)))
    if where.get("port") and isinstance(place, Tcp):
        yield Endpoint(
            "spice", "tcp", device.key, place.address, str(where["port"]), protocol="spice"
        )
    elif isinstance(place, Tcp):
        yield Remark(
            "it names no port, so that nobody can connect to it",
            "say autoport='yes' (in TOML: autoport = true), or a listen of type socket, which only "
            "you can connect to",
            device.key,
        )


def _where(
    place: Tcp | Local | Nowhere, device: Named[Graphics], context: Context
) -> dict[str, object]:
    graphics = device.value
    port = _port(graphics, context)
    if isinstance(place, Tcp) and port:
        return {"port": port, "addr": place.address}
    if graphics.port not in (None, -1, 0) and not graphics.autoport:
        raise device.refusal("port", "the display does not listen at a port", "take it out")
    if isinstance(place, Local):
        return {"unix": True, "addr": place.path}
    # Without any port the server listens nowhere; QEMU wants to read so.
    return {"port": 0}


def _port(graphics: Graphics, context: Context) -> int:
    """Return the port of TCP, 0 for none."""
    if graphics.autoport or graphics.port == -1:
        return automatic_port(context)
    return graphics.port or 0


def automatic_port(context: Context) -> int:
    """Return the port of a VM that leaves it open: always the same for one user's VM.

    A heuristic: QEMU has no means to look for a free port of SPICE, and says so if another process
    has this one. The folder of the VM's sockets tells users and VMs apart.
    """
    return FIRST_AUTOMATIC_PORT + zlib.crc32(context.folders.runtime.encode()) % AUTOMATIC_PORTS


def _refuse_tls(device: Named[Graphics]) -> None:
    """Raise Unsupported if the document demands TLS. An automatic port for it is only an offer."""
    graphics = device.value
    automatic = graphics.autoport or graphics.port == -1
    if graphics.tls_port and not (automatic and (graphics.autoport or graphics.tls_port == -1)):
        raise device.refusal(
            "tls-port",
            "SPICE with TLS needs certificates, which under libvirt its qemu.conf names",
            "take it out, and listen at a Unix socket, or at 127.0.0.1 and through ssh",
        )


def _plaintext_channels(graphics: Graphics) -> Iterator[str]:
    if graphics.default_mode == "insecure":
        yield "default"
    for channel in graphics.channels:
        if channel.mode == "insecure":
            yield channel.name


def _settings(device: Named[Graphics]) -> dict[str, object]:
    graphics = device.value
    if graphics.render_node is not None and not graphics.gl:
        raise device.refusal("render-node", "it is for 'gl', which is not on")
    mouse = graphics.mouse_mode
    return {
        "disable_ticketing": True,
        "agent_mouse": None if mouse is None else mouse == "client",
        "image_compression": graphics.image_compression,
        "jpeg_wan_compression": graphics.jpeg_compression,
        "zlib_glz_wan_compression": graphics.zlib_compression,
        "playback_compression": graphics.playback_compression,
        "streaming_video": graphics.streaming,
        "disable_copy_paste": True if graphics.copy_paste is False else None,
        "disable_agent_file_xfer": True if graphics.file_transfer is False else None,
        "gl": graphics.gl or None,
        "rendernode": graphics.render_node,
    }
