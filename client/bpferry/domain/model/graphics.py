# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a person sees the guest's display: over a network, through a socket, or on this screen."""

from typing import Annotated, Literal

import msgspec

from bpferry.domain.binding import At, Form, Placed, Table

MAX_PORT = 65535
"""A port of TCP (RFC 9293)."""

MAX_AUDIO_ID = 255
"""The id of an audio back end, in libvirt's schema."""

Port = Annotated[int, msgspec.Meta(ge=-1, le=MAX_PORT)]
"""-1 means any free one."""

AudioId = Annotated[int, msgspec.Meta(ge=1, le=MAX_AUDIO_ID)]

HostName = Annotated[
    str, msgspec.Meta(pattern=r"^[A-Za-z0-9.:-]*$", description="the name or address of a host")
]
"""An IP address or a name; empty if none is given."""

KeymapName = Annotated[
    str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]+$", description="the name of a keymap, such as de")
]
"""The name of one of QEMU's own files (share/qemu/keymaps), never a path."""


Time = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}$",
        description="a time in UTC such as 2027-01-31T23:59:00",
    ),
]


class Endpoint(Table, frozen=True, kw_only=True):
    """Where a display is offered."""

    type: Placed[Literal["address", "socket", "none"], At("@type")]
    address: Placed[HostName | None, At("@address")] = None
    socket: Placed[str | None, At("@socket", Form.PLACE)] = None


class SpiceChannel(Table, frozen=True, kw_only=True):
    """One of SPICE's channels, and whether it may do without TLS."""

    name: Placed[
        Literal[
            "main", "display", "inputs", "cursor", "playback", "record", "smartcard", "usbredir"
        ],
        At("@name"),
    ]
    mode: Placed[Literal["any", "secure", "insecure"], At("@mode")]


class Graphics(Table, frozen=True, kw_only=True):
    """One way to see the guest's display. Which fields count depends on the type."""

    type: Placed[Literal["vnc", "spice", "sdl", "egl-headless", "dbus"], At("@type")]

    port: Placed[Port | None, At("@port")] = None
    tls_port: Placed[Port | None, At("@tlsPort")] = None
    websocket: Placed[Port | None, At("@websocket")] = None
    autoport: Placed[bool | None, At("@autoport", Form.YES_NO)] = None
    address: Placed[HostName | None, At("@listen")] = None
    socket: Placed[str | None, At("@socket", Form.PLACE)] = None
    listens: Placed[tuple[Endpoint, ...], At("listen")] = ()
    password: Placed[str | None, At("@passwd", Form.SECRET)] = None
    password_valid_to: Placed[Time | None, At("@passwdValidTo")] = None
    connected: Placed[Literal["keep", "disconnect", "fail", None], At("@connected")] = None
    """What happens to connected clients when the password changes. Here it never changes."""
    keymap: Placed[KeymapName | None, At("@keymap")] = None
    audio: Placed[AudioId | None, At("audio/@id")] = None
    """The id of the audio back end whose sound goes with the display."""

    share_policy: Placed[
        Literal["allow-exclusive", "force-shared", "ignore", None], At("@sharePolicy")
    ] = None
    power_control: Placed[bool | None, At("@powerControl", Form.YES_NO)] = None

    default_mode: Placed[Literal["any", "secure", "insecure", None], At("@defaultMode")] = None
    channels: Placed[tuple[SpiceChannel, ...], At("channel")] = ()
    image_compression: Placed[
        Literal["auto_glz", "auto_lz", "quic", "glz", "lz", "off", None],
        At("image/@compression"),
    ] = None
    jpeg_compression: Placed[Literal["auto", "never", "always", None], At("jpeg/@compression")] = (
        None
    )
    zlib_compression: Placed[Literal["auto", "never", "always", None], At("zlib/@compression")] = (
        None
    )
    playback_compression: Placed[bool | None, At("playback/@compression", Form.ON_OFF)] = None
    streaming: Placed[Literal["filter", "all", "off", None], At("streaming/@mode")] = None
    mouse_mode: Placed[Literal["server", "client", None], At("mouse/@mode")] = None
    copy_paste: Placed[bool | None, At("clipboard/@copypaste", Form.YES_NO)] = None
    file_transfer: Placed[bool | None, At("filetransfer/@enable", Form.YES_NO)] = None

    gl: Placed[bool | None, At("gl/@enable", Form.YES_NO)] = None
    render_node: Placed[str | None, At("gl/@rendernode", Form.FILE)] = None
    display: Placed[str | None, At("@display")] = None
    """The address of the X server, such as ``:0``."""
    xauth: Placed[str | None, At("@xauth", Form.FILE)] = None
    full_screen: Placed[bool | None, At("@fullscreen", Form.YES_NO)] = None
    bus_address: Placed[str | None, At("@address")] = None
    """The address of a D-Bus, such as ``unix:path=/run/user/1000/bus``."""
    p2p: Placed[bool | None, At("@p2p", Form.YES_NO)] = None
    """D-Bus without a bus: over a socket that a client hands to QEMU."""
