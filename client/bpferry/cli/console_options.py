# SPDX-License-Identifier: LGPL-2.1-or-later
"""The options and the help of `bpferry console`."""

from typing import Final

from bpferry.cli.parser import Commands, Parser, add_command
from bpferry.cli.running_options import add_name

DESCRIPTION: Final = """\
Attach to the serial console of a running VM, however it was started. All keys
go to the guest, Ctrl-C too, until Ctrl-] and d detach; the VM keeps running.
Ctrl-] and p ask the guest to power down, Ctrl-] and e end the VM at once, and
Ctrl-] twice sends Ctrl-] itself.

A serial port of type 'stdio' may have up to 32 terminals at the same time. All
of them may type. The last 128 KiB of what the guest wrote are shown first. A
terminal that is too slow loses what does not fit into its queue of 256 KiB, and
says so. Ports of type 'pty' and 'unix' are QEMU's own: they have no history,
and one reader. Without a terminal, what is piped in is typed.
"""

EPILOG: Final = """\
examples:
  bpferry console web
  bpferry console --serial serial1 web
  bpferry console --escape-key ^A web      Ctrl-A leaves
  bpferry console web < /dev/null          only look
"""


def add_console(commands: Commands) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "console",
        help="attach to the serial console of a running VM",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    add_name(command)
    command.add_argument(
        "--serial",
        metavar="PORT",
        help="the serial port, such as serial1 (default: the one of type 'stdio', or the only one)",
    )
    add_escape_key(command)


def add_escape_key(command: Parser) -> None:
    """Add ``--escape-key``."""
    command.add_argument(
        "--escape-key",
        metavar="KEY",
        help="the key that leaves the console on a terminal: ^A for Ctrl-A and so on, or 'none' "
        "(default: BPFERRY_ESCAPE_KEY of the environment, or ^])",
    )
