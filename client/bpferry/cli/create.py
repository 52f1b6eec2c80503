# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry create: a new VM from an image, and what to do next."""

import argparse
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from bpferry.cli import output
from bpferry.machine.creation.build import create_vm
from bpferry.machine.creation.description import written
from bpferry.machine.creation.wish import (
    USUAL_MEMORY,
    USUAL_VCPUS,
    Connection,
    NewVm,
    Wish,
)


def create(options: argparse.Namespace) -> int:
    """Make the VM that *options* ask for, and say what to do next.

    Raises:
        BpferryError: it cannot be made; nothing of it is left then.
    """
    vm = create_vm(_wish(options))
    for note in _notes(vm):
        output.say(note)
    if options.json:
        output.print_json(_fields(vm))
    else:
        output.print_text("\n".join(_lines(vm)))
    return 0


def _wish(options: argparse.Namespace) -> Wish:
    return Wish(
        name=options.name,
        image=options.image,
        image_format=options.image_format,
        bridge=options.bridge,
        network=options.network,
        queues=options.queues,
        mac=options.mac,
        memory=options.memory or USUAL_MEMORY,
        vcpus=options.vcpus or USUAL_VCPUS,
        disk_size=options.disk_size,
        firmware=options.firmware,
        user=options.user,
        ssh_keys=tuple(options.ssh_key),
    )


def _notes(vm: NewVm) -> Iterator[str]:
    if vm.image.note:
        yield f"note: {vm.image.note}"
    for note in vm.card.notes:
        yield f"note: {note}"


def _lines(vm: NewVm) -> Iterator[str]:
    vcpus = output.count(vm.vcpus, "vCPU")
    yield f"made the VM '{vm.name}' with {vcpus} and {written(vm.memory)} of memory:"
    yield f"  description  {_short(vm.description)}"
    yield f"  disk         {_short(vm.disk)}, {written(vm.disk_size)}"
    yield f"    on top of  {_short(Path(vm.image.path))}, which has to stay as it is"
    yield f"  seed         {_short(vm.seed)}"
    yield f"  card         {_card(vm.card)}"
    yield f"  user         {vm.login.user}, password for the console: {vm.login.password}"
    yield ""
    yield "next:"
    width = max(len(command) for command, _ in _next(vm)[:-1])
    for command, what in _next(vm):
        yield f"  {command:<{width}}    # {what}"


def _card(card: Connection) -> str:
    if card.kind == "user":
        return f"user networking, MAC {card.mac}"
    return f"{card.kind} '{card.source}', {output.count(card.queues, 'queue')}, MAC {card.mac}"


def _next(vm: NewVm) -> list[tuple[str, str]]:
    """Return commands to run now, each with what it does."""
    return [
        (f"bpferry check {vm.name}", "can it start?"),
        (f"bpferry run {vm.name}", "start it in this terminal"),
        (f"bpferry start {vm.name}", "or start it under your systemd"),
        (f"bpferry console {vm.name}", "log in, once it has booted"),
        *_ssh(vm),
        (f"rm -r {_short(vm.description)} {_short(vm.folder)}", "remove it for good"),
    ]


def _short(path: Path) -> str:
    """Return *path* as one would type it in a shell."""
    home = os.path.expanduser("~")  # noqa: PTH111 - Path.home() raises where there is no home
    quoted = shlex.quote(str(path))
    is_below = len(home) > 1 and str(path).startswith(f"{home}/")
    return f"~{quoted.removeprefix(home)}" if is_below and quoted == str(path) else quoted


def _ssh(vm: NewVm) -> list[tuple[str, str]]:
    if not vm.login.keys:
        return []
    return [(f"bpferry ssh --user {vm.login.user} {vm.name}", "the same by ssh")]


def _fields(vm: NewVm) -> dict[str, object]:
    card = vm.card
    return {
        "name": vm.name,
        "description": str(vm.description),
        "disk": {"path": str(vm.disk), "format": "qcow2", "size": vm.disk_size},
        "image": {"path": vm.image.path, "format": vm.image.format, "size": vm.image.size},
        "seed": str(vm.seed),
        "memory": vm.memory,
        "vcpus": vm.vcpus,
        "card": {
            "type": card.kind,
            "source": card.source or None,
            "queues": card.queues,
            "mac": card.mac,
            "ssh_port": card.ssh_port,
        },
        "user": vm.login.user,
        "password": vm.login.password,
        "next": [command for command, _ in _next(vm)],
    }
