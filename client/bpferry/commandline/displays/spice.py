# SPDX-License-Identifier: LGPL-2.1-or-later
"""SPICE (-spice; ui/spice-core.c of QEMU 10.0)."""

from collections.abc import Iterator
from typing import Final

from bpferry.commandline.addresses import is_reachable
from bpferry.commandline.context import Context
from bpferry.commandline.displays.endpoints import Local, Place, Tcp, place_of
from bpferry.commandline.displays.passwords import MEANINGFUL as OF_PASSWORDS
from bpferry.commandline.displays.passwords import Password, check_password, password_of
from bpferry.commandline.displays.spice_ports import Ports, check_ports, ports_of
from bpferry.commandline.parts import (
    Certificates,
    Endpoint,
    Found,
    Option,
    OwnSocket,
    Part,
    Remark,
    join,
)
from bpferry.domain.forms import called, either
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
        *OF_PASSWORDS,
    }
)

LESS_THAN_TLS: Final = (
    "the password keeps others from connecting and is sent encrypted, but everything else, also "
    "what you type, goes over the network unencrypted"
)

AUTOPORT: Final = either("autoport = true", "autoport='yes'")

GL_AT_PORT: Final = (
    "this QEMU renders with OpenGL for SPICE clients at a Unix socket only, and the display has a "
    "port"
)

GL_HINT: Final = "use a listen of type socket, or graphics of type egl-headless beside it"


def spice(device: Named[Graphics], context: Context) -> Iterator[Found]:
    """Yield what offers the display over SPICE."""
    place = place_of(device, context)
    ports = ports_of(device, place, context)
    yield from check_ports(device, place, ports)
    if device.value.gl and ports != Ports() and not _can_encode(context):
        yield device.refusal("gl", GL_AT_PORT, GL_HINT)
    yield from check_password(device)
    password = password_of(device, context)
    folder = context.spice_certificates.folder
    if isinstance(place, Local):
        yield OwnSocket(place.path)
        yield Endpoint("spice", "unix", device.key, path=place.path, protocol="spice")
    if ports.tls:
        yield Certificates(folder, device.key)
    yield from () if password is None else password.parts
    settings = join(
        "",
        **_where(place, ports),
        **_ticket(password),
        x509_dir=folder if ports.tls else None,
        **_settings(device),
    )
    yield Option("-spice", ",".join((settings, *_channels(device.value))))
    if isinstance(place, Tcp):
        yield from _at_ports(place, ports, device)
        if is_reachable(place.address) and password and password.secret and not ports.tls:
            hint = f"for TLS, put certificates into '{folder}'; or connect through ssh -L"
            yield Remark(LESS_THAN_TLS, hint, f"{device.key}.password")


def _can_encode(context: Context) -> bool:
    """Say whether this QEMU sends what it renders as video, so that clients may be anywhere."""
    return "video-codec" in context.capabilities.options.get("spice", ())


def _where(place: Place, ports: Ports) -> dict[str, object]:
    if isinstance(place, Local):
        return {"unix": True, "addr": place.path}
    if not isinstance(place, Tcp) or ports == Ports():
        # Without any port the server does not listen on TCP; QEMU wants that written out.
        return {"port": 0}
    return {"port": ports.plain or None, "tls_port": ports.tls or None, "addr": place.address}


def _ticket(password: Password | None) -> dict[str, object]:
    """Return who may connect: everybody, those who know the password, or nobody without one."""
    if password is None:
        return {"disable_ticketing": True}
    return {"password_secret": password.secret}


def _channels(graphics: Graphics) -> Iterator[str]:
    """Yield the channels that need TLS or go without, each an option of its own."""
    words = {"secure": "tls-channel", "insecure": "plaintext-channel"}
    modes = [("default", graphics.default_mode)]
    modes += [(channel.name, channel.mode) for channel in graphics.channels]
    for name, mode in modes:
        if mode in words:
            yield f"{words[mode]}={name}"


def _at_ports(place: Tcp, ports: Ports, device: Named[Graphics]) -> Iterator[Part]:
    key = device.key
    if ports.plain:
        yield Endpoint("spice", "tcp", key, place.address, str(ports.plain), protocol="spice")
    if ports.tls:
        yield Endpoint("spice", "tcp", key, place.address, str(ports.tls), protocol="spice-tls")
    if ports == Ports():
        yield Remark(
            "it has no port, so nobody could connect to it",
            f"write {AUTOPORT}, or a listen of type socket, which only you can connect to",
            key,
        )


def _settings(device: Named[Graphics]) -> dict[str, object]:
    graphics = device.value
    if graphics.render_node is not None and not graphics.gl:
        raise device.mistake(
            "render-node",
            f"it needs {called(Graphics, 'gl')}, which is off",
            f"switch {called(Graphics, 'gl')} on, or leave the render node out",
        )
    mouse = graphics.mouse_mode
    return {
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
