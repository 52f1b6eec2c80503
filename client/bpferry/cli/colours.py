# SPDX-License-Identifier: LGPL-2.1-or-later
"""Colours on a terminal, for words that say how serious something is.

Only there: a pipe or a file gets none, nor does a user who set NO_COLOR (no-color.org).
"""

import os
from collections.abc import Mapping
from typing import Final, TextIO

CODES: Final = {"ok": "32", "warning": "33", "fault": "31;1"}
"""Green, yellow, bold red (ECMA-48, SGR)."""


def wants_colours(stream: TextIO | None, environment: Mapping[str, str] = os.environ) -> bool:
    """Say whether *stream* is a terminal whose user wants colours."""
    if stream is None or not stream.isatty():
        return False
    return not environment.get("NO_COLOR") and environment.get("TERM", "") not in ("", "dumb")


def coloured(word: str, text: str) -> str:
    """Return *text* in the colour of *word*, such as ``warning``."""
    return f"\x1b[{CODES[word]}m{text}\x1b[0m" if word in CODES else text
