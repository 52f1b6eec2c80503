# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command, its options, its exit status.

This module and what it imports are cheap, so that a help text comes at once: each command's own
module is imported when the command is run.
"""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Final, NoReturn

from bpferry.cli import output
from bpferry.errors import BadInput, BpferryError
from bpferry_wire import VERSION

DESCRIPTION: Final = """\
Start QEMU VMs as an ordinary user, and say which steering each card gets.

A card on a multi-queue tap offers RSS to its guest. Where QEMU carries the
eBPF program for it, and the helper loads that program for you, the host's
kernel spreads the packets; otherwise QEMU does it, and bpferry says so.
"""

EPILOG: Final = """\
exit status:
  0    done
  1    failed
  2    wrong usage, or a description that cannot be read
  3    asks for what cannot be done here
  4    refused by the helper's policy
  5    no helper there
  of `run`, once the VM runs: QEMU's own; 128 + n if signal n ended it

environment:
  BPFERRY_BPF_SOCKET    the helper's socket; /run/bpferry/bpf.sock
"""

RUN_DESCRIPTION: Final = """\
Start the VM that FILE describes, and stay until it ends.

A serial port of type 'stdio' is on standard output, what bpferry and QEMU have
to say on standard error. On a terminal, keys go to the guest, but for Ctrl-C:
the first asks the guest to power down, the second ends QEMU.
"""

RUN_EPILOG: Final = """\
FILE is a libvirt domain document (.xml), or the same in TOML (.toml):
  name = "web"
  memory = "1 GiB"
  vcpus = 4
  kernel = "vmlinuz"
  initrd = "initrd.img"
  command-line = "console=ttyS0 root=/dev/vda"

  [[serials]]
  type = "stdio"        # the guest's console is yours

  [[disks]]
  file = "disk.qcow2"
  format = "qcow2"

  [[cards]]
  tap = "tap0"          # ip tuntap add dev tap0 mode tap multi_queue user YOU
  queues = 4

examples:
  bpferry run --dry-run web.toml    say what would be started, and why
  bpferry run --require-ebpf web.toml
"""

CHECK_DESCRIPTION: Final = """\
Read FILE, and say what bpferry does not support, which files are missing, and
what is not well designed: several queues on a back end that has one, more
queues than processors, and the like, each with its cause and what to do.
Nothing is started but QEMU, to ask it what it can do.

The exit status is 0 if there is nothing to say, 1 if there is, and 3 if
something is not supported.
"""

CONVERT_DESCRIPTION: Final = """\
Print FILE in the other form: libvirt domain XML as native TOML, or back.
What is read, written and read again is the same VM. Paths become absolute.
"""

CAPABILITIES_DESCRIPTION: Final = """\
Ask a QEMU what it can do: its version, the eBPF objects that it carries,
and what its network cards know of RSS. Nothing is read from version numbers.
"""


class Interrupted(KeyboardInterrupt):
    """A signal asks us to end before a VM runs."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Stopped(BpferryError):  # noqa: N818 - it is no fault
    """What a program is told when a signal ended us."""

    code = "interrupted"


