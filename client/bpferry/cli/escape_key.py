# SPDX-License-Identifier: LGPL-2.1-or-later
"""The key that leaves a console, as the user wants it."""

import os
from typing import Final

from bpferry.errors import BadInput
from bpferry.machine.console.keys import USUAL, parse_key

ESCAPE_VARIABLE: Final = "BPFERRY_ESCAPE_KEY"


def escape_key(given: str | None) -> int | None:
    """Return the key that leaves the console: as *given*, as in the environment, or the usual one.

    Raises:
        BadInput: it is no key, or cannot be used.
    """
    text, source = (given, "--escape-key") if given is not None else (
        os.environ.get(ESCAPE_VARIABLE) or USUAL,
        ESCAPE_VARIABLE,
    )  # fmt: skip
    try:
        return parse_key(text)
    except ValueError as error:
        raise BadInput(
            f"{source}: {error}", "Ctrl with Space, I, J, M or [ are other keys too, and cannot be"
        ) from error
