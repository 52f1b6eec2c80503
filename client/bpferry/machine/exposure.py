# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the network can reach of a VM without a password: displays, consoles, forwarded ports.

A user's own host usually has no firewall against its own network. An address that the document
names for a forwarded port is the user's wish, and nothing is said of it.
"""

import ipaddress
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from bpferry.commandline.addresses import is_reachable
from bpferry.commandline.build import Built
from bpferry.commandline.parts import Endpoint
from bpferry.domain.forms import either
from bpferry.domain.model.machine import Machine
from bpferry.domain.names import cards_of, listed
from bpferry.machine.faults import Fault

LOCAL: Final = "127.0.0.1"

DISPLAY_NAMES: Final = {"vnc": "VNC", "spice": "SPICE"}


class Door(Struct, frozen=True):
    """How something is told that the network can reach."""

    key: str
    name: str
    gives: str
    """What anybody can do who comes in."""
    fix: str
    lacks: str = ", without a password"


def find_open_doors(machine: Machine, built: Built) -> Iterator[Fault]:
    """Yield what listens beyond this host, and is protected by nothing; each key once."""
    told: set[str] = set()
    for endpoint in built.of(Endpoint):
        door = _door(endpoint, machine) if endpoint.kind in ("tcp", "udp") else None
        if door is not None and door.key not in told and is_reachable(endpoint.host):
            told.add(door.key)
            yield Fault(
                door.key,
                "warning",
                f"{door.name} listens on {_where(endpoint.host)}{door.lacks}",
                f"anybody on the network can {door.gives}",
                door.fix,
            )


def _where(host: str) -> str:
    if host and not ipaddress.ip_address(host).is_unspecified:
        return f"'{host}'"
    return f"all addresses of this host ({host})" if host else "all addresses of this host"


def _door(endpoint: Endpoint, machine: Machine) -> Door | None:
    """Return how *endpoint* is told; None where a password or the user's own wish protects it."""
    family = endpoint.key.partition("[")[0]
    if family == "graphics":
        return _display(endpoint, machine)
    if family != "cards":
        return _console(endpoint)
    if ".port-forwards" in endpoint.key:
        return None if endpoint.host else _forward(endpoint)
    return _card(endpoint, machine)


def _display(endpoint: Endpoint, machine: Machine) -> Door | None:
    graphics = next(
        one.value for one in listed(machine.graphics, "graphics") if one.key == endpoint.key
    )
    if graphics.password is not None:
        return None
    here = either(f'address = "{LOCAL}"', f"listen='{LOCAL}'")
    field = "address"
    if graphics.listens:
        here = either(
            f'listens = [{{type = "address", address = "{LOCAL}"}}]',
            f"<listen type='address' address='{LOCAL}'/>",
        )
        field = "listens[0].address"
    password = either('password = "..."', "passwd='...'")
    return Door(
        f"{endpoint.key}.{field}",
        DISPLAY_NAMES[graphics.type],
        "see and use the guest's screen",
        f"write {here} to be reached from this host only, also through ssh -L; or set {password}",
    )


def _console(endpoint: Endpoint) -> Door:
    local = either(f'host = "{LOCAL}" in its source', f"<source mode='bind' host='{LOCAL}' ...>")
    fix = f"write {local} to be reached from this host only"
    return Door(endpoint.key, f"'{endpoint.name}'", "read what it says and write to it", fix)


def _forward(endpoint: Endpoint) -> Door:
    here = either(f'address = "{LOCAL}"', f"<portForward address='{LOCAL}' ...>")
    everywhere = either('address = "0.0.0.0"', "address='0.0.0.0'")
    return Door(
        endpoint.key,
        f"the forwarded port {endpoint.port}",
        f"reach {endpoint.name.partition(', ')[2]}",
        f"write {here} to be reached from this host only, or {everywhere} if all may",
        "",
    )


def _card(endpoint: Endpoint, machine: Machine) -> Door:
    card = next(one.value for one in cards_of(machine) if one.key == endpoint.key)
    here = either(f'host = "{LOCAL}"', f"<source address='{LOCAL}' ...>")
    if card.type == "udp":
        here = either(f'local-host = "{LOCAL}"', f"<local address='{LOCAL}' ...>")
    return Door(
        endpoint.key,
        f"the card '{endpoint.name}'",
        "send frames to the guest",
        f"write {here} to be reached from this host only",
        "",
    )
