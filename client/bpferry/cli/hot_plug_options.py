# SPDX-License-Identifier: LGPL-2.1-or-later
"""The options and the help of the commands that change the devices of a running VM."""

import argparse
from typing import Final

from bpferry.cli.network_options import interface, mac, mtu, network, queues
from bpferry.cli.parser import Commands, Parser, add_command, number
from bpferry.cli.running_options import add_json, add_name

ATTACH_NIC_DESCRIPTION: Final = """\
Plug a network card into a running VM. Its tap, its eBPF program and its
queues are those that a card of the VM's description would get: the helpers are
asked by the VM's own bpferry. The eBPF program is the one that the running QEMU
carries, also if another QEMU was installed meanwhile.

The card stays until the VM ends or it is taken out. To keep it, write it into
the VM's description too.
"""

ATTACH_NIC_EPILOG: Final = """\
examples:
  bpferry attach-nic web --bridge br0 --queues 4 --rss
  bpferry attach-nic web --user
  bpferry attach-nic web --file card.xml

A file has one <interface> of a libvirt domain document, or one [[cards]] in
TOML. A VM with PCI Express (machine type q35) needs a free port for each card;
a description in TOML has two to spare for cards and more for other devices, and
more can be added to it:
  [[controllers]]
  type = "pci"
  model = "pcie-root-port"
"""

DETACH_NIC_DESCRIPTION: Final = """\
Take a network card out of a running VM. The guest is asked to let go of it,
and the command waits until it has; then its tap and eBPF program are given
back.

A guest that does not react, since its system is not up yet or uses the card,
keeps it. If it lets go after the command has given up, the card is out then.
"""

SET_LINK_DESCRIPTION: Final = """\
Let the guest see the link of a card go down, as if its cable were pulled, or up
again.
"""

ATTACH_DISK_DESCRIPTION: Final = """\
Plug a disk into a running VM. The guest finds it under the next free name,
such as vdb, which the command prints. It stays until the VM ends or it is taken
out. To keep it, write it into the VM's description too.
"""

DETACH_DISK_DESCRIPTION: Final = """\
Take a disk out of a running VM. The guest is asked to let go of it, and the
command waits until it has; then its image is closed. Unmount it in the guest
before.

A guest that does not react keeps the disk. If it lets go after the command has
given up, the disk is out then.
"""

FORMATS: Final = ("raw", "qcow2", "vmdk", "vdi", "vhdx", "qed", "vpc")
BUSES: Final = ("virtio", "scsi", "usb")

CARD: Final = "the card by its id, such as net1, or by its MAC address"

WAIT_SECONDS: Final = 20
MAX_WAIT_SECONDS: Final = 600


def add_hot_plug(commands: Commands) -> None:
    """Add the commands."""
    _add_attach_nic(commands)
    detach = add_command(
        commands,
        "detach-nic",
        help="take a network card out of a running VM",
        description=DETACH_NIC_DESCRIPTION,
        epilog="example:\n  bpferry detach-nic web net1\n",
    )
    add_name(detach)
    detach.add_argument("card", metavar="CARD", help=CARD)
    _add_timeout(detach)
    add_json(detach)
    link = add_command(
        commands,
        "set-link",
        help="pull or plug the cable of a card",
        description=SET_LINK_DESCRIPTION,
        epilog="example:\n  bpferry set-link web net0 down\n",
    )
    add_name(link)
    link.add_argument("card", metavar="CARD", help=CARD)
    link.add_argument("link", choices=("up", "down"), help="what the guest is to see")
    add_json(link)
    _add_disks(commands)


def _add_disks(commands: Commands) -> None:
    attach = add_command(
        commands,
        "attach-disk",
        help="plug a disk into a running VM",
        description=ATTACH_DISK_DESCRIPTION,
        epilog="example:\n  bpferry attach-disk web data.qcow2 --format qcow2\n",
    )
    add_name(attach)
    attach.add_argument("file", metavar="FILE", help="an image, or a block device of the host")
    attach.add_argument(
        "--format",
        choices=FORMATS,
        help="the format of the image (default: raw; an image that looks like another format is "
        "refused without this)",
    )
    attach.add_argument(
        "--bus", choices=BUSES, default="virtio", help="what it is plugged into (default: virtio)"
    )
    attach.add_argument(
        "--read-only", action="store_true", help="the guest can read it and not write to it"
    )
    add_json(attach)
    detach = add_command(
        commands,
        "detach-disk",
        help="take a disk out of a running VM",
        description=DETACH_DISK_DESCRIPTION,
        epilog="example:\n  bpferry detach-disk web vdb\n",
    )
    add_name(detach)
    detach.add_argument("target", metavar="TARGET", help="the disk's name, such as vdb")
    _add_timeout(detach)
    add_json(detach)


def _add_attach_nic(commands: Commands) -> None:
    attach = add_command(
        commands,
        "attach-nic",
        usage="bpferry attach-nic (--bridge NAME | --network NAME | --tap NAME |\n"
        "                          --user | --file FILE) [--queues N] [--rss]\n"
        "                          [--mac ADDRESS] [--mtu BYTES]\n"
        "                          [--driver vhost|qemu] [--require-ebpf] [--json] NAME",
        help="plug a network card into a running VM",
        description=ATTACH_NIC_DESCRIPTION,
        epilog=ATTACH_NIC_EPILOG,
    )
    add_name(attach)
    _add_source(attach)
    attach.add_argument(
        "--queues", metavar="N", type=queues, help="queues of the card (default: 1)"
    )
    attach.add_argument(
        "--rss", action="store_true", help="offer the guest receive-side scaling (RSS)"
    )
    attach.add_argument(
        "--mac", metavar="ADDRESS", type=mac, help="its MAC address (default: one is made)"
    )
    attach.add_argument(
        "--mtu",
        metavar="BYTES",
        type=mtu,
        help="the MTU that the guest is told (default: none)",
    )
    attach.add_argument(
        "--driver",
        choices=("vhost", "qemu"),
        help="what moves the packets of a tap: the kernel's vhost-net or QEMU (default: vhost-net "
        "where it works and costs no RSS)",
    )
    attach.add_argument(
        "--require-ebpf",
        action="store_true",
        help="plug it in only if eBPF in the host's kernel steers it",
    )
    add_json(attach)


def _add_source(attach: Parser) -> None:
    source = attach.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--bridge", metavar="NAME", type=interface, help="a tap on this bridge, from the helper"
    )
    source.add_argument(
        "--network",
        metavar="NAME",
        type=network,
        help="the same on this network, which the policy maps to a bridge",
    )
    source.add_argument("--tap", metavar="NAME", type=interface, help="a tap of yours that exists")
    source.add_argument(
        "--user", action="store_true", help="the host's network through QEMU, without a tap"
    )
    source.add_argument(
        "--file", metavar="FILE", help="the card that FILE describes; no other options then"
    )


def _add_timeout(command: Parser) -> None:
    command.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=WAIT_SECONDS,
        help=f"how long to wait for the guest to let go (default: {WAIT_SECONDS})",
    )


def _seconds(text: str) -> int:
    try:
        return number(text, 1, MAX_WAIT_SECONDS)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error} of seconds") from error
