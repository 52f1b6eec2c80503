# SPDX-License-Identifier: LGPL-2.1-or-later
"""The description of a new VM: TOML with a comment where a reader would ask."""

from collections.abc import Iterator
from typing import Final

import tomli_w

from bpferry.domain.sizes import split_size
from bpferry.machine.creation.wish import Connection, NewVm

HEAD: Final = """\
# Made by `bpferry create`; change what you like. The keys are in bpferry.toml(5).
# `bpferry check` says whether something in it is wrong.
"""


def build_description(vm: NewVm) -> str:
    """Return the description of *vm*."""
    return HEAD + "\n".join(_blocks(vm))


def _blocks(vm: NewVm) -> Iterator[str]:
    top: dict[str, object] = {
        "name": vm.name,
        "memory": written(vm.memory),
        "vcpus": vm.vcpus,
    }
    if vm.firmware:
        top["firmware"] = vm.firmware
    yield _lines(top)
    yield "# The guest's console.\n[[serials]]\n" + _lines({"type": "stdio"})
    yield (
        f"# Only what differs from '{vm.image.path}', which has to stay as it is.\n[[disks]]\n"
        + _lines({"file": str(vm.disk), "format": "qcow2"})
    )
    yield (
        "# What cloud-init reads at the first boot: the user, the keys, the network. It may go\n"
        "# after that.\n[[disks]]\n"
        + _lines({"file": str(vm.seed), "format": "raw", "read-only": True})
    )
    yield (
        "# By which `bpferry ip` and `ssh` ask for the guest's addresses, if the guest has the\n"
        "# package qemu-guest-agent. `bpferry create` installs nothing in the guest.\n"
        "[[channels]]\n" + _lines({"type": "unix", "name": "org.qemu.guest_agent.0"})
    )
    yield from _card(vm.card)


def _card(card: Connection) -> Iterator[str]:
    table: dict[str, object] = (
        {"type": "user"} if card.kind == "user" else {card.kind: card.source, "queues": card.queues}
    )
    yield (
        _lines({**table, "mac": card.mac}, head="[[cards]]\n").rstrip("\n")
        + "    # cloud-init knows the card by this address\n"
    )
    if card.ssh_port is not None:
        yield (
            "# ssh to this port of the host leads to the guest.\n[[cards.port-forwards]]\n"
            + _lines({"protocol": "tcp", "address": "127.0.0.1"})
            + "\n[[cards.port-forwards.ranges]]\n"
            + _lines({"start": card.ssh_port, "to": 22})
        )


def _lines(table: dict[str, object], head: str = "") -> str:
    return head + tomli_w.dumps(table)


def written(amount: int) -> str:
    """Return *amount* bytes as text with a unit."""
    return "{} {}".format(*split_size(amount))
