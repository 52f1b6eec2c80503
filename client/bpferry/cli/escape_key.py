# SPDX-License-Identifier: LGPL-2.1-or-later
"""The key that leaves a console, as the user wants it."""

import os
from typing import Final

from bpferry.errors import BadInput

ESCAPE_VARIABLE: Final = "BPFERRY_ESCAPE_KEY"

USUAL: Final = 0x1D
"""Ctrl-], as with telnet(1) and virsh(1)."""


def escape_key(given: str | None) -> int | None:
    """Return the key that leaves the console: as *given*, as in the environment, or the usual one.

    Raises:
        BadInput: it is no key, or cannot be used.
    """
    text, source = given, "--escape-key"
    if text is None:
        text, source = os.environ.get(ESCAPE_VARIABLE, ""), ESCAPE_VARIABLE
        if not text:
            return USUAL
    from bpferry.machine.console.keys import parse_key  # noqa: PLC0415 - where one is chosen

    try:
        return parse_key(text)
    except ValueError as error:
        raise BadInput(
            f"{source}: {error}", "Ctrl with Space, I, J, M or [ are other keys too, and cannot be"
        ) from error
