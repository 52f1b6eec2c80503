# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line of a VM, as a pure function.

It opens nothing and asks nothing. Each fd that QEMU is to inherit has a name here, such as
``net0.tap0``. The function takes the text that is to stand for each name: the name itself gives
the command line of a dry run, the fd's number gives the one that is started.

Values that a description chose go into JSON, or stand alone as an argument; none is ever put
into one of QEMU's own comma-separated lists, where a comma could begin another option. The VM's
name, which has to stand in one, consists of harmless characters (``domain.toml``).
"""

import json
from collections.abc import Mapping
from typing import Final

from bpferry.domain.model import Accelerator, Card, Disk, Machine
from bpferry.qemu import accelerator as accelerators
from bpferry.qemu import monitor
from bpferry.qemu.capabilities import Capabilities
from bpferry.steering.plan import CardPlan, Rung

SANDBOX: Final = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
"""Everything that QEMU can deny itself. All fds are inherited, so that it needs none of it."""

RSS_ROLES: Final = ("program", "config", "key", "table")
"""The order of virtio-net's property ebpf-rss-fds (hw/net/virtio-net.c)."""

QMP: Final = "qmp"
SERIAL: Final = "serial"


def socket_names(machine: Machine) -> tuple[str, ...]:
    """Return the names of the fds that are one end of a socket pair of ours."""
    return (QMP, SERIAL) if machine.serial else (QMP,)


def tap_names(card: Card) -> tuple[str, ...]:
    """Return the names of the fds of *card*'s queues."""
    return tuple(f"{card.id}.tap{queue}" for queue in range(card.queues))


def set_names(card: Card) -> tuple[str, ...]:
    """Return the names of the fds of *card*'s eBPF set, in the order in which QEMU wants them."""
    return tuple(f"{card.id}.{role}" for role in RSS_ROLES)


def fd_names(machine: Machine, plans: Mapping[str, CardPlan]) -> tuple[str, ...]:
    """Return the names of all fds that the VM inherits."""
    names = socket_names(machine)
    for card in machine.cards:
        names += tap_names(card)
        if plans[card.id].rung is Rung.EBPF:
            names += set_names(card)
    return names


def build_commandline(
    machine: Machine,
    capabilities: Capabilities,
    accelerator: Accelerator,
    plans: Mapping[str, CardPlan],
    fds: Mapping[str, str],
) -> tuple[str, ...]:
    """Return the command line that starts *machine*.

    *plans* has one plan for each card, by its id; *fds* the text for each name of ``fd_names``.
    """
    return (
        machine.qemu,
        "-name", f"guest={machine.name}",
        "-no-user-config",
        "-nodefaults",
        *(("-sandbox", SANDBOX) if capabilities.sandbox else ()),
        *(("-run-with", "exit-with-parent=on") if capabilities.exit_with_parent else ()),
        "-machine", machine.machine_type,
        *accelerators.arguments(accelerator),
        "-smp", f"cpus={machine.vcpus}",
        "-m", f"{machine.memory_mib}M",
        "-display", "none",
        *monitor.arguments(fds[QMP]),
        *_serial(machine, fds),
        *_boot(machine),
        *(word for number, disk in enumerate(machine.disks) for word in _disk(number, disk)),
        *(word for card in machine.cards for word in _card(card, plans[card.id], fds)),
    )  # fmt: skip


def _serial(machine: Machine, fds: Mapping[str, str]) -> tuple[str, ...]:
    if not machine.serial:
        return ()
    return (
        "-chardev", f"socket,id=serial0,fd={fds[SERIAL]}",
        "-serial", "chardev:serial0",
    )  # fmt: skip


def _boot(machine: Machine) -> tuple[str, ...]:
    words: tuple[str, ...] = ()
    if machine.kernel is not None:
        words += ("-kernel", machine.kernel)
    if machine.initrd is not None:
        words += ("-initrd", machine.initrd)
    if machine.command_line:
        words += ("-append", machine.command_line)
    return words


def _disk(number: int, disk: Disk) -> tuple[str, ...]:
    node = f"disk{number}"
    backend = {
        "driver": disk.format.value,
        "node-name": node,
        "read-only": disk.read_only,
        "file": {"driver": "file", "filename": disk.path},
    }
    device = {"driver": "virtio-blk-pci", "id": f"virtio-{node}", "drive": node}
    return (
        "-blockdev", _json(backend),
        "-device", _json(device),
    )  # fmt: skip


def _card(card: Card, plan: CardPlan, fds: Mapping[str, str]) -> tuple[str, ...]:
    backend = {
        "type": "tap",
        "id": f"host-{card.id}",
        "fds": ":".join(fds[name] for name in tap_names(card)),
        "vhost": False,
    }
    device: dict[str, object] = {
        "driver": "virtio-net-pci",
        "id": card.id,
        "netdev": f"host-{card.id}",
        "mac": card.mac,
    }
    if card.queues > 1:
        # One interrupt for each direction of each queue, one for changes, one for control.
        device |= {"mq": True, "vectors": 2 * card.queues + 2}
    if plan.rung is not Rung.NONE:
        device["rss"] = True
    if plan.rung is Rung.EBPF:
        device["ebpf-rss-fds"] = [fds[name] for name in set_names(card)]
    return (
        "-netdev", _json(backend),
        "-device", _json(device),
    )  # fmt: skip


def _json(value: Mapping[str, object]) -> str:
    # Surrogates and other odd signs travel as \u escapes, so that argv is ASCII here.
    return json.dumps(value, separators=(",", ":"))
