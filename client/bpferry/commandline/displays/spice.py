# SPDX-License-Identifier: LGPL-2.1-or-later
"""SPICE (-spice; ui/spice-core.c of QEMU 10.0)."""

import zlib
from collections.abc import Iterator
from typing import Final

from bpferry.commandline.context import Context, unsupported
from bpferry.commandline.displays.endpoints import Local, Nowhere, Tcp, place_of
from bpferry.commandline.parts import Endpoint, Option, OwnSocket, Part, join
from bpferry.domain.model.graphics import Graphics

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


def spice(graphics: Graphics, key: str, context: Context) -> Iterator[Part]:
    """Yield what offers the display over SPICE."""
    _refuse_tls(graphics, key)
    place = place_of(graphics, key, context)
    if isinstance(place, Local):
        yield OwnSocket(place.path)
        yield Endpoint("spice", "unix", key, path=place.path, protocol="spice")
    plain = [f"plaintext-channel={name}" for name in _plaintext_channels(graphics)]
    where = _where(place, graphics, key, context)
    settings = join("", **where, **_settings(graphics, key))
    yield Option("-spice", ",".join((settings, *plain)))
    if where.get("port") and isinstance(place, Tcp):
        yield Endpoint("spice", "tcp", key, place.address, str(where["port"]), protocol="spice")


def _where(
    place: Tcp | Local | Nowhere, graphics: Graphics, key: str, context: Context
) -> dict[str, object]:
    port = _port(graphics, context)
    if isinstance(place, Tcp) and port:
        return {"port": port, "addr": place.address}
    if graphics.port not in (None, -1, 0) and not graphics.autoport:
        raise unsupported(f"{key}.port", "the display does not listen at a port", "take it out")
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


def _refuse_tls(graphics: Graphics, key: str) -> None:
    """Raise Unsupported if the document demands TLS. An automatic port for it is only an offer."""
    automatic = graphics.autoport or graphics.port == -1
    if graphics.tls_port and not (automatic and (graphics.autoport or graphics.tls_port == -1)):
        raise unsupported(
            f"{key}.tls-port",
            "SPICE with TLS needs certificates, which under libvirt its qemu.conf names",
            "take it out, and listen at a Unix socket, or at 127.0.0.1 and through ssh",
        )


def _plaintext_channels(graphics: Graphics) -> Iterator[str]:
    if graphics.default_mode == "insecure":
        yield "default"
    for channel in graphics.channels:
        if channel.mode == "insecure":
            yield channel.name


def _settings(graphics: Graphics, key: str) -> dict[str, object]:
    if graphics.render_node is not None and not graphics.gl:
        raise unsupported(f"{key}.render-node", "it is for 'gl', which is not on")
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
