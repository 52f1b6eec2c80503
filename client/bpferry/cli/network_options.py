# SPDX-License-Identifier: LGPL-2.1-or-later
"""The options of the commands about taps and about what is allowed, and their help."""

import argparse
import re
from typing import Final

from bpferry.cli.parser import Commands, Parser, add_command, number
from bpferry_wire import limits
from bpferry_wire.messages import Rate
from bpferry_wire.rates import parse_rate

TAP_DESCRIPTION: Final = """\
Make taps that stay, for launchers that cannot ask the helper themselves:
libvirt's session mode, or QEMU started by hand. You do not need them for
`bpferry run`, which makes its own taps and removes them when the VM ends.

The helper makes the tap on a bridge and gives it to you; the administrator's
policy says on which bridges you may have taps, and how many.
"""

CREATE_DESCRIPTION: Final = """\
Make a tap on BRIDGE that belongs to you and stays until it is deleted or the
host restarts, and print what to write into a libvirt domain document or on
QEMU's command line. A tap with several queues can only be opened with several
queues: give the VM's card as many.
"""

CREATE_EPILOG: Final = """\
examples:
  bpferry tap create br0 --queues 4
  bpferry tap create default --network
  bpferry can-i --bridge br0 --queues 4      would it be allowed?
"""

LIST_DESCRIPTION: Final = """\
List your taps: those that stay, and those of running VMs.
"""

DELETE_DESCRIPTION: Final = """\
Delete a tap that 'bpferry tap create' made and that no VM has open.
The tap of a `bpferry run` goes away with its VM.
"""

CAN_I_DESCRIPTION: Final = """\
Ask the helpers what they would do for you, and which line of the
administrator's policy says so. Nothing is made. There is one line for each
question, with 'unknown' if no helper answered. Without options, everything on
this host is asked about: its bridges, the network 'default', eBPF and vhost.

The exit status is 0 if everything is allowed, 4 if something is not or you are
not in the group that may ask, 1 if the bridge does not exist, and 5 if a helper
does not answer. Without options it is 0 if the helpers answered.
"""

CAN_I_EPILOG: Final = """\
examples:
  bpferry can-i --bridge br0 --queues 4 --ebpf --vhost
  bpferry can-i --network default
  bpferry can-i
"""

VARLINK_DESCRIPTION: Final = """\
Answer varlink calls over the socket that the caller has started this with, by
asking the helpers: taps with their queues, and loaded eBPF objects, as file
descriptors that come with the reply. It runs as you, and may do what you may.

The command bpferry-varlink is the same; varlinkctl and systemd's libraries
start it for an address that begins with 'exec:'. A varlinkctl that can use file
descriptors is that of systemd 258 or newer.
"""

VARLINK_EPILOG: Final = """\
examples:
  varlinkctl introspect exec:/usr/local/bin/bpferry-varlink
  varlinkctl call exec:/usr/local/bin/bpferry-varlink io.bpferry.Tap.Can \\
      '{"bridge": "br0", "queues": 4}'
  bpferry varlink          over the socket that is its standard input
"""

INTERFACE: Final = ("an interface", limits.MAX_INTERFACE_BYTES)

MAC: Final = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")


def add_tap(commands: Commands) -> None:
    """Add ``tap`` and what it can do."""
    tap = add_command(
        commands,
        "tap",
        help="make taps that stay, for other launchers",
        description=TAP_DESCRIPTION,
        epilog="example:\n  bpferry tap create br0 --queues 4\n",
    )
    actions = tap.add_subparsers(
        dest="action", metavar="COMMAND", required=True, title="commands", parser_class=Parser
    )
    _add_create(actions)
    listing = add_command(
        actions,
        "list",
        help="list your taps",
        description=LIST_DESCRIPTION,
        epilog="example:\n  bpferry tap list --json\n",
    )
    delete = add_command(
        actions,
        "delete",
        help="delete a tap that stays",
        description=DELETE_DESCRIPTION,
        epilog="example:\n  bpferry tap delete bfp1a2b3c4d5e6f\n",
    )
    delete.add_argument(
        "name", metavar="NAME", type=interface, help="the tap, such as bfp1a2b3c4d5e6f"
    )
    for command in (listing, delete):
        command.add_argument("--json", action="store_true", help="print one JSON object")


