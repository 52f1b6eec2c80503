# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry-bridge-helper: qemu-bridge-helper, but for its setuid bit.

    bpferry-bridge-helper --use-vnet --br=br0 --fd=25

QEMU (``-netdev bridge,helper=...``) and libvirt (``bridge_helper`` in qemu.conf) start it with
these words, and take a tap with one queue from the socket that is fd 25, beside one byte
(qemu-bridge-helper.c). It asks the helper for that tap, as any client; the policy decides.
"""

import socket
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple

from bpferry.errors import BpferryError
from bpferry.network.tap_helper import TapHelper
from bpferry_wire.messages import Tap

DEFAULT_BRIDGE: Final = "br0"
"""DEFAULT_BRIDGE_INTERFACE of include/net/net.h."""

USAGE: Final = "usage: bpferry-bridge-helper --use-vnet [--br=BRIDGE] --fd=SOCKET\n"

WRONG_USAGE: Final = 2


class Asked(NamedTuple):
    """What the words say."""

    bridge: str
    fd: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Send a tap to the socket that *arguments* (sys.argv) name; return the exit status."""
    asked = _read((sys.argv if arguments is None else arguments)[1:])
    if asked is None:
        sys.stderr.write(USAGE)
        return WRONG_USAGE
    try:
        _give(asked)
    except BpferryError as error:
        hint = f" (hint: {error.hint})" if error.hint else ""
        sys.stderr.write(f"bpferry-bridge-helper: {error.message}{hint}\n")
        return error.status
    except OSError as error:
        sys.stderr.write(f"bpferry-bridge-helper: cannot send a tap to fd {asked.fd}: {error}\n")
        return 1
    return 0


def _read(words: Sequence[str]) -> Asked | None:
    """Return what *words* say; None if they are not what QEMU and libvirt write."""
    said = dict(word.split("=", 1) for word in words if "=" in word)
    flags = {word for word in words if "=" not in word}
    fd = said.pop("--fd", "")
    bridge = said.pop("--br", DEFAULT_BRIDGE)
    # Without --use-vnet, somebody wants a tap whose packets have no virtio header. Ours do.
    if said or flags != {"--use-vnet"} or not (fd.isascii() and fd.isdigit()):
        return None
    return Asked(bridge, int(fd))


def _give(asked: Asked) -> None:
    """Ask for a tap, and send it. Takes ownership of the socket, which the caller made for us.

    Raises:
        BpferryError: the helper did not give one.
        OSError: nobody takes it.
    """
    with socket.socket(fileno=asked.fd) as caller, TapHelper() as helper:
        request = Tap(asked.bridge, is_network=False, queues=1)
        with helper.tap(request) as tap:
            socket.send_fds(caller, [b"\0"], tap.borrow())
