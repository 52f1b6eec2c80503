# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a person sees, hears and touches, in the order in which QEMU has to see it."""

from collections.abc import Iterator

from bpferry.commandline.context import Context
from bpferry.commandline.displays import audios, graphics, videos
from bpferry.commandline.parts import Part


def parts(context: Context) -> Iterator[Part]:
    """Yield what the VM has of them."""
    machine = context.machine
    # A VM with a screen seldom has inputs of its own, or sound.
    if machine.inputs:
        from bpferry.commandline.displays import inputs  # noqa: PLC0415 - see above

        yield from inputs.parts(context)
    yield from audios.parts(context)
    yield from graphics.parts(context)
    yield from videos.parts(context)
    if machine.sounds:
        from bpferry.commandline.displays import sounds  # noqa: PLC0415 - see above

        yield from sounds.parts(context)
