# SPDX-License-Identifier: LGPL-2.1-or-later
"""The commands, their options, their help."""

from collections.abc import Callable
from typing import Final

from bpferry.cli.console_options import add_console
from bpferry.cli.create_options import add_create
from bpferry.cli.exec_options import add_exec
from bpferry.cli.fds_options import add_fds
from bpferry.cli.given_options import add_given
from bpferry.cli.hot_plug_options import add_hot_plug
from bpferry.cli.migrate_options import add_migrate, add_receive
from bpferry.cli.network_options import add_can_i, add_tap, add_varlink
from bpferry.cli.parser import Commands, Formatter, Parser, add_command, commands_of
from bpferry.cli.reach_options import add_reach
from bpferry.cli.run_options import add_check, add_run, add_secrets
from bpferry.cli.running_options import add_running
from bpferry.cli.service_options import add_service
from bpferry.cli.steering_options import add_metrics, add_steering
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
    commands = commands_of(parser)
    for add in ADDED:
        add(commands)
    return parser


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
    add_secrets(doctor)
    doctor.add_argument("--json", action="store_true", help="print one JSON object")


ADDED: Final[tuple[Callable[[Commands], None], ...]] = (
    add_create,
    add_run,
    add_check,
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
