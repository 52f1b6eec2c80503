# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a person sees the guest's display: -vnc, -spice and -display."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from bpferry.commandline.applicable import refuse_others
from bpferry.commandline.context import Context
from bpferry.commandline.displays.audios import audio_id
from bpferry.commandline.displays.spice import MEANINGFUL as OF_SPICE
from bpferry.commandline.displays.spice import spice
from bpferry.commandline.displays.vnc import MEANINGFUL as OF_VNC
from bpferry.commandline.displays.vnc import vnc
from bpferry.commandline.parts import Environment, Option, Part, join
from bpferry.domain.model.graphics import Graphics
from bpferry.domain.names import Named, listed

REMOTE: Final = {"vnc": "query-vnc-servers", "spice": "query-spice"}
"""What goes with any other, and the command of QMP that is there if it is built in.

Of the rest, QEMU has one at a time (-display)."""

Builder = Callable[[Named[Graphics], Context], Iterator[Part]]


def parts(context: Context) -> Iterator[Part]:
    """Yield what shows the guest's display."""
    displays = tuple(listed(context.machine.graphics, "graphics"))
    _check_together(displays, context)
    if not displays:
        # Otherwise QEMU opens a window, or listens for VNC where it cannot.
        yield Option("-display", "none")
    for device in displays:
        graphics = device.value
        build, meaningful = BUILDERS[graphics.type]
        refuse_others(device, meaningful, f"graphics of type '{graphics.type}'")
        yield from build(device, context)
    yield from _keymap(displays)


def _check_together(displays: Sequence[Named[Graphics]], context: Context) -> None:
    """Raise Unsupported unless QEMU can show all of *displays* at once."""
    types = [device.value.type for device in displays]
    local = [name for name in types if name not in REMOTE]
    for index, device in enumerate(displays):
        name = types[index]
        if name in types[:index]:
            raise device.refusal("", f"there is one display of type '{name}' already")
        if name not in REMOTE and name != local[0]:
            raise device.refusal("", f"QEMU has one display of its own, '{local[0]}' or '{name}'")
        _check_gl(device, types)
        _check_built_in(device, context)


def _check_built_in(device: Named[Graphics], context: Context) -> None:
    name, known = device.value.type, context.capabilities
    there = REMOTE[name] in known.commands if name in REMOTE else name in known.displays
    if not there:
        raise device.refusal(
            "",
            f"'{known.qemu}' was built without the display '{name}'",
            "choose another type, or another QEMU",
        )


def _check_gl(device: Named[Graphics], types: Sequence[str]) -> None:
    graphics = device.value
    if graphics.type == "spice" and graphics.gl and "egl-headless" in types:
        raise device.refusal("gl", "'egl-headless' draws already; QEMU takes one of them")
    if graphics.type == "egl-headless" and not REMOTE.keys() & types:
        raise device.refusal(
            "", "'egl-headless' only draws; nothing shows it", "add graphics of type vnc or spice"
        )


def _keymap(displays: Sequence[Named[Graphics]]) -> Iterator[Part]:
    """Yield the one layout of the keyboard that QEMU knows of."""
    given = [device for device in displays if device.value.keymap]
    for device in given[1:]:
        if device.value.keymap != given[0].value.keymap:
            raise device.refusal("keymap", "QEMU has one layout for all", "let them be the same")
    if given:
        yield Option("-k", given[0].value.keymap)


def _sdl(device: Named[Graphics], context: Context) -> Iterator[Part]:
    graphics = device.value
    if not context.machine.audios:
        raise device.refusal(
            "",
            "under libvirt its environment says where sound goes (QEMU_AUDIO_DRV)",
            "say so here: add an audio of type sdl, or of another, or none",
        )
    if graphics.xauth is not None:
        yield Environment("XAUTHORITY", graphics.xauth)
    if graphics.display is not None:
        yield Environment("DISPLAY", graphics.display)
    settings = {"full_screen": graphics.full_screen or None, "gl": graphics.gl}
    yield Option("-display", join("sdl", **settings))


def _egl_headless(device: Named[Graphics], context: Context) -> Iterator[Part]:
    del context
    yield Option("-display", join("egl-headless", rendernode=device.value.render_node))


def _dbus(device: Named[Graphics], context: Context) -> Iterator[Part]:
    graphics = device.value
    if graphics.p2p and graphics.bus_address is not None:
        raise device.refusal("bus-address", "with 'p2p' there is no bus")
    if not graphics.p2p and graphics.bus_address is None:
        raise device.refusal(
            "",
            "it names no bus, and libvirt would start one for it alone",
            "name one, such as your session's (in DBUS_SESSION_BUS_ADDRESS), or say p2p",
        )
    audio = graphics.audio and audio_id(device, context)
    settings = {
        "p2p": graphics.p2p or None,
        "addr": graphics.bus_address,
        "gl": graphics.gl,
        "rendernode": graphics.render_node,
        "audiodev": audio,
    }
    yield Option("-display", join("dbus", **settings))


BUILDERS: Final[dict[str, tuple[Builder, frozenset[str]]]] = {
    "vnc": (vnc, OF_VNC),
    "spice": (spice, OF_SPICE),
    "sdl": (_sdl, frozenset({"type", "display", "xauth", "full_screen", "gl"})),
    "egl-headless": (_egl_headless, frozenset({"type", "render_node"})),
    "dbus": (_dbus, frozenset({"type", "p2p", "bus_address", "gl", "render_node", "audio"})),
}
"""What builds each type, and the fields that mean something for it."""
