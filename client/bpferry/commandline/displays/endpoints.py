# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a VNC or SPICE display is offered. The document may say so in two places."""

from dataclasses import dataclass
from typing import Final

from bpferry.commandline.context import Context, unsupported
from bpferry.domain.model.graphics import Endpoint, Graphics

USUAL_ADDRESS: Final = "127.0.0.1"
"""As in libvirt, whose qemu.conf may say otherwise (vnc_listen, spice_listen)."""


@dataclass(frozen=True, slots=True)
class Tcp:
    """A port of an address of the host."""

    address: str


@dataclass(frozen=True, slots=True)
class Local:
    """A Unix socket."""

    path: str


@dataclass(frozen=True, slots=True)
class Nowhere:
    """Nobody can connect, but through QMP."""


Place = Tcp | Local | Nowhere


def place_of(graphics: Graphics, key: str, context: Context) -> Place:
    """Return where the display of *graphics* is offered.

    Raises:
        Unsupported: in more than one place, or the two places of the document differ.
    """
    if len(graphics.listens) > 1:
        raise unsupported(
            f"{key}.listens[1]", "a display is offered in one place", "leave one of them"
        )
    endpoint = _endpoint(graphics)
    _check(endpoint, graphics, key)
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


def _check(endpoint: Endpoint, graphics: Graphics, key: str) -> None:
    """Raise Unsupported where *graphics* says something else than its *endpoint*."""
    if endpoint.type != "address":
        _refuse(endpoint.address, f"{key}.listens[0].address", endpoint)
        _refuse(graphics.address, f"{key}.address", endpoint)
    if endpoint.type != "socket":
        _refuse(endpoint.socket, f"{key}.listens[0].socket", endpoint)
        _refuse(graphics.socket, f"{key}.socket", endpoint)
    for name in ("address", "socket"):
        inner, outer = getattr(endpoint, name), getattr(graphics, name)
        if inner and outer and inner != outer:
            raise unsupported(
                f"{key}.{name}", f"it is '{outer}' here and '{inner}' in 'listens'", "leave one"
            )


def _refuse(value: str | None, key: str, endpoint: Endpoint) -> None:
    if value:
        raise unsupported(key, f"the display is to listen at '{endpoint.type}'", "leave one")
