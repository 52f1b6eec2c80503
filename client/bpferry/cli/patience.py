# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands whose answer may take long, and a user who is told so."""

import sys
from typing import Final

from bpferry.cli import output
from bpferry.machine.control.client import PATIENT_SECONDS, Control
from bpferry.machine.control.running import connect

EXPECTED_SECONDS: Final = 1.0
"""After which a user is told of a wait that is no sign of a fault."""


def connect_patiently(vm_name: str) -> Control:
    """Connect to the VM called *vm_name* for a command that its QEMU must not leave half done.

    Raises:
        NotRunning: there is none.
    """
    control = connect(vm_name, PATIENT_SECONDS)
    control.slow = lambda: output.say(
        f"'{vm_name}' has not answered yet: its QEMU or this host is slow; waiting for it"
    )
    return control


def connect_to_wait(vm_name: str, seconds: float, what: str) -> Control:
    """Connect to the VM called *vm_name* for a command that waits up to *seconds* for *what*.

    Raises:
        NotRunning: there is none.
    """
    control = connect(vm_name, seconds)
    reporter = output.StderrReporter()
    control.slow = lambda: reporter.progress(f"waiting for '{vm_name}': for {what}")
    control.slow_seconds = EXPECTED_SECONDS
    return control


class ProgressLine:
    """One line on a terminal, which is written again and again; nothing anywhere else."""

    def __init__(self) -> None:
        self._shows = sys.stderr is not None and sys.stderr.isatty()
        self._width = 0

    def show(self, text: str) -> None:
        """Write *text* in place of what the line has."""
        if not self._shows:
            return
        sys.stderr.write("\r" + text.ljust(self._width))
        sys.stderr.flush()
        self._width = len(text)

    def end(self) -> None:
        """Begin a new line, if there is anything on this one."""
        if self._width:
            sys.stderr.write("\n")
        self._width = 0
