# SPDX-License-Identifier: LGPL-2.1-or-later
"""The options of ``bpferry run`` and ``bpferry check``, and their help."""

import argparse
from typing import Final

from bpferry.cli.console_options import add_escape_key
from bpferry.cli.given_options import add_given
from bpferry.cli.parser import Commands, Parser, add_command, number
from bpferry.domain.stop_time import MAX_STOP_SECONDS

FILE_HELP: Final = (
    "the VM's description, .xml or .toml; or the name of one in ~/.config/bpferry/vms, such as "
    "'web'"
)

RUN_DESCRIPTION: Final = """\
Start the VM that FILE describes, and stay until it ends.

A serial port of type 'stdio' is on standard input and output; messages of
bpferry and QEMU go to standard error. On a terminal, all keys go to the guest,
Ctrl-C too. Ctrl-] asks whether to detach (the VM keeps running in the
background: `bpferry console`, `bpferry stop`), to power down, or to end the VM.
SIGTERM asks the guest to power down, from anybody: `kill`, a session that ends,
systemd. So do SIGHUP, which comes when a terminal or an ssh connection is
closed, and SIGINT: Ctrl-C, if the VM has no serial port on the terminal.
A guest that does not react has until its stop-timeout. A second SIGTERM ends
QEMU before that, if it comes a second after the first or later; one that comes
sooner is taken for the same wish, and SIGHUP never counts as a second one.
"""

RUN_EPILOG: Final = """\
FILE is a libvirt domain document (.xml), or a description in TOML (.toml):
  name = "web"
  memory = "1 GiB"
  vcpus = 4
  kernel = "vmlinuz"
  initrd = "initrd.img"
  command-line = "console=ttyS0 root=/dev/vda"

  [[serials]]
  type = "stdio"        # the guest's console on your terminal

  [[disks]]
  file = "disk.qcow2"
  format = "qcow2"

  [[cards]]
  bridge = "br0"        # the helper makes a tap, if the policy allows it;
  queues = 4            # for a tap of yours that exists: tap = "tap0"
  rss = true

examples:
  bpferry can-i --bridge br0             may you have a tap on this bridge?
  bpferry run --dry-run web.toml         show what would start, and why
  bpferry run --require-ebpf web.toml    only if eBPF steers every card
"""

CHECK_DESCRIPTION: Final = """\
Say what is wrong with FILE, each with its cause and what to do:
  - what bpferry does not support;
  - what would keep the VM from starting now: missing files and programs, an
    image that another VM uses, a port in use;
  - what could be done better: more queues than processors, RSS that would cost
    vhost or that this QEMU does not have in eBPF, and so on.
No VM is started, and nothing is made: QEMU is asked what it can do, and the
helpers whether they would make the taps and load the eBPF programs.

Errors keep the VM from starting; warnings say what it would lack. The exit
status is that of `bpferry run FILE` before QEMU starts: 0 if the VM can start.
"""

CHECK_EPILOG: Final = """\
examples:
  bpferry check web.toml
  bpferry check --ignored web.xml         also say what is ignored, and why
  bpferry check --libvirt-session web.xml
"""


def add_run(commands: Commands) -> None:
    """Add ``run``."""
    run = add_command(
        commands,
        "run",
        usage="bpferry run [--dry-run[=text|json]] [--require-ebpf]\n"
        "                   [--ignore-unsupported] [--name NAME]\n"
        "                   [--set NAME=VALUE] [--secret NAME=FILE]\n"
        "                   [--secrets FILE] [--stop-timeout SECONDS]\n"
        "                   [--restore SAVED] [--escape-key KEY] [--json] FILE",
        help="start a VM and stay until it ends",
        description=RUN_DESCRIPTION,
        epilog=RUN_EPILOG,
    )
    run.add_argument("file", metavar="FILE", help=FILE_HELP)
    run.add_argument(
        "--dry-run",
        choices=("text", "json"),
        metavar="text|json",
        help="show everything that a run would do, and why, and start nothing; the helpers are "
        "asked whether they would do their part, and make nothing (default format: text)",
    )
    run.add_argument(
        "--require-ebpf",
        action="store_true",
        help="start only if eBPF in the host's kernel steers every card",
    )
    run.add_argument(
        "--ignore-unsupported",
        action="store_true",
        help="leave out what is not supported, with a warning for each, instead of refusing",
    )
    run.add_argument(
        "--restore",
        metavar="SAVED",
        help="resume the VM that 'bpferry save' has written to the file SAVED; nothing of the "
        "description that the guest sees may have changed",
    )
    add_given(run)
    add_secrets(run)
    run.add_argument(
        "--stop-timeout",
        metavar="SECONDS",
        type=_stop_seconds,
        help="how long the guest may take to power down when the VM is stopped; then QEMU is told "
        "to end (default: stop-timeout of the description, or 90; 0: no limit)",
    )
    add_escape_key(run)
    run.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object at the end; the guest's console goes to standard error",
    )


def add_check(commands: Commands) -> None:
    """Add ``check``."""
    check = add_command(
        commands,
        "check",
        help="say what is wrong with the description of a VM",
        description=CHECK_DESCRIPTION,
        epilog=CHECK_EPILOG,
    )
    check.add_argument("file", metavar="FILE", help=FILE_HELP)
    check.add_argument(
        "--libvirt-session",
        action="store_true",
        help="also note what libvirt's session mode (qemu:///session) would do differently",
    )
    check.add_argument(
        "--ignored",
        action="store_true",
        help="also list what bpferry ignores in a libvirt document, with the reason for each; the "
        "output of --json always contains it",
    )
    add_given(check)
    add_secrets(check)
    check.add_argument("--json", action="store_true", help="print one JSON object")


def add_secrets(command: Parser) -> None:
    """Add where passwords and keys are."""
    command.add_argument(
        "--secret",
        metavar="NAME=FILE",
        type=_named_file,
        action="append",
        default=[],
        help="read the password or key that the description calls NAME (a UUID or a usage) from "
        "FILE, which only you may be able to read (mode 0600)",
    )
    command.add_argument(
        "--secrets",
        metavar="FILE",
        help="the same for several: a TOML file with name and file in each [[secrets]]",
    )


def _named_file(text: str) -> tuple[str, str]:
    name, equals, file = text.partition("=")
    if not (name and equals and file):
        raise argparse.ArgumentTypeError(f"expected NAME=FILE, not '{text}'")
    return name, file


def _stop_seconds(text: str) -> int:
    return number(text, 0, MAX_STOP_SECONDS)
