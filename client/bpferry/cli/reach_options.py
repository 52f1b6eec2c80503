# SPDX-License-Identifier: LGPL-2.1-or-later
"""The options and the help of the commands that reach a guest: by network, and by its screen."""

from typing import Final

from bpferry.cli.parser import Commands, add_command
from bpferry.cli.running_options import add_json, add_name

IP_DESCRIPTION: Final = """\
Print the addresses of a VM's guest, one a line, the best first: IPv4, then
IPv6, then link-local ones. The guest agent is asked, if the VM has a channel
for it and it runs in the guest:
  [[channels]]
  type = "unix"
  name = "org.qemu.guest_agent.0"
Otherwise they come from this host's neighbour table by the MAC addresses of
the VM's cards: only those that this host has talked to lately, on a bridge on
which it has an address of its own.
"""

IP_EPILOG: Final = """\
examples:
  bpferry ip web
  bpferry ip web net1
  bpferry ip --json web            also where each is from
"""

SSH_DESCRIPTION: Final = """\
Log in to a VM's guest by your own ssh. The first way on which the guest
answers is taken: a forwarded port of user networking, an address (see
bpferry ip), or a vsock, at which guests with systemd 256 serve ssh by
themselves.

The guest's key is kept under the VM's name and not under an address, in the
VM's own folder: a guest with another address is the same guest. Its first key
is accepted.
"""

SSH_EPILOG: Final = """\
examples:
  bpferry ssh web
  bpferry ssh --user debian web
  bpferry ssh web -- journalctl -b        run a command in the guest
  bpferry ssh -o ForwardAgent=yes web
  bpferry ssh --print web                 only print the ssh command
"""

SCREENSHOT_DESCRIPTION: Final = """\
Write a picture of what the VM's screen shows now. FILE ends with .png or .ppm.
The VM needs a graphics card; no viewer, and no display for one.
"""

VIEW_DESCRIPTION: Final = """\
Show the VM's screen in your own viewer: the first of
{programs} that is installed.
The VM needs a display for it in its description:
  [[graphics]]
  type = "{kind}"
"""


def add_reach(commands: Commands) -> None:
    """Add the commands."""
    _add_ip(commands)
    _add_ssh(commands)
    _add_screenshot(commands)
    _add_view(commands, "vnc", "remote-viewer, vncviewer and xdg-open")
    _add_view(commands, "spice", "remote-viewer, spicy and xdg-open")


def _add_screenshot(commands: Commands) -> None:
    command = add_command(
        commands,
        "screenshot",
        help="write a picture of a VM's screen",
        description=SCREENSHOT_DESCRIPTION,
        epilog="example:\n  bpferry screenshot web web.png\n",
    )
    add_name(command)
    command.add_argument("file", metavar="FILE", help="the file to write, PNG or PPM by its name")
    add_json(command)


def _add_view(commands: Commands, kind: str, programs: str) -> None:
    command = add_command(
        commands,
        kind,
        help=f"show a VM's screen in your viewer for {kind.upper()}",
        description=VIEW_DESCRIPTION.format(programs=programs, kind=kind),
        epilog=f"examples:\n  bpferry {kind} web\n"
        f"  bpferry {kind} --print web            only print the address\n",
    )
    add_name(command)
    command.add_argument(
        "--print", action="store_true", help="only print the address, for a viewer elsewhere"
    )


def _add_ip(commands: Commands) -> None:
    command = add_command(
        commands,
        "ip",
        help="print the addresses of a VM's guest",
        description=IP_DESCRIPTION,
        epilog=IP_EPILOG,
    )
    add_name(command)
    command.add_argument(
        "card",
        metavar="CARD",
        nargs="?",
        help="only those of this card, by its id, such as net1, or by its MAC address",
    )
    add_json(command)


def _add_ssh(commands: Commands) -> None:
    command = add_command(
        commands,
        "ssh",
        usage="bpferry ssh [--user USER] [-o OPTION] [--print] NAME [-- COMMAND ...]",
        help="log in to a VM's guest by ssh",
        description=SSH_DESCRIPTION,
        epilog=SSH_EPILOG,
    )
    add_name(command)
    command.add_argument(
        "words", metavar="COMMAND", nargs="*", help="what to run in the guest, after '--'"
    )
    command.add_argument(
        "--user", metavar="USER", help="who to log in as (default: what your ssh says)"
    )
    command.add_argument(
        "-o",
        dest="option",
        metavar="OPTION",
        action="append",
        default=[],
        help="an option for ssh, such as ForwardAgent=yes; can be given several times",
    )
    command.add_argument(
        "--print", action="store_true", help="only print the ssh command, for a shell"
    )
