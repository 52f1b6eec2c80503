# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a person sees, hears and touches, in the order in which QEMU has to see it."""

from collections.abc import Iterator

from bpferry.commandline.context import Context
from bpferry.commandline.displays import audios, graphics, inputs, sounds, videos
from bpferry.commandline.parts import Part


def parts(context: Context) -> Iterator[Part]:
    """Yield what the VM has of them."""
    yield from inputs.parts(context)
    yield from audios.parts(context)
    yield from graphics.parts(context)
    yield from videos.parts(context)
    yield from sounds.parts(context)
