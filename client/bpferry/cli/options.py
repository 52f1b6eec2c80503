# SPDX-License-Identifier: LGPL-2.1-or-later
"""The commands, their options, their help."""

import argparse
from collections.abc import Callable, Mapping
from typing import Final

from bpferry.cli.console_options import add_console, add_escape_key
from bpferry.cli.create_options import add_create
from bpferry.cli.exec_options import add_exec
from bpferry.cli.fds_options import add_fds
from bpferry.cli.given_options import add_given
from bpferry.cli.hot_plug_options import add_hot_plug
from bpferry.cli.migrate_options import add_migrate, add_receive
from bpferry.cli.network_options import add_can_i, add_tap, add_varlink, number
from bpferry.cli.parser import Commands, Formatter, Parser, add_command, commands_of
from bpferry.cli.reach_options import add_reach
from bpferry.cli.running_options import add_running
from bpferry.cli.service_options import add_service
from bpferry.cli.steering_options import add_metrics, add_steering
from bpferry.domain.stop_time import MAX_STOP_SECONDS
from bpferry_wire import VERSION

DESCRIPTION: Final = """\
Start QEMU VMs as an ordinary user, with fast networking on the host's bridges.

A privileged helper makes a tap with several queues for each card on a bridge,
and the card offers receive-side scaling (RSS) to its guest. If QEMU carries an
eBPF program for RSS and the other helper loads it, the host's kernel spreads
the packets over the queues; otherwise QEMU does, and bpferry says so.
"""

EPILOG: Final = """\
exit status:
  0    done
  1    failed, or something is missing or in use on this host
  2    the command line or the description is wrong, or cannot be read
  3    the description asks for something that is not supported here
  4    not allowed by the helper's policy, or not in the group that may ask it
  5    the helper is not installed or does not answer
  Once the VM runs, `run` ends with QEMU's status, or with 128 + n if signal n
  ended QEMU.

environment:
  BPFERRY_BPF_SOCKET    path of the socket of the helper that loads eBPF
                        programs (default: /run/bpferry/bpf.sock)
  BPFERRY_TAP_SOCKET    path of the socket of the helper that makes taps
                        (default: /run/bpferry/tap.sock)
  BPFERRY_ESCAPE_KEY    the key that leaves a console, such as ^A, or none
                        (default: ^], which is Ctrl-])
  NO_COLOR              if it is set, there are no colours on a terminal
"""

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
  bpferry run --dry-run web.toml         show what would be started, and why
  bpferry run --require-ebpf web.toml    start only if eBPF steers every card
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

CONVERT_DESCRIPTION: Final = """\
Print FILE in the other form: libvirt domain XML as native TOML, or back.
Both describe the same VM. Relative paths become absolute.
"""

CAPABILITIES_DESCRIPTION: Final = """\
Show what a QEMU can do: its accelerators, machine types and devices, the eBPF
programs that it carries, and which RSS options its network cards have. QEMU
itself is asked; nothing is guessed from its version.
"""

DOCTOR_DESCRIPTION: Final = """\
Say whether this host is ready: kernel, bridges, helpers, what the policy lets
you do, QEMU, KVM, vhost, firmware, your session, and security modules. Each
finding is ok, a warning or a fault; a warning and a fault say for what they
matter, and what mends them. Nothing is changed.

With FILE, the VM that it describes is checked too, as 'bpferry check' does it,
and only what that VM needs, or --deep, can be a fault. Without FILE, that is
what any VM needs, taps on bridges, and RSS by eBPF: without KVM or vhost, VMs
are slower.

The exit status is 1 if there is a fault, 2 if FILE cannot be read, otherwise 0.
"""

DOCTOR_EPILOG: Final = """\
examples:
  bpferry doctor
  bpferry doctor web.toml
  bpferry doctor --deep --json
"""

CAPABILITIES_EPILOG: Final = """\
examples:
  bpferry capabilities
  bpferry capabilities --json /usr/bin/qemu-system-aarch64
"""


def build_parser(command: str = "") -> Parser:
    """Return the parser of the whole command line.

    If *command* is one of the commands, those that are added apart from it are left out: to make
    all of them takes longer than to read the command line.
    """
    parser = Parser(
        prog="bpferry",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"bpferry {VERSION}")
    commands = commands_of(parser)
    own = OFTEN.get(command)
    for add in ADDED if own is None else (own,):
        add(commands)
    return parser


def _add_run(commands: Commands) -> None:
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
    _add_secrets(run)
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


def _add_check(commands: Commands) -> None:
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
    _add_secrets(check)
    check.add_argument("--json", action="store_true", help="print one JSON object")


def _add_secrets(command: Parser) -> None:
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


def _add_convert(commands: Commands) -> None:
    convert = add_command(
        commands,
        "convert",
        help="turn libvirt domain XML into native TOML, or back",
        description=CONVERT_DESCRIPTION,
        epilog="example:\n  bpferry convert web.xml > web.toml\n",
    )
    convert.add_argument("file", metavar="FILE", help="the VM's description, .xml or .toml")
    convert.add_argument(
        "--to", choices=("xml", "toml"), help="the form to print (default: the other one)"
    )
    convert.add_argument(
        "--ignore-unsupported",
        action="store_true",
        help="leave out what is not supported, with a warning for each",
    )
    add_given(convert)
    convert.add_argument("--json", action="store_true", help="print one JSON object")


def _add_capabilities(commands: Commands) -> None:
    capabilities = add_command(
        commands,
        "capabilities",
        help="show what a QEMU can do",
        description=CAPABILITIES_DESCRIPTION,
        epilog=CAPABILITIES_EPILOG,
    )
    capabilities.add_argument(
        "qemu",
        metavar="QEMU",
        nargs="?",
        help="path of the QEMU (default: the one in /usr/bin for this host's architecture)",
    )
    capabilities.add_argument(
        "--refresh", action="store_true", help="ask QEMU again instead of using cached answers"
    )
    capabilities.add_argument("--clear", action="store_true", help="only empty the cache")
    capabilities.add_argument("--json", action="store_true", help="print one JSON object")


def _add_doctor(commands: Commands) -> None:
    doctor = add_command(
        commands,
        "doctor",
        help="say whether this host is ready, and what mends it",
        description=DOCTOR_DESCRIPTION,
        epilog=DOCTOR_EPILOG,
    )
    doctor.add_argument("file", metavar="FILE", nargs="?", help="a VM's description")
    doctor.add_argument(
        "--deep",
        action="store_true",
        help="also load the eBPF program through the helper, and run it in the kernel on packets "
        "whose queues are known; the helper counts that as one load of yours",
    )
    add_given(doctor)
    _add_secrets(doctor)
    doctor.add_argument("--json", action="store_true", help="print one JSON object")


ADDED: Final[tuple[Callable[[Commands], None], ...]] = (
    add_create,
    _add_run,
    _add_check,
    _add_convert,
    _add_capabilities,
    add_running,
    add_migrate,
    add_reach,
    add_hot_plug,
    add_service,
    add_console,
    add_steering,
    add_metrics,
    add_tap,
    add_exec,
    add_fds,
    add_can_i,
    add_varlink,
    _add_doctor,
    add_receive,
)
"""What adds the commands, in the order of the help."""

OFTEN: Final[Mapping[str, Callable[[Commands], None]]] = {
    "run": _add_run,
    "check": _add_check,
    "list": add_running,
    "status": add_running,
}
"""What adds a command that is to be fast."""
