# SPDX-License-Identifier: LGPL-2.1-or-later
"""What was built, for tests that expect it to be sound; and what was refused, for the others."""

from collections.abc import Iterable

from msgspec.structs import replace

from bpferry.commandline.context import Context
from bpferry.commandline.implicit import complete
from bpferry.commandline.parts import Part, Refusal


def sound(parts: Iterable[Part]) -> list[Part]:
    """Return *parts*, or raise the first error of those that are refusals."""
    found = list(parts)
    for part in found:
        if isinstance(part, Refusal):
            raise part.error
    return found


def completed(context: Context) -> Context:
    """Return *context* with what its devices need; raise the first error about their places."""
    made = complete(context)
    sound(made.refusals)
    return replace(context, machine=made.machine)
