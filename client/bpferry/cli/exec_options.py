# SPDX-License-Identifier: LGPL-2.1-or-later
"""The options of bpferry exec, and its help."""

from typing import Final

from bpferry.cli.network_options import queues
from bpferry.cli.parser import Commands, add_command
from bpferry_wire import limits

DESCRIPTION: Final = """\
Become QEMU, with the command line of another launcher, after its network cards
got what they lack: taps with several queues from the helper, vhost, and RSS
steered by eBPF. Put it before the command that starts QEMU.

  -netdev bridge,br=NAME       becomes the helper's tap on that bridge,
  -netdev tap,helper=..., br=  with a queue for each virtual processor
  -netdev tap,ifname=NAME      (script=no) is opened with all its queues
  -netdev tap,fd=N             is replaced if qemu-bridge-helper made it
                               and the policy allows you one there
  -netdev tap,fds=N:N...       keeps its fds
  -device virtio-net-*         gets mq, vectors, rss and ebpf-rss-fds
                               where it does not have them
  -nic, -net nic with -net     become -netdev and -device, if virtio

Everything else stays as it is, and so does a card that cannot get what it
lacks. Standard error says what was changed, what was not, and why.
"""

EPILOG: Final = """\
The exit status is QEMU's; 127 if there is no such QEMU, 126 if it cannot be
started.

Launchers that run qemu-bridge-helper themselves, such as libvirt in its
session mode, can run bpferry-bridge-helper in its place. It needs no setuid
bit, and the policy decides instead of bridge.conf.

examples:
  bpferry exec -- qemu-system-x86_64 -smp 4 -m 1G disk.img \\
      -nic bridge,br=br0,model=virtio-net-pci
  bpferry exec --dry-run -- qemu-system-x86_64 -smp 4 \\
      -netdev bridge,id=n0 -device virtio-net-pci,netdev=n0
  bpferry exec --queues 2 --require-ebpf -- qemu-system-x86_64 ...
"""


def add_exec(commands: Commands) -> None:
    """Add ``exec``."""
    command = add_command(
        commands,
        "exec",
        usage="bpferry exec [--queues N] [--require-ebpf] [--dry-run[=text|json]]\n"
        "                    [--json] -- QEMU [ARGUMENT ...]",
        help="give the cards of another launcher's QEMU what they lack",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    command.stray = "write '--' before the command that starts QEMU"
    command.add_argument(
        "--queues",
        metavar="N",
        type=queues,
        help=f"queues of each virtio card, 1 to {limits.MAX_QUEUES} (default: one for each virtual "
        "processor, as many as the policy allows)",
    )
    command.add_argument(
        "--require-ebpf",
        action="store_true",
        help="do not start QEMU if any card is not steered by eBPF",
    )
    command.add_argument(
        "--dry-run",
        metavar="text|json",
        choices=("text", "json"),
        help="say what would be changed, and change and ask nothing; needs no helper",
    )
    command.add_argument(
        "--json",
        action="store_true",
        help="report an error as one JSON object on standard output",
    )
