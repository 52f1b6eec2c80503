# SPDX-License-Identifier: LGPL-2.1-or-later
"""The options of bpferry fds, and its help."""

import argparse
from typing import Final

from bpferry.cli.network_options import add_queues, add_source, mac
from bpferry.cli.parser import Commands, add_command

DESCRIPTION: Final = """\
Ask the helpers for file descriptors and become PROGRAM, which has them from
number 3 on, as sd_listen_fds(3) finds them: first the programs and maps of the
eBPF object, then the queues of the tap. The environment says how many there are
(LISTEN_FDS), for which process (LISTEN_PID), and what they are called
(LISTEN_FDNAMES, with colons between): programs and maps as in the object, each
queue as its tap. The tap and the object go when nobody has their fds any more.
"""

EPILOG: Final = """\
The exit status is PROGRAM's.

examples:
  bpferry fds --object rss --exec ./launcher
  bpferry fds --object rss --bridge br0 --queues 4 --exec ./launcher
  bpferry fds --bridge br0 --exec ls -l /proc/self/fd
"""


def add_fds(commands: Commands) -> None:
    """Add ``fds``."""
    command = add_command(
        commands,
        "fds",
        usage="bpferry fds [--object ID [--qemu PATH]] [--bridge NAME | --network NAME]\n"
        "                   [--queues N] [--mac ADDRESS] --exec PROGRAM [ARGUMENT ...]",
        help="start another program with a tap and an eBPF object",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    command.add_argument(
        "--object", metavar="ID", help="load this eBPF object of a QEMU, such as rss"
    )
    command.add_argument(
        "--qemu", metavar="PATH", help="the QEMU that carries it (default: this host's)"
    )
    add_source(command, "make")
    add_queues(command)
    command.add_argument(
        "--mac", metavar="ADDRESS", type=mac, help="the MAC address that the tap's card will have"
    )
    command.add_argument(
        "--exec",
        metavar="PROGRAM",
        dest="program",
        nargs=argparse.REMAINDER,
        required=True,
        help="what to become, and all that follows is for it",
    )
