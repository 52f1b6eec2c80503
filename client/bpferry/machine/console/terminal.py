# SPDX-License-Identifier: LGPL-2.1-or-later
"""The terminal at which somebody sits."""

import contextlib
import os
import termios
from collections.abc import Iterator


def is_ours(keyboard: int) -> bool:
    """Say whether we may read *keyboard*: a shell's background job would be stopped."""
    try:
        return not os.isatty(keyboard) or os.tcgetpgrp(keyboard) == os.getpgrp()
    except OSError:
        return False


def is_own_terminal(keyboard: int) -> bool:
    """Say whether *keyboard* is a terminal whose foreground is ours."""
    return os.isatty(keyboard) and is_ours(keyboard)


@contextlib.contextmanager
def every_key(terminal: int) -> Iterator[None]:
    """Get every key of *terminal* at once and without echo; nothing is a signal.

    What is written there is handled as before, so that our own lines look right.
    """
    before = termios.tcgetattr(terminal)
    wanted = termios.tcgetattr(terminal)
    wanted[0] &= ~(termios.IXON | termios.ICRNL | termios.INLCR | termios.IGNCR | termios.ISTRIP)
    wanted[0] &= ~termios.BRKINT
    wanted[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG)
    wanted[6][termios.VMIN], wanted[6][termios.VTIME] = 1, 0
    termios.tcsetattr(terminal, termios.TCSADRAIN, wanted)
    try:
        yield
    finally:
        # The terminal may have gone away, which is why we end.
        with contextlib.suppress(termios.error):
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)


@contextlib.contextmanager
def writable(terminal: int) -> Iterator[int]:
    """Give an fd on which to write to *terminal*, from which we read."""
    try:
        fd = os.open(os.ttyname(terminal), os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        # It belongs to another user (su): what we have was opened by that user.
        fd = os.dup(terminal)
    try:
        yield fd
    finally:
        os.close(fd)