def _add_create(actions: Commands) -> None:
    create = add_command(
        actions,
        "create",
        usage="bpferry tap create [--network] [--queues N] [--mtu BYTES]\n"
        "                          [--mac ADDRESS] [--isolated] [--vlan N]\n"
        "                          [--inbound RATE] [--outbound RATE] [--json] BRIDGE",
        help="make a tap that stays",
        description=CREATE_DESCRIPTION,
        epilog=CREATE_EPILOG,
    )
    create.add_argument("source", metavar="BRIDGE", help="a bridge of the host")
    create.add_argument(
        "--network",
        action="store_true",
        help="BRIDGE is the name of a network, which the policy maps to a bridge",
    )
    add_queues(create)
    _add_mtu(create)
    create.add_argument(
        "--mac",
        metavar="ADDRESS",
        type=mac,
        help="the card's MAC address, such as 52:54:00:12:34:56; needed if the policy has "
        "address-lock for the bridge",
    )
    create.add_argument(
        "--isolated",
        action="store_true",
        help="no traffic with other isolated ports of the bridge",
    )
    create.add_argument(
        "--vlan",
        metavar="N",
        type=_vlan,
        help="put the tap into this VLAN of the bridge, untagged, 1 to 4094; the policy has to "
        "allow it (default: as the policy says)",
    )
    for option, way in (("--inbound", "to the VM"), ("--outbound", "from the VM")):
        create.add_argument(
            option,
            metavar="RATE",
            type=_rate,
            help=f"limit the traffic {way} to this rate, such as '100 Mbit/s' or '12 MB/s' "
            "(default: the policy's limit)",
        )
    create.add_argument("--json", action="store_true", help="print one JSON object")


def add_varlink(commands: Commands) -> None:
    """Add ``varlink``."""
    add_command(
        commands,
        "varlink",
        help="answer calls of systemd's varlinkctl and of other varlink clients",
        description=VARLINK_DESCRIPTION,
        epilog=VARLINK_EPILOG,
    )


def add_can_i(commands: Commands) -> None:
    """Add ``can-i``."""
    can_i = add_command(
        commands,
        "can-i",
        usage="bpferry can-i [--bridge NAME | --network NAME] [--queues N]\n"
        "                     [--mtu BYTES] [--mac ADDRESS] [--ebpf] [--vhost] [--json]",
        help="say what the helpers would do for you",
        description=CAN_I_DESCRIPTION,
        epilog=CAN_I_EPILOG,
    )
    add_source(can_i, "ask for")
    add_queues(can_i)
    _add_mtu(can_i)
    can_i.add_argument(
        "--mac",
        metavar="ADDRESS",
        type=mac,
        help="ask for a tap for the card with this MAC address",
    )
    can_i.add_argument(
        "--ebpf",
        action="store_true",
        help="ask for the eBPF program in this host's default QEMU",
    )
    can_i.add_argument(
        "--vhost",
        action="store_true",
        help="ask for the kernel's vhost-net (needs no helper)",
    )
    can_i.add_argument("--json", action="store_true", help="print one JSON object")


def add_source(command: Parser, verb: str) -> None:
    """Add ``--bridge`` and ``--network``, where *verb* says what is done about a tap there."""
    source = command.add_mutually_exclusive_group()
    source.add_argument(
        "--bridge", metavar="NAME", type=interface, help=f"{verb} a tap on this bridge"
    )
    source.add_argument(
        "--network",
        metavar="NAME",
        type=network,
        help=f"{verb} a tap on this network, which the policy maps to a bridge",
    )


def add_queues(command: Parser) -> None:
    """Add ``--queues``."""
    command.add_argument(
        "--queues",
        metavar="N",
        type=queues,
        help=f"queues of the tap, 1 to {limits.MAX_QUEUES} (default: 1)",
    )


def _add_mtu(command: Parser) -> None:
    command.add_argument(
        "--mtu",
        metavar="BYTES",
        type=mtu,
        help="the MTU that the guest needs (default: any); a bridge with a smaller one is refused, "
        "since the tap has the bridge's MTU",
    )


def queues(text: str) -> int:
    """Return a number of queues."""
    return number(text, 1, limits.MAX_QUEUES)


def mtu(text: str) -> int:
    """Return the MTU that *text* is."""
    return number(text, limits.MIN_MTU, limits.MAX_MTU)


def _vlan(text: str) -> int:
    return number(text, limits.MIN_VLAN, limits.MAX_VLAN)


def _rate(text: str) -> Rate:
    try:
        return Rate(parse_rate(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' {error}") from error


def mac(text: str) -> bytes:
    """Return the six bytes of a MAC address."""
    octets = bytes.fromhex(text.replace(":", "")) if MAC.fullmatch(text) else b""
    if not octets or octets[0] & 1 or not any(octets):
        raise argparse.ArgumentTypeError(f"'{text}' is not the MAC address of a card")
    return octets


def interface(text: str) -> str:
    """Return the name of an interface."""
    return _checked(text, is_network=False)


def network(text: str) -> str:
    """Return the name of a network of the policy."""
    return _checked(text, is_network=True)


def _checked(text: str, *, is_network: bool) -> str:
    problem = find_name_problem(text, is_network=is_network)
    if problem:
        raise argparse.ArgumentTypeError(problem)
    return text


def find_name_problem(text: str, *, is_network: bool) -> str:
    """Return why *text* cannot be the name of an interface or a network; empty if it can."""
    kind, room = ("a network", limits.MAX_NETWORK_BYTES) if is_network else INTERFACE
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        # Bytes that are not UTF-8 become surrogates (PEP 383), and the wire carries only text.
        length = 0
    return (
        ""
        if 0 < length <= room
        else f"{text!r} is not a name of {kind}: 1 to {room} bytes of UTF-8"
    )
