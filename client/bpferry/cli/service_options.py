# SPDX-License-Identifier: LGPL-2.1-or-later
"""The options and the help of the commands for VMs under the user's systemd."""

from typing import Final

from bpferry.cli.parser import Commands, Parser, add_command
from bpferry.cli.running_options import add_json

WHICH: Final = """\
NAME is the description NAME.toml or NAME.xml in ~/.config/bpferry/vms
($XDG_CONFIG_HOME/bpferry/vms).
"""

START_DESCRIPTION: Final = f"""\
Start a VM under your own systemd, and return as soon as its guest runs. It is
the same as `bpferry run NAME`, without a terminal: `bpferry status NAME` shows
the VM, `bpferry log NAME` what it says, and `bpferry stop NAME` stops it.

{WHICH}
Your systemd ends with your last session, and the VM with it. To keep both
running without a session: loginctl enable-linger.
"""

RESTART_DESCRIPTION: Final = f"""\
Power a VM down through its guest, and start it under your own systemd, with a
description that may have changed. A VM that does not run is started.
`bpferry reset` restarts only the guest, at once, and as it was started.

{WHICH}"""

ENABLE_DESCRIPTION: Final = f"""\
Have your own systemd start a VM: when you log in, or, after
`loginctl enable-linger`, when the host starts. A VM that was enabled runs
again after the host has restarted. This does not start it now.

{WHICH}"""

DISABLE_DESCRIPTION: Final = """\
Undo `bpferry enable`: the VM is started only when you ask for it. If it runs
now, it keeps running.
"""

LOG_DESCRIPTION: Final = """\
Show what bpferry and QEMU have said about a VM: from the journal if your
systemd has started it last, otherwise from ~/.local/state/bpferry/NAME/log
($XDG_STATE_HOME/bpferry/NAME/log), which `bpferry run` writes. What the guest
writes on a serial port is not there: `bpferry console` shows it, and `log` of
the port in the VM's description keeps it in a file.
"""

SERVICE: Final = {
    "start": ("start a VM under your systemd", START_DESCRIPTION),
    "restart": ("stop a VM and start it again", RESTART_DESCRIPTION),
    "enable": ("start a VM when you log in or the host starts", ENABLE_DESCRIPTION),
    "disable": ("undo enable", DISABLE_DESCRIPTION),
}
"""Help and description of each command for a unit."""


def add_service(commands: Commands) -> None:
    """Add the commands."""
    for name, (summary, description) in SERVICE.items():
        command = add_command(
            commands,
            name,
            help=summary,
            description=description,
            epilog=f"example:\n  bpferry {name} web\n",
        )
        _add_name(command)
        add_json(command)
    _add_log(commands)


def _add_log(commands: Commands) -> None:
    log = add_command(
        commands,
        "log",
        help="show what a VM's bpferry and QEMU have said",
        description=LOG_DESCRIPTION,
        epilog="examples:\n"
        "  bpferry log web       all of its last runs\n"
        "  bpferry log -f web    and what it says from now on, until Ctrl-C\n",
    )
    _add_name(log)
    log.add_argument(
        "-f", "--follow", action="store_true", help="also show what is said from now on"
    )
    add_json(log)


def _add_name(command: Parser) -> None:
    command.add_argument("name", metavar="NAME", help="the VM's name, such as 'web'")
