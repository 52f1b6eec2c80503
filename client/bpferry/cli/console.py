# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry console: the guest's serial console; and the same for the terminal of a run."""

import shlex
import sys
from typing import Final

from bpferry.cli import output
from bpferry.errors import NotRunning
from bpferry.machine.console.foreground import Foreground
from bpferry.machine.console.session import attend, open_stream
from bpferry.machine.console.streams import Streams
from bpferry.machine.control.running import connect

END_SECONDS: Final = 2.0
"""Within which a VM ends whose console has ended."""


def console(vm_name: str, serial: str | None, escape: int | None) -> int:
    """Be at the console of a VM that runs, until it ends or the user leaves.

    Raises:
        NotRunning: there is no such VM.
        BpferryError: it has no such console.
    """
    reporter = output.StderrReporter()
    with connect(vm_name) as control:
        reply = control.ask_for_fds("console", serial=serial)
        with open_stream(reply) as stream:
            streams = Streams(1, None if sys.stdin is None else 0)
            detached = attend(control, stream.borrow(), streams, escape, reporter)
        if detached:
            reporter.note(f"'{vm_name}' keeps running")
        elif control.wait_for_end(END_SECONDS):
            reporter.note(f"'{vm_name}' has ended")
        else:
            reporter.note(f"the console '{reply.fields.get('serial')}' was closed")
    return 0


def stay(foreground: Foreground, streams: Streams, escape: int | None, *, as_json: bool) -> int:
    """Be at the console of a VM that was just started here, until it ends or the user leaves."""
    reporter = output.StderrReporter()
    with foreground, foreground.passing_signals_on():
        try:
            reply = foreground.ask_for_fds("console")
        except NotRunning:
            # It has said why.
            return foreground.status()
        with open_stream(reply) as stream:
            streams = streams._replace(bell=foreground.bell.borrow())
            detached = attend(foreground, stream.borrow(), streams, escape, reporter)
        if not detached:
            return foreground.status()
        foreground.ask("detach")
    name = shlex.quote(foreground.vm_name)
    reporter.note(
        f"'{foreground.vm_name}' keeps running in the background: bpferry console {name}, "
        f"bpferry stop {name}"
    )
    if as_json:
        output.print_json({"detached": foreground.vm_name})
    return 0
