# SPDX-License-Identifier: LGPL-2.1-or-later
"""What QEMU writes on its standard error, line by line: passed on, explained, or put better.

Lines are left out if bpferry says the same in its own words: which pseudo-terminal and which port
QEMU has chosen (``endpoints``), and what libbpf writes when QEMU itself tries to load its eBPF
program.
"""

import asyncio
import re
from collections.abc import Iterable, Sequence
from typing import Final

from bpferry.commandline.parts import Endpoint
from bpferry.machine.reporter import Reporter
from bpferry.qemu.process import PIPE_BYTES, TAIL_BYTES, Child
from bpferry.steering.plan import CardPlan
from bpferry.steering.view import Seen, compare_plan

MAX_LINE_BYTES: Final = 4096
"""A longer line is shown in pieces."""

REDIRECTED: Final = re.compile(r"char device redirected to \S+ \(label (?P<label>\S+)\)")
"""The line about each pseudo-terminal (chardev/char.c)."""

VNC_RUNNING: Final = "VNC server running on "
"""The line after QEMU has looked for a free port (ui/vnc.c)."""

LIBBPF: Final = "libbpf: "

NOT_LOADED: Final = "Unable to load eBPF program"
"""The last of the lines about it (hw/net/virtio-net.c, since 9.2)."""

NOT_PERMITTED: Final = re.compile(r"not permitted|EPERM|Permission denied|EACCES")

BURST_SECONDS: Final = 0.5
"""How long to wait for all of libbpf's lines; they take some milliseconds."""

LOADED_BY_ITSELF: Final = (
    "QEMU has tried to load its eBPF program by itself, which takes a privilege that it does not "
    "have: it steers that card's packets in user space"
)


class QemuOutput:
    """Reports what a child writes while the event loop runs."""

    def __init__(
        self,
        child: Child,
        reporter: Reporter,
        plans: Iterable[CardPlan],
        endpoints: Sequence[Endpoint] = (),
    ) -> None:
        self._child = child
        self._reporter = reporter
        self._plans = tuple(plans)
        self._endpoints = endpoints
        self._rest = b""
        self._of_libbpf: list[str] = []
        self._told = False
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(child.output, self._read)
        self._reading = True

    def stop(self) -> None:
        """Report what is left, and stop reading. Doing so twice does nothing."""
        for _ in range(PIPE_BYTES // TAIL_BYTES + 1):
            if not self._reading or not self._read():
                break
        self._pause()
        if self._rest:
            self._take(self._rest)
        self._rest = b""
        self._end_burst()

    def _read(self) -> bool:
        """Report one chunk; return False if there is none."""
        data = self._child.read_output()
        if data == b"":
            self._pause()
        *whole, self._rest = (self._rest + (data or b"")).split(b"\n")
        for line in whole:
            self._take(line)
        if len(self._rest) > MAX_LINE_BYTES:
            self._take(self._rest)
            self._rest = b""
        return bool(data)

    def _take(self, line: bytes) -> None:
        text = line.decode(errors="replace")
        if text.startswith(LIBBPF):
            self._hold(text)
        elif self._of_libbpf and NOT_LOADED in text:
            self._hold(text)
            self._end_burst()
        else:
            self._end_burst()
            if not self._is_said_better(text):
                self._report(text)

    def _hold(self, text: str) -> None:
        """Hold a line until it is clear what all of them mean together."""
        self._of_libbpf.append(text)
        if self._timer is None:
            self._timer = self._loop.call_later(BURST_SECONDS, self._end_burst)

    def _end_burst(self) -> None:
        """Say once what the held lines mean, or pass them on."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        held, self._of_libbpf = self._of_libbpf, []
        if not any(NOT_PERMITTED.search(line) for line in held):
            for line in held:
                self._report(line)
        elif not self._told:
            self._reporter.note(LOADED_BY_ITSELF)
            self._told = True

    def _is_said_better(self, text: str) -> bool:
        redirected = REDIRECTED.fullmatch(text)
        if redirected is not None:
            return any(redirected["label"] == one.chardev for one in self._endpoints)
        return text.startswith(VNC_RUNNING) and any(
            one.protocol == "vnc" for one in self._endpoints
        )

    def _report(self, text: str) -> None:
        self._reporter.qemu_said(text)
        # QEMU does not say which card it means, so there is one warning for all.
        seen = Seen(lines=(text,))
        for notice in filter(None, (compare_plan(plan, seen) for plan in self._plans)):
            self._reporter.warn(notice.message, notice.hint)
            return

    def _pause(self) -> None:
        if self._reading:
            self._loop.remove_reader(self._child.output)
        self._reading = False
