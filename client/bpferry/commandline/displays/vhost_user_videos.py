# SPDX-License-Identifier: LGPL-2.1-or-later
"""Graphics cards that another process implements: vhost-user-gpu, or one with the same options.

QEMU and the process are connected from their start: each inherits one end of a socket pair.
"""

from collections.abc import Iterator
from typing import Final

from bpferry.commandline.context import Context
from bpferry.commandline.memory.shared_memory import SHARED, has_shared_memory
from bpferry.commandline.parts import Companion, Found, Link, Option, Remark, join
from bpferry.domain.forms import called
from bpferry.domain.model.graphics import Graphics
from bpferry.domain.model.videos import Video
from bpferry.domain.names import Named
from bpferry.errors import Unsupported

PACKAGE: Final = "qemu-system-gui"

WITH_GL: Final = ("spice", "sdl")
"""Displays that can show such a card only with OpenGL."""


def chardev_of(video_id: str) -> str:
    """Return the id of the character device by which QEMU reaches the process."""
    return f"chr-vu-{video_id}"


def connection(device: Named[Video], context: Context, *, primary: bool) -> Iterator[Found]:
    """Yield what has to be there before the card *device*."""
    yield from _check_graphics(device, context, primary=primary)
    if not has_shared_memory(context.machine):
        yield Remark(
            "the process that emulates the card cannot reach the guest's memory, so the guest's "
            "driver for it will not work",
            f"share it: {SHARED}",
            device.key,
        )
    link = Link(f"{device.id}.gpu", f"{device.id}.qemu")
    yield link
    yield _process(device, link, context)
    yield Option("-chardev", join("socket", id=chardev_of(device.id), fd=context.fd(link.name)))


def _process(device: Named[Video], link: Link, context: Context) -> Companion:
    video = device.value
    argv = [context.gpu_program, f"--fd={context.fd(link.peer)}"]
    argv += ["--virgl"] if video.accel3d else []
    argv += [f"--render-node={video.render_node}"] if video.render_node is not None else []
    return Companion(
        "vhost-user-gpu", tuple(argv), "", device.key, package=PACKAGE, inherits=(link.peer,)
    )


def _check_graphics(
    device: Named[Video], context: Context, *, primary: bool
) -> Iterator[Unsupported]:
    """Refuse displays that cannot take pictures as DMABUF, with which QEMU would not start.

    QEMU asks each display (ui/console.c, console_compatible_with): those of VNC about the card that
    they begin with, the others about all cards.
    """
    for single in context.machine.graphics:
        if (single.type == "vnc" and primary) or (single.type in WITH_GL and not single.gl):
            yield device.refusal(
                "backend",
                f"graphics of type '{single.type}' without OpenGL cannot show a card that another "
                "process plays",
                f"switch on OpenGL ({called(Graphics, 'gl')}) of graphics of type spice or sdl, or "
                "use those of type dbus",
            )
