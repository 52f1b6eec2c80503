# SPDX-License-Identifier: LGPL-2.1-or-later
"""The options of ``create``, and their help."""

import argparse
from typing import Final

from bpferry.cli.network_options import interface, mac, network, queues
from bpferry.cli.parser import Commands, add_command, number
from bpferry.domain.sizes import parse_written, suggest_size

DESCRIPTION: Final = """\
Make a VM from an image with an installed system, such as a cloud image, and
say how to start it. FILE is not changed. This makes:

  - a description that you can change, vms/NAME.toml in ~/.config/bpferry
    ($XDG_CONFIG_HOME/bpferry);
  - a disk that has only what differs from FILE, and a seed from which the
    guest's cloud-init learns its name, a user, ssh keys and its network, in
    ~/.local/share/bpferry/vms/NAME ($XDG_DATA_HOME/bpferry/vms/NAME).

Nothing is overwritten, and if a step fails, nothing is left. The guest's user
can become root with sudo, and logs in on the console with a password that is
printed once, and over ssh with your key.

Nothing is installed in the guest, and no service of it is changed. The VM has a
channel for the guest agent, which tells `bpferry ip` and `bpferry ssh` the
guest's addresses; where the image has no agent, install it in the guest:
  sudo apt install qemu-guest-agent

Debian's cloud images, with their checksums (SHA512SUMS), are at
https://cloud.debian.org/images/cloud/
"""

EPILOG: Final = """\
examples:
  bpferry create web --image debian-13-genericcloud-amd64.qcow2
  bpferry create web --image debian.qcow2 --bridge br0 \\
      --ssh-key ~/.ssh/id_ed25519.pub --memory 4GiB --disk-size 20GiB
  bpferry can-i                          which bridges may you use?
"""

MAX_VCPUS: Final = 1024

MAX_SIZE: Final = 2**50


def add_create(commands: Commands) -> None:
    """Add ``create``."""
    create = add_command(
        commands,
        "create",
        usage="bpferry create --image FILE [--image-format qcow2|raw]\n"
        "                      [--bridge NAME | --network NAME] [--queues N]\n"
        "                      [--mac ADDRESS] [--ssh-key FILE] [--user NAME]\n"
        "                      [--memory SIZE] [--vcpus N] [--disk-size SIZE]\n"
        "                      [--firmware bios|efi] [--json] NAME",
        help="make a new VM from an image",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    create.add_argument("name", metavar="NAME", help="the new VM's name, and the guest's own")
    create.add_argument(
        "--image", metavar="FILE", required=True, help="a disk image with an installed system"
    )
    create.add_argument(
        "--image-format",
        choices=("qcow2", "raw"),
        metavar="qcow2|raw",
        help="the format of the image (default: by its header; without one, raw if it has a boot "
        "sector)",
    )
    _add_card(create)
    _add_guest(create)
    create.add_argument("--json", action="store_true", help="print one JSON object")


def _add_card(create: argparse.ArgumentParser) -> None:
    source = create.add_mutually_exclusive_group()
    source.add_argument(
        "--bridge",
        metavar="NAME",
        type=interface,
        help="connect the card to this bridge (default: user networking, which needs no helper)",
    )
    source.add_argument(
        "--network",
        metavar="NAME",
        type=network,
        help="connect the card to this network, which the policy maps to a bridge",
    )
    create.add_argument(
        "--queues",
        metavar="N",
        type=queues,
        help="queues of the card, 1 to 64 (default: one for each vCPU, or 1 if the policy allows "
        "no more)",
    )
    create.add_argument(
        "--mac",
        metavar="ADDRESS",
        type=mac,
        help="the card's MAC address, if the policy allows only certain ones (default: computed "
        "from host, user and name)",
    )


def _add_guest(create: argparse.ArgumentParser) -> None:
    create.add_argument(
        "--ssh-key",
        metavar="FILE",
        action="append",
        default=[],
        help="a public key that may log in, such as ~/.ssh/id_ed25519.pub; can be repeated",
    )
    create.add_argument(
        "--user", metavar="NAME", help="the guest's user (default: your own name, or 'user')"
    )
    create.add_argument(
        "--memory", metavar="SIZE", type=_size, help="such as 4GiB or 512MiB (default: 2GiB)"
    )
    create.add_argument(
        "--vcpus", metavar="N", type=_vcpus, help="processors of the guest (default: 2)"
    )
    create.add_argument(
        "--disk-size",
        metavar="SIZE",
        type=_size,
        help="of the guest's disk, such as 20GiB (default: 10GiB, or that of a larger image)",
    )
    create.add_argument(
        "--firmware",
        choices=("bios", "efi"),
        metavar="bios|efi",
        help="what boots the guest (default: bios on PCs, efi on others)",
    )


def _vcpus(text: str) -> int:
    return number(text, 1, MAX_VCPUS)


def _size(text: str) -> int:
    try:
        found = parse_written(text)
    except ValueError as error:
        close = suggest_size(text)
        meant = f"; did you mean '{close}'?" if close else ""
        raise argparse.ArgumentTypeError(f"'{text}': {error}{meant}") from error
    if not 0 < found <= MAX_SIZE:
        raise argparse.ArgumentTypeError(f"'{text}' is not between 1 byte and 1 PiB")
    return found
