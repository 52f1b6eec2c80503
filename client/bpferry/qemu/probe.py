# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ask a QEMU what it can do.

The binary is started once, without a machine and with a monitor on a socket pair. Everything is
asked over QMP (``questions``); the name of the program does not matter. An answer is complete and
certain, or there is no answer: a QEMU that ends while it is asked is an error, never a QEMU that
can do less.
"""

import asyncio
import socket
from typing import Final

from bpferry.errors import QemuError
from bpferry.qemu import process
from bpferry.qemu.capabilities import Capabilities
from bpferry.qemu.monitor import arguments, open_monitor
from bpferry.qemu.questions import ask

PROBE_SECONDS: Final = 60.0
"""A probe takes about 0.4 s. On a machine that swaps, or that is emulated and busy, 20 s are too
short."""

EXIT_SECONDS: Final = 1.0
"""A program that closed its monitor is about to exit; its status tells more than that."""


def probe(qemu: str, seconds: float = PROBE_SECONDS) -> Capabilities:
    """Return what the binary *qemu* can do.

    Raises:
        QemuError: it cannot be started, ends, hangs, or does not speak QMP; with its own output.
    """
    return asyncio.run(_probe(qemu, seconds))


async def _probe(qemu: str, seconds: float) -> Capabilities:
    with process.socket_pair() as (ours, theirs):
        argv = bare_arguments(qemu, str(theirs.fileno()))
        with process.start_child(argv, [theirs.fileno()]) as child:
            theirs.close()
            try:
                return await _ask_child(child, ours, seconds)
            except TimeoutError as error:
                evidence = child.tail()
                raise QemuError(
                    f"cannot probe '{qemu}': it did not answer within {seconds:g} s",
                    _words(evidence) or "is it a QEMU?",
                    evidence,
                ) from error
            except QemuError as error:
                raise _with_evidence(error, child) from error


def bare_arguments(qemu: str, fd: str) -> tuple[str, ...]:
    """Return the command line of a *qemu* without a machine, its monitor on the socket *fd*."""
    return (
        qemu,
        "-machine", "none",
        "-S",
        "-nodefaults",
        "-no-user-config",
        "-display", "none",
        *arguments(fd),
    )  # fmt: skip


async def _ask_child(child: process.Child, ours: socket.socket, seconds: float) -> Capabilities:
    """Ask while reading what *child* writes, so that a full pipe never stops it."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        if child.read_output() == b"":
            loop.remove_reader(child.output)

    loop.add_reader(child.output, read)
    try:
        async with asyncio.timeout(seconds):
            async with open_monitor(child.name, ours) as monitor:
                try:
                    return await ask(child.name, monitor)
                except asyncio.CancelledError:
                    # What was not sent yet would hold up the end of the connection.
                    child.kill()
                    raise
    finally:
        loop.remove_reader(child.output)


def _with_evidence(error: QemuError, child: process.Child) -> QemuError:
    """Return *error* with what *child* wrote and how it ended."""
    ended = child.wait(EXIT_SECONDS)
    # If it has to be killed, its status is meaningless.
    ending = f" ({process.describe_exit(child.exit_status())})" if ended else ""
    evidence = child.tail()
    what = error.message.replace(f"'{child.name}'", "it", 1)
    return QemuError(f"cannot probe '{child.name}': {what}{ending}", _words(evidence), evidence)


def _words(evidence: str) -> str:
    """Return the last line of *evidence* that tells something, and how many are before it.

    A program that does not know an option ends by naming its own help, which does not help here.
    """
    lines = evidence.splitlines()
    while len(lines) > 1 and lines[-1].startswith("Try "):
        lines.pop()
    if not lines:
        return ""
    others = len(lines) - 1
    before = f" (and {others} {'line' if others == 1 else 'lines'} before)" if others else ""
    return f"it said: {lines[-1].strip()}{before}"
