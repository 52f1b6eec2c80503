# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry exec: become another launcher's QEMU, whose cards have what they lacked."""

import argparse
import os
from collections.abc import Sequence
from typing import Final

from bpferry.cli import exec_texts, output
from bpferry.errors import BadInput, NoProgram, QemuError
from bpferry.launcher.becoming import NOT_FOUND, become, find_program, status_of
from bpferry.launcher.conversion import Conversion, Wishes, convert, has_taps
from bpferry.launcher.giving import Giver, HelpersGiver, NoGiver
from bpferry.network.bpf_helper import BpfHelper
from bpferry.network.tap_helper import TapHelper
from bpferry.qemu.cache import find_or_probe

HINT: Final = "write '--' and then the command that starts QEMU; see: bpferry exec --help"


def run_exec(options: argparse.Namespace) -> int:
    """Become the QEMU that follows ``--``, or say what would be changed; return the exit status.

    Raises:
        BpferryError: no command line is given, or something that is required is not possible.
    """
    argv: list[str] = options.command_line
    if not argv:
        raise BadInput("wrong usage: no command line of a QEMU follows '--'", HINT)
    wishes = Wishes(options.queues, options.require_ebpf)
    if not options.dry_run:
        return start(argv, find_program(argv[0]), wishes)
    path = find_program(argv[0])
    if path is None:
        raise NoProgram(f"cannot find '{argv[0]}'", "give a path, or a program of your PATH")
    made = _converted(argv, path, NoGiver(), wishes)
    if options.dry_run == "json":
        output.print_json(exec_texts.as_fields(argv, made))
    else:
        output.print_text(exec_texts.as_text(argv, made))
    return 0


def start(argv: Sequence[str], path: str | None, wishes: Wishes) -> int:
    """Become the program at *path* with *argv*; return the status if that is not possible.

    Raises:
        BpferryError: eBPF is required, and a card cannot have it.
    """
    if path is None:
        output.say(f"error: cannot start '{argv[0]}': there is no such program")
        return NOT_FOUND
    with TapHelper() as taps, BpfHelper() as sets:
        giver = HelpersGiver(argv, taps, sets)
        made = _converted(argv, path, giver, wishes)
    for text in exec_texts.lines_of(argv, made):
        output.say(text)
    error = become(path, made.argv, passed=giver.kept, closed=made.closed)
    output.say(f"error: cannot start '{argv[0]}': {error.strerror}")
    return status_of(error)


def _converted(argv: Sequence[str], path: str, giver: Giver, wishes: Wishes) -> Conversion:
    """Return what becomes of *argv*; a program that cannot be asked gets it as it is."""
    if not has_taps(argv) and not wishes.require_ebpf:
        return Conversion(list(argv))
    try:
        capabilities = find_or_probe(os.path.abspath(path), note=output.say)  # noqa: PTH100
    except QemuError as error:
        if wishes.require_ebpf:
            raise
        output.say(f"warning: {error.message}; its command line stays as it is")
        return Conversion(list(argv))
    return convert(argv, capabilities, giver, wishes)
