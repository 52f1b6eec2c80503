# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry tap: taps that stay, for other launchers."""

from typing import Final

from bpferry.cli import output
from bpferry.cli.network_options import find_name_problem
from bpferry.cli.slow_helpers import tell_of_slow_helpers
from bpferry.cli.table import format_table
from bpferry.errors import BadInput
from bpferry.network.tap_helper import TapHelper
from bpferry.network.tap_users import User, find_users
from bpferry_wire.messages import Bandwidth, OwnTap, Rate, Tap, TapReply
from bpferry_wire.rates import limits_in_words

HEADINGS: Final = ("TAP", "BRIDGE", "QUEUES", "OPENED BY", "KIND")

CLOSED: Final = "closed: policy no longer allows it; delete it"

MADE: Final = """\
made the tap '{name}' on bridge '{bridge}' for you: {queues}, MTU {mtu}

in a libvirt domain (qemu:///session):
    <interface type='ethernet'>
      <target dev='{name}' managed='no'/>
      <mac address='{mac}'/>
      <model type='virtio'/>
      <driver queues='{count}'/>
    </interface>

with QEMU by hand:
    -netdev tap,id=net0,ifname={name},script=no,downscript=no{queues_option}
    -device virtio-net-pci,netdev=net0,mac={mac}{mtu_option}{multi_option}

as it is now:   ip -details link show dev {name}
to delete it:   bpferry tap delete {name}"""
"""What to do with a tap, to be pasted. The indents are those of the documents."""


def create(
    source: str,
    *,
    is_network: bool,
    queues: int,
    mtu: int | None,
    mac: bytes | None,
    isolated: bool,
    vlan: int | None,
    inbound: Rate | None,
    outbound: Rate | None,
    as_json: bool,
) -> int:
    """Make a tap that stays, and print what to do with it.

    Raises:
        BpferryError: the helper is not there, says no, or failed.
    """
    problem = find_name_problem(source, is_network=is_network)
    if problem:
        raise BadInput(f"wrong usage: {problem}", "see: bpferry tap create --help")
    request = Tap(
        source,
        is_network=is_network,
        queues=queues,
        mtu=mtu,
        mac=mac,
        isolated=isolated,
        vlan=vlan,
        bandwidth=Bandwidth(inbound, outbound),
    )
    tell_of_slow_helpers()
    with TapHelper() as helper:
        made = helper.create(request)
    if as_json:
        output.print_json({**made._asdict(), "queues": queues})
    else:
        output.print_text(_made_text(made, request))
    return 0


def _made_text(made: TapReply, request: Tap) -> str:
    several = request.queues > 1
    text = MADE.format(
        name=made.interface,
        bridge=made.bridge,
        mtu=made.mtu,
        queues=output.count(request.queues, "queue"),
        count=request.queues,
        mac=request.mac.hex(":") if request.mac else "",
        mtu_option=f",host_mtu={request.mtu}" if request.mtu else "",
        queues_option=f",queues={request.queues}" if several else "",
        multi_option=f",mq=on,vectors={2 * request.queues + 2}" if several else "",
    )
    if request.mac:
        return text
    # No address was given: as usual, the launcher of the VM chooses it.
    lines = [line for line in text.splitlines() if "<mac " not in line]
    return "\n".join(lines).replace(",mac=", "")


def list_own(*, as_json: bool) -> int:
    """Print the caller's taps.

    Raises:
        BpferryError: the helper is not there, or failed.
    """
    tell_of_slow_helpers()
    with TapHelper() as helper:
        taps = helper.list()
    users = find_users() if taps else {}
    if as_json:
        output.print_json({"taps": [_as_json(tap, users.get(tap.interface, ())) for tap in taps]})
    else:
        output.print_text(_list_text(taps, users))
    return 0


def _as_json(tap: OwnTap, users: tuple[User, ...]) -> dict[str, object]:
    return {**tap._asdict(), "opened_by": [user._asdict() for user in users]}


def _list_text(taps: tuple[OwnTap, ...], users: dict[str, tuple[User, ...]]) -> str:
    if not taps:
        return "you have no taps"
    return format_table(HEADINGS, [_row(tap, users.get(tap.interface, ())) for tap in taps])


def _row(tap: OwnTap, users: tuple[User, ...]) -> tuple[str, ...]:
    kind = "stays until it is deleted" if tap.stays else "goes with its VM"
    kind = ", ".join(filter(None, (kind, limits_in_words(tap.inbound, tap.outbound))))
    queues = f"{tap.queues} of {tap.made_with}" if tap.made_with else str(tap.queues)
    whose = ", ".join(f"{user.name} (pid {user.pid})" for user in users)
    # Processes of other users, and in other containers, cannot be seen from here.
    opened_by = whose or ("others" if tap.queues else "nobody")
    return (tap.interface, tap.bridge or "none", queues, opened_by, CLOSED if tap.closed else kind)


def delete(name: str, *, as_json: bool) -> int:
    """Delete the caller's tap *name*.

    Raises:
        BpferryError: the helper is not there, says no, or failed.
    """
    tell_of_slow_helpers()
    with TapHelper() as helper:
        helper.delete(name)
    if as_json:
        output.print_json({"deleted": name})
    else:
        output.print_text(f"deleted the tap '{name}'")
    return 0
