# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a person sees the guest's display: -vnc, -spice and -display."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from bpferry.commandline.applicable import refuse_others
from bpferry.commandline.attempt import attempt
from bpferry.commandline.context import Context
from bpferry.commandline.displays.audios import audio_id
from bpferry.commandline.displays.vnc import MEANINGFUL as OF_VNC
from bpferry.commandline.displays.vnc import vnc
from bpferry.commandline.parts import Environment, Found, Option, Part, Remark, join
from bpferry.domain.model.graphics import Graphics
from bpferry.domain.names import Named, before, listed
from bpferry.errors import Unsupported

REMOTE: Final = {"vnc": "query-vnc-servers", "spice": "query-spice"}
"""What can be combined with any other, and the QMP command that exists if it is built in.

QEMU has only one of the others at a time (-display)."""

Builder = Callable[[Named[Graphics], Context], Iterator[Found]]

Type = tuple[Builder, frozenset[str]]
"""What builds graphics of one type, and the fields that mean something for it."""


def parts(context: Context) -> Iterator[Part]:
    """Yield what shows the guest's display."""
    graphics = context.machine.graphics
    if not graphics:
        # Otherwise QEMU opens a window, or listens for VNC if it cannot.
        yield Option("-display", "none")
    for device in listed(graphics, "graphics"):
        yield from attempt(_display, device, context)
    # QEMU knows of only one keyboard layout.
    for layout in {single.keymap: None for single in graphics if single.keymap}:
        yield Option("-k", layout)


def _display(device: Named[Graphics], context: Context) -> Iterator[Found]:
    graphics = device.value
    build, meaningful = _type_of(graphics)
    yield from refuse_others(device, meaningful, f"graphics of type '{graphics.type}'")
    yield from _check_together(device, context.machine.graphics)
    yield from _check_built_in(device, context)
    yield from build(device, context)


def _type_of(graphics: Graphics) -> Type:
    if graphics.type == "spice":
        from bpferry.commandline.displays import spice  # noqa: PLC0415 - larger than the others

        return spice.spice, spice.MEANINGFUL
    return TYPES[graphics.type]


def _check_together(device: Named[Graphics], displays: Sequence[Graphics]) -> Iterator[Unsupported]:
    """Yield a refusal unless QEMU can show *device* with all of the *displays*."""
    name, earlier = device.value.type, tuple(before(device, displays))
    local = [one.type for one in earlier if one.type not in REMOTE]
    if name in [one.type for one in earlier]:
        yield device.refusal(
            "", f"there is one display of type '{name}' already", "remove one of them"
        )
    elif name not in REMOTE and local:
        yield device.refusal(
            "",
            f"QEMU opens one window, '{local[0]}' or '{name}'",
            "remove one of them, or use VNC or SPICE for it",
        )
    keymaps = [one.keymap for one in earlier if one.keymap]
    if device.value.keymap and keymaps and device.value.keymap != keymaps[0]:
        yield device.refusal(
            "keymap", "QEMU has one keyboard layout for all displays", "make them the same"
        )
    yield from _check_gl(device, [one.type for one in displays])


def _check_built_in(device: Named[Graphics], context: Context) -> Iterator[Unsupported]:
    name, known = device.value.type, context.capabilities
    there = REMOTE[name] in known.commands if name in REMOTE else name in known.displays
    if not there:
        yield device.refusal(
            "",
            f"'{known.qemu}' was built without the display '{name}'",
            "choose another type, or another QEMU",
        )


def _check_gl(device: Named[Graphics], types: Sequence[str]) -> Iterator[Unsupported]:
    graphics = device.value
    if graphics.type == "spice" and graphics.gl and "egl-headless" in types:
        yield device.refusal(
            "gl",
            "QEMU renders with OpenGL for one display only, and 'egl-headless' is that one",
            "switch OpenGL off for one of them",
        )


def _sdl(device: Named[Graphics], context: Context) -> Iterator[Found]:
    graphics = device.value
    if not context.machine.audios:
        yield device.refusal(
            "",
            "the description does not say where sound goes; under libvirt, QEMU_AUDIO_DRV decides",
            "add an audio of type 'sdl', another type, or 'none'",
        )
    if graphics.xauth is not None:
        yield Environment("XAUTHORITY", graphics.xauth)
    if graphics.display is not None:
        yield Environment("DISPLAY", graphics.display)
    settings = {"full_screen": graphics.full_screen or None, "gl": graphics.gl}
    yield Option("-display", join("sdl", **settings))


def _egl_headless(device: Named[Graphics], context: Context) -> Iterator[Part]:
    if not REMOTE.keys() & {one.type for one in context.machine.graphics}:
        text = "'egl-headless' only renders: nobody can see the guest's screen"
        yield Remark(text, "add graphics of type 'vnc' or 'spice'", device.key)
    yield Option("-display", join("egl-headless", rendernode=device.value.render_node))


def _dbus(device: Named[Graphics], context: Context) -> Iterator[Found]:
    graphics = device.value
    if graphics.p2p and graphics.bus_address is not None:
        yield device.mistake(
            "bus-address", "with 'p2p' no bus is used", "leave the address out, or p2p"
        )
    if not graphics.p2p and graphics.bus_address is None:
        yield device.refusal(
            "",
            "no bus is named; libvirt starts one for the VM, bpferry does not",
            "name one, such as your session's (in DBUS_SESSION_BUS_ADDRESS), or use p2p",
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


TYPES: Final[dict[str, Type]] = {
    "vnc": (vnc, OF_VNC),
    "sdl": (_sdl, frozenset({"type", "display", "xauth", "full_screen", "gl"})),
    "egl-headless": (_egl_headless, frozenset({"type", "render_node"})),
    "dbus": (_dbus, frozenset({"type", "p2p", "bus_address", "gl", "render_node", "audio"})),
}
"""All but SPICE."""
