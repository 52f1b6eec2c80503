# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a person sees the guest's display: -vnc, -spice and -display."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from bpferry.commandline.applicable import refuse_others
from bpferry.commandline.context import Context, unsupported
from bpferry.commandline.displays.audios import audio_id
from bpferry.commandline.displays.spice import MEANINGFUL as OF_SPICE
from bpferry.commandline.displays.spice import spice
from bpferry.commandline.displays.vnc import MEANINGFUL as OF_VNC
from bpferry.commandline.displays.vnc import vnc
from bpferry.commandline.parts import Environment, Option, Part, join
from bpferry.domain.model.graphics import Graphics

REMOTE: Final = {"vnc": "query-vnc-servers", "spice": "query-spice"}
"""What goes with any other, and the command of QMP that is there if it is built in.

Of the rest, QEMU has one at a time (-display)."""

Builder = Callable[[Graphics, str, Context], Iterator[Part]]


def parts(context: Context) -> Iterator[Part]:
    """Yield what shows the guest's display."""
    graphics = context.machine.graphics
    _check_together(graphics, context)
    if not graphics:
        # Otherwise QEMU opens a window, or listens for VNC where it cannot.
        yield Option("-display", "none")
    for index, single in enumerate(graphics):
        key = f"graphics[{index}]"
        build, meaningful = BUILDERS[single.type]
        if single.password is not None:
            raise _password(key)
        refuse_others(single, key, meaningful, f"graphics of type '{single.type}'")
        yield from build(single, key, context)
    yield from _keymap(graphics)


def _password(key: str) -> Exception:
    return unsupported(
        f"{key}.password",
        "a password is not set up here; VNC's protects next to nothing",
        "take it out and listen at a Unix socket (a listen of type socket), which only you can "
        "connect to, or at 127.0.0.1 and through ssh",
    )


def _check_together(graphics: Sequence[Graphics], context: Context) -> None:
    """Raise Unsupported unless QEMU can show all of *graphics* at once."""
    types = [single.type for single in graphics]
    local = [name for name in types if name not in REMOTE]
    for index, name in enumerate(types):
        key = f"graphics[{index}]"
        if name in types[:index]:
            raise unsupported(key, f"there is one display of type '{name}' already")
        if name not in REMOTE and name != local[0]:
            raise unsupported(key, f"QEMU has one display of its own, '{local[0]}' or '{name}'")
        _check_gl(graphics[index], key, types)
        _check_built_in(name, key, context)


def _check_built_in(name: str, key: str, context: Context) -> None:
    known = context.capabilities
    there = REMOTE[name] in known.commands if name in REMOTE else name in known.displays
    if not there:
        raise unsupported(
            key,
            f"'{known.qemu}' was built without the display '{name}'",
            "choose another type, or another QEMU",
        )


def _check_gl(graphics: Graphics, key: str, types: Sequence[str]) -> None:
    if graphics.type == "spice" and graphics.gl and "egl-headless" in types:
        raise unsupported(f"{key}.gl", "'egl-headless' draws already; QEMU takes one of them")
    if graphics.type == "egl-headless" and not REMOTE.keys() & types:
        raise unsupported(
            key, "'egl-headless' only draws; nothing shows it", "add graphics of type vnc or spice"
        )


def _keymap(graphics: Sequence[Graphics]) -> Iterator[Part]:
    """Yield the one layout of the keyboard that QEMU knows of."""
    given = [(index, single.keymap) for index, single in enumerate(graphics) if single.keymap]
    for index, keymap in given[1:]:
        if keymap != given[0][1]:
            raise unsupported(
                f"graphics[{index}].keymap", "QEMU has one layout for all", "let them be the same"
            )
    if given:
        yield Option("-k", given[0][1])


def _sdl(graphics: Graphics, key: str, context: Context) -> Iterator[Part]:
    if not context.machine.audios:
        raise unsupported(
            key,
            "under libvirt its environment says where sound goes (QEMU_AUDIO_DRV)",
            "say so here: add an audio of type sdl, or of another, or none",
        )
    if graphics.xauth is not None:
        yield Environment("XAUTHORITY", graphics.xauth)
    if graphics.display is not None:
        yield Environment("DISPLAY", graphics.display)
    settings = {"full_screen": graphics.full_screen or None, "gl": graphics.gl}
    yield Option("-display", join("sdl", **settings))


def _egl_headless(graphics: Graphics, key: str, context: Context) -> Iterator[Part]:
    del key, context
    yield Option("-display", join("egl-headless", rendernode=graphics.render_node))


def _dbus(graphics: Graphics, key: str, context: Context) -> Iterator[Part]:
    if graphics.p2p and graphics.bus_address is not None:
        raise unsupported(f"{key}.bus-address", "with 'p2p' there is no bus")
    if not graphics.p2p and graphics.bus_address is None:
        raise unsupported(
            key,
            "it names no bus, and libvirt would start one for it alone",
            "name one, such as your session's (in DBUS_SESSION_BUS_ADDRESS), or say p2p",
        )
    audio = graphics.audio and audio_id(graphics.audio, f"{key}.audio", context)
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
