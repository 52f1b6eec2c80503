# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry exec: become another launcher's QEMU, whose cards have what they lacked.

A command line without a tap is on its way at once: nothing is imported for it that only cards need.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from bpferry.cli import output
from bpferry.cli.msgspec_import import import_msgspec
from bpferry.errors import BadInput, NoProgram
from bpferry.launcher.becoming import NOT_FOUND, become, find_program, status_of
from bpferry.launcher.words import has_network

if TYPE_CHECKING:
    import argparse

HINT: Final = "write '--' and then the command that starts QEMU; see: bpferry exec --help"


def run_exec(options: "argparse.Namespace") -> int:
    """Become the QEMU that follows ``--``, or say what would be changed; return the exit status.

    Raises:
        BpferryError: no command line is given, or something that is required is not possible.
    """
    argv: list[str] = options.command_line
    if not argv:
        raise BadInput("wrong usage: no command line of a QEMU follows '--'", HINT)
    path = find_program(argv[0])
    if options.dry_run:
        return _show(argv, path, options)
    if path is None:
        output.say(f"error: cannot start '{argv[0]}': there is no such program")
        return NOT_FOUND
    if not has_network(argv) and not options.require_ebpf:
        return _become(path, argv)
    return start(argv, path, queues=options.queues, require_ebpf=options.require_ebpf)


def start(
    argv: Sequence[str], path: str, *, queues: int | None = None, require_ebpf: bool = False
) -> int:
    """Become the QEMU at *path*, whose cards get what they lack; return the status if that fails.

    Raises:
        BpferryError: eBPF is required, and a card cannot have it.
    """
    import_msgspec()
    from bpferry.cli import exec_texts  # noqa: PLC0415
    from bpferry.launcher.conversion import Wishes  # noqa: PLC0415
    from bpferry.launcher.giving import HelpersGiver  # noqa: PLC0415
    from bpferry.launcher.taking import converted  # noqa: PLC0415
    from bpferry.network.bpf_helper import BpfHelper  # noqa: PLC0415
    from bpferry.network.tap_helper import TapHelper  # noqa: PLC0415

    wishes = Wishes(queues, require_ebpf)
    with TapHelper() as taps, BpfHelper() as sets:
        giver = HelpersGiver(argv, taps, sets)
        made = converted(argv, path, giver, wishes, output.say)
    for text in exec_texts.lines_of(argv, made):
        output.say(text)
    return _become(path, made.argv, giver.kept, made.closed)


def _become(
    path: str, argv: Sequence[str], passed: Sequence[int] = (), closed: Sequence[int] = ()
) -> int:
    """Become the program at *path*; return a shell's status if that is not possible."""
    error = become(path, argv, passed=passed, closed=closed)
    output.say(f"error: cannot start '{argv[0]}': {error.strerror}")
    return status_of(error)


def _show(argv: Sequence[str], path: str | None, options: "argparse.Namespace") -> int:
    """Say what would be changed."""
    import_msgspec()
    from bpferry.cli import exec_texts  # noqa: PLC0415
    from bpferry.launcher.conversion import Wishes  # noqa: PLC0415
    from bpferry.launcher.giving import NoGiver  # noqa: PLC0415
    from bpferry.launcher.taking import converted  # noqa: PLC0415

    if path is None:
        raise NoProgram(f"cannot find '{argv[0]}'", "give a path, or a program of your PATH")
    wishes = Wishes(options.queues, options.require_ebpf)
    made = converted(argv, path, NoGiver(), wishes, output.say)
    if options.dry_run == "json":
        output.print_json(exec_texts.as_fields(argv, made))
    else:
        output.print_text(exec_texts.as_text(argv, made))
    return 0
