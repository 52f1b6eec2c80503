# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a VNC or SPICE display is offered. The document may say so in two places."""

from typing import Final

from msgspec import Struct

from bpferry.commandline.context import Context
from bpferry.domain.forms import called
from bpferry.domain.model.graphics import Endpoint, Graphics
from bpferry.domain.names import Named

USUAL_ADDRESS: Final = "127.0.0.1"
"""As in libvirt, whose qemu.conf may say otherwise (vnc_listen, spice_listen)."""


class Tcp(Struct, frozen=True):
    """A port of an address of the host."""

    address: str


class Local(Struct, frozen=True):
    """A Unix socket."""

    path: str


class Nowhere(Struct, frozen=True):
    """Nobody can connect, but through QMP."""


Place = Tcp | Local | Nowhere


def place_of(device: Named[Graphics], context: Context) -> Place:
    """Return where the display *device* is offered.

    Raises:
        Unsupported: it listens in more than one place, or the document contradicts itself.
    """
    graphics = device.value
    if len(graphics.listens) > 1:
        raise device.refusal("listens[1]", "a display listens in one place", "keep one of them")
    endpoint = _endpoint(graphics)
    _check(endpoint, device)
    if endpoint.type == "none":
        return Nowhere()
    if endpoint.type == "socket":
        usual = f"{context.folders.runtime}/{graphics.type}.sock"
        return Local(endpoint.socket or graphics.socket or usual)
    return Tcp(endpoint.address or graphics.address or USUAL_ADDRESS)


def _endpoint(graphics: Graphics) -> Endpoint:
    if graphics.listens:
        return graphics.listens[0]
    return Endpoint(type="address" if graphics.socket is None else "socket")


def _check(endpoint: Endpoint, device: Named[Graphics]) -> None:
    """Raise Unsupported if *device* contradicts its *endpoint*."""
    for name in ("address", "socket"):
        inner, outer = getattr(endpoint, name), getattr(device.value, name)
        if endpoint.type != name and (inner or outer):
            raise device.mistake(
                f"listens[0].{name}" if inner else name,
                f"the display is to listen at '{endpoint.type}'",
                "remove one of them",
            )
        if inner and outer and inner != outer:
            raise device.mistake(
                name,
                f"it is '{outer}' here and '{inner}' in {called(Graphics, 'listens')}",
                "remove one of them",
            )