class Parser(argparse.ArgumentParser):
    """Raises what is wrong with the command line in place of exiting."""

    def error(self, message: str) -> NoReturn:
        """Raise BadInput."""
        raise BadInput(f"wrong usage: {message}", f"see: {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that *arguments* (sys.argv) ask for, and return the exit status."""
    _fill_standard_fds()
    words = _separate_dry_run(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in words or "--dry-run=json" in words
    with _signals():
        try:
            return _run(build_parser().parse_args(words))
        except BpferryError as error:
            output.print_error(error, as_json=as_json)
            return error.status
        except KeyboardInterrupt as interrupt:
            number = getattr(interrupt, "number", signal.SIGINT)
            output.print_error(Stopped("stopped by a signal"), as_json=as_json)
            return 128 + int(number)
        except BrokenPipeError:
            # Who reads our standard output has left; there is nobody to tell.
            sys.stdout = None
            return 1
        except OSError as error:
            # Such as too many open files; what can be said better was said where it happened.
            failure = BpferryError(f"the system does not let us go on: {error}")
            output.print_error(failure, as_json=as_json)
            return failure.status


def _fill_standard_fds() -> None:
    """Open /dev/null where a standard stream is closed.

    Otherwise a socket of ours would get its number, and the child's own streams would replace it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number, which is this one


def _separate_dry_run(words: Sequence[str]) -> list[str]:
    """Write a bare ``--dry-run`` out, since argparse would take the next word for its value."""
    return ["--dry-run=text" if word == "--dry-run" else word for word in words]


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the stack as SIGINT does, so that nothing is left behind."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise Interrupted(number)

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(options: argparse.Namespace) -> int:
    if options.command == "run":
        from bpferry.cli.run import run  # noqa: PLC0415 - see the module's docstring

        return run(
            options.file,
            dry_run=options.dry_run,
            require_ebpf=options.require_ebpf,
            ignore_unsupported=options.ignore_unsupported,
            as_json=options.json,
        )
    if options.command == "convert":
        from bpferry.cli.convert import convert  # noqa: PLC0415

        return convert(
            options.file,
            options.to,
            ignore_unsupported=options.ignore_unsupported,
            as_json=options.json,
        )
    if options.command == "check":
        from bpferry.cli.check import check  # noqa: PLC0415

        return check(options.file, as_json=options.json)
    from bpferry.cli.capabilities import show  # noqa: PLC0415

    return show(options.qemu, as_json=options.json, refresh=options.refresh, clear=options.clear)


def build_parser() -> Parser:
    """Return the parser of the whole command line."""
    parser = Parser(
        prog="bpferry",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"bpferry {VERSION}")
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, title="commands", parser_class=Parser
    )
    _add_run(commands)
    _add_check(commands)
    _add_convert(commands)
    _add_capabilities(commands)
    return parser


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps our line breaks, and shows an optional value as it has to be written."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=79)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        shown = super()._format_action_invocation(action)
        return shown.replace("--dry-run text|json", "--dry-run[=text|json]")


def _add_run(commands: "argparse._SubParsersAction[Parser]") -> None:
    run = commands.add_parser(
        "run",
        usage="bpferry run [--dry-run[=text|json]] [--require-ebpf]\n"
        "                   [--ignore-unsupported] [--json] FILE",
        help="start a VM and stay until it ends",
        description=RUN_DESCRIPTION,
        epilog=RUN_EPILOG,
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    run.add_argument("file", metavar="FILE", help="the VM's description")
    run.add_argument(
        "--dry-run",
        choices=("text", "json"),
        metavar="text|json",
        help="print the command line and the reasons, and start nothing; needs no helper, no tap "
        "and no right; text if nothing is given",
    )
    run.add_argument(
        "--require-ebpf",
        action="store_true",
        help="fail unless the host's kernel steers every card",
    )
    run.add_argument(
        "--ignore-unsupported",
        action="store_true",
        help="leave out what bpferry does not do, with a warning for each, in place of refusing",
    )
    run.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object at the end; the guest's console goes to standard error",
    )


def _add_check(commands: "argparse._SubParsersAction[Parser]") -> None:
    check = commands.add_parser(
        "check",
        help="say what is wrong with a VM's description",
        description=CHECK_DESCRIPTION,
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    check.add_argument("file", metavar="FILE", help="the VM's description, .xml or .toml")
    check.add_argument("--json", action="store_true", help="print one JSON object")


def _add_convert(commands: "argparse._SubParsersAction[Parser]") -> None:
    convert = commands.add_parser(
        "convert",
        help="turn libvirt domain XML into native TOML, or back",
        description=CONVERT_DESCRIPTION,
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    convert.add_argument("file", metavar="FILE", help="the VM's description, .xml or .toml")
    convert.add_argument(
        "--to", choices=("xml", "toml"), help="the kind to print; the other one if not given"
    )
    convert.add_argument(
        "--ignore-unsupported",
        action="store_true",
        help="leave out what bpferry does not do, with a warning for each",
    )
    convert.add_argument("--json", action="store_true", help="print one JSON object")


def _add_capabilities(commands: "argparse._SubParsersAction[Parser]") -> None:
    capabilities = commands.add_parser(
        "capabilities",
        help="say what a QEMU can do",
        description=CAPABILITIES_DESCRIPTION,
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    capabilities.add_argument(
        "qemu",
        metavar="QEMU",
        nargs="?",
        help="path of the QEMU; the one in /usr/bin for this machine's own kind of guest",
    )
    capabilities.add_argument(
        "--refresh", action="store_true", help="ask QEMU anew, whatever the cache has"
    )
    capabilities.add_argument(
        "--clear", action="store_true", help="remove all that the cache has, and ask nobody"
    )
    capabilities.add_argument("--json", action="store_true", help="print one JSON object")
