# SPDX-License-Identifier: LGPL-2.1-or-later
"""Run a command, and report what went wrong if it failed."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from failure import ToolError, last_lines


class GuestError(ToolError):
    """Something about the guest went wrong."""


def run(
    argv: Sequence[str],
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    text: str = "",
    hint: str = "",
) -> str:
    """Run *argv* with *text* as its input and return what it printed.

    Raises:
        GuestError: It could not be started, or did not end with status 0.
    """
    # The callers parse the output, so it must not depend on the user's language.
    surroundings = {**os.environ, "LC_ALL": "C", **(environment or {})}
    try:
        done = subprocess.run(
            argv,
            cwd=folder,
            env=surroundings,
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise GuestError(f"cannot start '{argv[0]}': {error.strerror}", hint) from error
    if done.returncode != 0:
        shown = " ".join(argv)
        words = last_lines(done.stderr)
        raise GuestError(f"'{shown}' ended with status {done.returncode}: {words}", hint)
    return done.stdout
