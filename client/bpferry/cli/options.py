# SPDX-License-Identifier: LGPL-2.1-or-later
"""The commands, their options, their help."""

import argparse
from typing import Final

from bpferry.cli.network_options import add_can_i, add_tap
from bpferry.cli.parser import Commands, Formatter, Parser, add_command
from bpferry_wire import VERSION

DESCRIPTION: Final = """\
Start QEMU VMs as an ordinary user, and say which steering each card gets.

A card on a bridge of the host gets a tap with several queues from a helper, and
offers RSS to its guest. Where QEMU carries the eBPF program for it, and another
helper loads that program for you, the host's kernel spreads the packets;
otherwise QEMU does it, and bpferry says so.
"""

EPILOG: Final = """\
exit status:
  0    done
  1    failed, or something is missing or in use on this host
  2    the command line or the description is wrong, or cannot be read
  3    the description asks for something that is not supported here
  4    not allowed by the helper's policy, or not in the group that may ask it
  5    no helper is there
  of `run`, once the VM runs: QEMU's own; 128 + n if signal n ended it

environment:
  BPFERRY_BPF_SOCKET    the socket of the helper that loads eBPF programs;
                        /run/bpferry/bpf.sock
  BPFERRY_TAP_SOCKET    the socket of the helper that makes taps;
                        /run/bpferry/tap.sock
"""

RUN_DESCRIPTION: Final = """\
Start the VM that FILE describes, and stay until it ends.

A serial port of type 'stdio' is on standard output; messages of bpferry and
QEMU go to standard error. On a terminal, keys go to the guest, except Ctrl-C:
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
  bridge = "br0"        # the helper makes a tap there for you, if you may
  queues = 4            # or tap = "tap0", for one that is there and yours
  rss = true

examples:
  bpferry can-i --bridge br0        may you have a tap there?
  bpferry run --dry-run web.toml    say what would be started, and why
  bpferry run --require-ebpf web.toml
"""

CHECK_DESCRIPTION: Final = """\
Read FILE, and say what bpferry does not support, what would keep the VM from
starting here and now (missing files and programs, an image that another VM
has, a port that is taken), and what is not well designed: several queues on a
back end that has one, more queues than processors, RSS where this QEMU has no
eBPF or would cost vhost, and the like, each with its cause and what to do.
No VM is started; QEMU is only asked what it can do.

An error keeps the VM from starting; a warning says what it would lack. The exit
status is the one that `bpferry run FILE` would end with: 0 if the VM can start.
"""

CONVERT_DESCRIPTION: Final = """\
Print FILE in the other form: libvirt domain XML as native TOML, or back.
What is read, written and read again is the same VM. Paths become absolute.
"""

CAPABILITIES_DESCRIPTION: Final = """\
Ask a QEMU what it can do: its version, the eBPF objects that it carries,
and what its network cards support of RSS. QEMU itself is asked; its
version is not used to guess.
"""


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
    add_tap(commands)
    add_can_i(commands)
    return parser


def _add_run(commands: Commands) -> None:
    run = add_command(
        commands,
        "run",
        usage="bpferry run [--dry-run[=text|json]] [--require-ebpf]\n"
        "                   [--ignore-unsupported] [--secret NAME=FILE]\n"
        "                   [--secrets FILE] [--json] FILE",
        help="start a VM and stay until it ends",
        description=RUN_DESCRIPTION,
        epilog=RUN_EPILOG,
    )
    run.add_argument("file", metavar="FILE", help="the VM's description")
    run.add_argument(
        "--dry-run",
        choices=("text", "json"),
        metavar="text|json",
        help="print the command line and the reasons, and start nothing; needs no helper, no tap "
        "and no privilege; text by default",
    )
    run.add_argument(
        "--require-ebpf",
        action="store_true",
        help="fail unless the host's kernel steers every card",
    )
    run.add_argument(
        "--ignore-unsupported",
        action="store_true",
        help="leave out what is not supported, with a warning for each, instead of refusing",
    )
    _add_secrets(run)
    run.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object at the end; the guest's console goes to standard error",
    )


def _add_check(commands: Commands) -> None:
    check = add_command(
        commands,
        "check",
        help="say what is wrong with a VM's description",
        description=CHECK_DESCRIPTION,
    )
    check.add_argument("file", metavar="FILE", help="the VM's description, .xml or .toml")
    check.add_argument(
        "--libvirt-session",
        action="store_true",
        help="note too what libvirt's session mode (qemu:///session) would make of it",
    )
    check.add_argument(
        "--ignored",
        action="store_true",
        help="also list what a libvirt document says that bpferry ignores, with the reason for "
        "each; with --json it is there anyway",
    )
    _add_secrets(check)
    check.add_argument("--json", action="store_true", help="print one JSON object")


def _add_secrets(command: Parser) -> None:
    command.add_argument(
        "--secret",
        metavar="NAME=FILE",
        type=_named_file,
        action="append",
        default=[],
        help="the file that holds the password or key that the description calls NAME, a UUID or a "
        "usage; nobody else may be able to read it (mode 0600)",
    )
    command.add_argument(
        "--secrets",
        metavar="FILE",
        help="a file in TOML that says where such files are: [[secrets]] with name and file",
    )


def _named_file(text: str) -> tuple[str, str]:
    name, equals, file = text.partition("=")
    if not (name and equals and file):
        raise argparse.ArgumentTypeError(f"expected NAME=FILE, not '{text}'")
    return name, file


def _add_convert(commands: Commands) -> None:
    convert = add_command(
        commands,
        "convert",
        help="turn libvirt domain XML into native TOML, or back",
        description=CONVERT_DESCRIPTION,
    )
    convert.add_argument("file", metavar="FILE", help="the VM's description, .xml or .toml")
    convert.add_argument(
        "--to", choices=("xml", "toml"), help="the kind to print; the other one if not given"
    )
    convert.add_argument(
        "--ignore-unsupported",
        action="store_true",
        help="leave out what is not supported, with a warning for each",
    )
    convert.add_argument("--json", action="store_true", help="print one JSON object")


def _add_capabilities(commands: Commands) -> None:
    capabilities = add_command(
        commands,
        "capabilities",
        help="say what a QEMU can do",
        description=CAPABILITIES_DESCRIPTION,
    )
    capabilities.add_argument(
        "qemu",
        metavar="QEMU",
        nargs="?",
        help="path of the QEMU; default: the one in /usr/bin for this host's architecture",
    )
    capabilities.add_argument(
        "--refresh", action="store_true", help="ask QEMU again, even if the cache has its answers"
    )
    capabilities.add_argument(
        "--clear", action="store_true", help="empty the cache, and ask no QEMU"
    )
    capabilities.add_argument("--json", action="store_true", help="print one JSON object")
