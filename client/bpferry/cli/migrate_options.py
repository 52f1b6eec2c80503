# SPDX-License-Identifier: LGPL-2.1-or-later
"""The options and the help of bpferry migrate, and of the command that ssh starts for it."""

from typing import Final

from bpferry.cli.parser import Commands, Parser, add_command
from bpferry.cli.running_options import add_json, add_name

DESCRIPTION: Final = """\
Move a VM to another host while it runs. The guest stands still for a moment,
usually for less than a second.

The other host is reached by your own `ssh`, with your keys and your settings;
no port is opened, and all data goes through that connection. There, `bpferry`
has to be in the PATH of commands of ssh (try: ssh HOST bpferry list). It gets
new taps and new eBPF programs from the helpers of that host, starts QEMU, and
compares. The VM moves only if its guest will find there what it has here:
  - the same version of QEMU or a newer one, the same machine type, and for each
    card the same steering, queues, address and features;
  - the same features of the processor;
  - the same disk images, under the same paths, in a file system that both hosts
    share (NFS, CephFS, GFS2, OCFS2). Images are not copied.
A VM with a device of the host, a TPM, or devices that were plugged in does not
move.

If anything fails, or if you press Ctrl-C, the VM stays here and nothing is
left on the other host. If a guest changes its memory faster than the connection
can carry it, QEMU slows the guest down until the copy catches up.

Afterwards the VM belongs to you there: bpferry list, status, console, stop. Its
description is in ~/.local/state/bpferry/NAME/migrated.toml (or .xml) there. It
is a service of your systemd if that runs without a session (loginctl
enable-linger), otherwise a process in the background. Do not start it here as
well.
"""

EPILOG: Final = """\
examples:
  bpferry migrate web ssh://beta
  bpferry migrate web ssh://alice@beta.example.org:2222
"""

RECEIVE_DESCRIPTION: Final = """\
Receive a VM from another host over standard input and output. `bpferry migrate`
starts this through ssh; it is of no use by hand.
"""


def add_migrate(commands: Commands) -> None:
    """Add ``migrate``."""
    command = add_command(
        commands,
        "migrate",
        help="move a VM to another host while it runs",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    add_name(command)
    command.add_argument(
        "destination",
        metavar="ssh://[USER@]HOST[:PORT]",
        help="the other host, as ssh knows it",
    )
    add_json(command)


def add_receive(commands: Commands) -> None:
    """Add ``receive``, which no list of commands shows."""
    command = commands.add_parser("receive", description=RECEIVE_DESCRIPTION, allow_abbrev=False)
    assert isinstance(command, Parser)  # noqa: S101 - the class of all commands
    command.add_argument("name", metavar="NAME", help="the VM's name")
    command.add_argument(
        "--front", metavar="PID", type=int, help="the process that ssh has started"
    )
