# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry status: all about one VM that runs, and how to reach it."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Final

from bpferry.cli import output
from bpferry.cli.table import in_memory_units, in_time_units, number
from bpferry.errors import harmless
from bpferry.machine.control.packets import records, texts
from bpferry.machine.control.running import connect
from bpferry.machine.guest_addresses import Address, Found, find_addresses, ways_to_ssh
from bpferry.machine.in_force import describe

AGENT_SECONDS: Final = 0.5
"""For the guest's agent, which answers in some milliseconds if there is one: a status is not about
addresses alone. ``bpferry ip`` waits longer."""

PLUGGED: Final = "; plugged in, until the VM ends"

Values = Mapping[str, object]


def status(vm_name: str, *, as_json: bool) -> int:
    """Print all about one VM.

    Raises:
        NotRunning: there is no such VM.
    """
    with connect(vm_name) as control:
        told = control.ask("status")
    found = find_addresses(told, seconds=AGENT_SECONDS)
    if as_json:
        output.print_json({**told, "addresses": [asdict(one) for one in found.addresses]})
    else:
        output.print_text(harmless("\n".join(_lines(told, found))))
    return 0


def _lines(told: Values, found: Found) -> Iterator[str]:
    uptime = in_time_units(number(told, "uptime_s"))
    yield f"{told['name']}: {told['state']}, for {uptime}"
    yield f"  file      {told['file']}"
    memory = in_memory_units(number(told, "memory"))
    yield f"  size      {output.count(number(told, 'vcpus'), 'vCPU')}, {memory}"
    yield f"  pid       {told['pid']} (QEMU: {told['qemu_pid']})"
    for limit in records(told, "limits"):
        yield f"  limit     {describe(limit)}"
    for card in records(told, "cards"):
        yield from _card_lines(card)
        yield from _address_lines([one for one in found.addresses if one.card == card["id"]])
    for disk in records(told, "disks"):
        plugged = PLUGGED if disk.get("plugged") else ""
        yield f"  {disk['target']:<9} {disk['device']}: {disk.get('file', 'no file')}{plugged}"
    endpoints = records(told, "endpoints")
    # Some have long names, such as that of a forwarded port.
    width = max((len(str(one["name"])) for one in endpoints), default=0)
    for endpoint in endpoints:
        yield f"  {endpoint['name']:<{max(width, 9)}} {_where(endpoint)}"
    yield from _ways(told, found)
    for warning in texts(told, "warnings"):
        yield f"  warning   {warning}"


def _card_lines(card: Values) -> Iterator[str]:
    place = f"tap '{card['tap']}'" if "tap" in card else str(card["type"])
    if "bridge" in card:
        place += f" on bridge '{card['bridge']}'"
    queues = output.count(number(card, "queues"), "queue")
    vhost = ", vhost" if card.get("vhost") else ""
    link = ", link down" if card.get("link") == "down" else ""
    plugged = PLUGGED if card.get("plugged") else ""
    yield f"  {card['id']:<9} {card['mac']}, {place}, {queues}{vhost}{link}{plugged}"
    yield f"            planned: {card['steering']} ({card['because']})"
    seen = str(card.get("seen", "")).partition(": ")[2]
    if seen:
        yield f"            seen:    {seen}"


def _address_lines(addresses: Sequence[Address]) -> Iterator[str]:
    """Yield the guest's addresses at one card, by who told of them."""
    for source in dict.fromkeys(one.source for one in addresses):
        told = [one for one in addresses if one.source == source]
        inside = "" if told[0].reachable else "; inside user networking"
        yield f"            guest:   {', '.join(one.address for one in told)} ({source}{inside})"


def _ways(told: Values, found: Found) -> Iterator[str]:
    """Yield the commands that reach the guest."""
    name = shlex.quote(str(told["name"]))
    for port in texts(told, "consoles"):
        which = f"--serial {port} " if len(texts(told, "consoles")) > 1 else ""
        yield f"  console   bpferry console {which}{name}"
    for way in ways_to_ssh(told, found):
        yield f"  ssh       bpferry ssh {name}, by {way.what}"
        break


def _where(endpoint: Values) -> str:
    if "path" in endpoint:
        return str(endpoint["path"])
    parts = (endpoint.get("host", "*"), endpoint.get("port", "?"))
    return ":".join(map(str, parts)) + f" ({endpoint.get('protocol', endpoint['kind'])})"
