# SPDX-License-Identifier: LGPL-2.1-or-later
"""The options and the help of the commands for VMs that run."""

import argparse
from typing import Final

from bpferry.cli.parser import Commands, add_command

LIST_DESCRIPTION: Final = """\
List your running VMs: those of `bpferry run` in any session, and those under
your systemd. Only your own are shown.
"""

STATUS_DESCRIPTION: Final = """\
Show one running VM: its state, how long it has been running, its memory and
processors, its cards with the steering that was planned and what is seen of
it, its guest's addresses, its disks, how to reach it, and the last warnings.
"""

STOP_DESCRIPTION: Final = """\
Ask the guest to power down, as its power button does, and wait until the VM
has ended. If the guest does not power down in time, QEMU ends, which is like
pulling the plug: after --timeout seconds, or after 'stop-timeout' of the VM
(90 seconds, unless its description or `bpferry run --stop-timeout` says
otherwise). --force does that at once.
"""

STOP_EPILOG: Final = """\
examples:
  bpferry stop web                 power down, and wait
  bpferry stop --timeout 30 web    pull the plug if that takes over 30 s
  bpferry stop --force web db      pull the plug of two VMs now
"""

SAVE_DESCRIPTION: Final = """\
Stop the VM, write its memory and the state of its devices to FILE, and end it.
`bpferry run --restore FILE` with the same description resumes it: the guest
notices only that time has passed. Its disks are not in FILE; if one of
them has changed meanwhile, a restore is refused. Ctrl-C cancels, and the guest
continues.
"""

SAVE_EPILOG: Final = """\
example:
  bpferry save web web.saved
  bpferry run --restore web.saved web.toml
"""

SNAPSHOT_DESCRIPTION: Final = """\
Keep the content that all writable disks of a VM have at this moment, inside
their qcow2 images, while the VM runs. The guest is not asked, so its file
systems are as after a power cut; its memory is not kept (see bpferry save).
"""

SNAPSHOT_EPILOG: Final = """\
example:
  bpferry snapshot web before-upgrade
To go back to it, or to remove it, while the VM does not run, for each disk:
  qemu-img snapshot -a before-upgrade web.qcow2
  qemu-img snapshot -d before-upgrade web.qcow2
"""

PAUSE_DESCRIPTION: Final = """\
Stop the VM's processors. Its memory, disks and cards stay as they are; packets
for the guest wait in the queues of its cards, and are dropped when these are
full. `bpferry resume` lets it continue.
"""

RESUME_DESCRIPTION: Final = """\
Let a VM continue that was paused. Its clock is behind by as long as it was
paused, until the guest sets it.
"""

RESET_DESCRIPTION: Final = """\
Restart the VM at once, as its reset button does. The guest is not asked: what
it has not written to its disks is lost. Taps and eBPF programs stay.
"""

STATES: Final = {
    "pause": (
        "stop the processors of a running VM",
        PAUSE_DESCRIPTION,
    ),
    "resume": (
        "let a paused VM continue",
        RESUME_DESCRIPTION,
    ),
    "reset": (
        "restart a VM as its reset button does",
        RESET_DESCRIPTION,
    ),
}
"""Help and description of the commands that change the state of a VM."""

MAX_SECONDS: Final = 86_400


def add_running(commands: Commands) -> None:
    """Add the commands."""
    _add_list(commands)
    _add_status(commands)
    _add_stop(commands)
    _add_save(commands)
    _add_snapshot(commands)
    for name, (summary, description) in STATES.items():
        command = add_command(
            commands,
            name,
            help=summary,
            description=description,
            epilog=f"example:\n  bpferry {name} web\n",
        )
        add_name(command)
        add_json(command)


def add_name(command: argparse.ArgumentParser) -> None:
    """Add the name of the VM that a command is about."""
    command.add_argument("name", metavar="NAME", help="the VM's name, as in 'bpferry list'")


def add_json(command: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    command.add_argument("--json", action="store_true", help="print one JSON object")


def _add_save(commands: Commands) -> None:
    command = add_command(
        commands,
        "save",
        help="save a VM to a file, and end it",
        description=SAVE_DESCRIPTION,
        epilog=SAVE_EPILOG,
    )
    add_name(command)
    command.add_argument("file", metavar="FILE", help="the file to save it in; it is made")
    command.add_argument("--force", action="store_true", help="replace FILE if it is there")
    add_json(command)


def _add_snapshot(commands: Commands) -> None:
    command = add_command(
        commands,
        "snapshot",
        help="keep the present content of a VM's qcow2 disks",
        description=SNAPSHOT_DESCRIPTION,
        epilog=SNAPSHOT_EPILOG,
    )
    add_name(command)
    command.add_argument("tag", metavar="TAG", help="what the snapshot is called in each image")
    add_json(command)


def _add_list(commands: Commands) -> None:
    command = add_command(
        commands,
        "list",
        help="list your running VMs",
        description=LIST_DESCRIPTION,
        epilog="example:\n  bpferry list --json\n",
    )
    add_json(command)


def _add_status(commands: Commands) -> None:
    command = add_command(
        commands,
        "status",
        help="show one running VM",
        description=STATUS_DESCRIPTION,
        epilog="example:\n  bpferry status web\n",
    )
    add_name(command)
    add_json(command)


def _add_stop(commands: Commands) -> None:
    command = add_command(
        commands,
        "stop",
        help="power a VM down",
        description=STOP_DESCRIPTION,
        epilog=STOP_EPILOG,
    )
    command.add_argument(
        "names", metavar="NAME", nargs="+", help="the VM's name, as in 'bpferry list'"
    )
    how = command.add_mutually_exclusive_group()
    how.add_argument("--force", action="store_true", help="end QEMU at once")
    how.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        help="end QEMU if the guest has not powered down after so many seconds (default: the VM's "
        "stop-timeout)",
    )
    add_json(command)


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= MAX_SECONDS):
        raise argparse.ArgumentTypeError(f"expected 1 to {MAX_SECONDS} seconds, not '{text}'")
    return int(text)
