# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ask for three taps on the bridge br-vlan, in VLANs 10, 10 and 20, and see which reach which.

    python3 vlans.py

It prints a JSON object: "reached", the places of the taps that heard what the first one sent, and
"refused", what is said of a VLAN that the policy does not have.
"""

import json
import os
import sys
import time
from typing import Final

sys.path[:0] = ["/srv/bpferry", "/srv/bpferry/shared"]

from bpferry_wire.fds import OwnedFds  # noqa: E402 - the path comes first
from bpferry_wire.messages import ErrorReply, Tap, TapReply  # noqa: E402 - as above
from tests.vm.inside.asking import VNET_HEADER, ask_for  # noqa: E402 - as above

VLANS: Final = (10, 10, 20)
FORBIDDEN: Final = 30
EXPERIMENT: Final = b"\x88\xb5"
"""The protocol of the frame (IEEE 802)."""


def card(place: int) -> bytes:
    """Return the address of the card number *place*."""
    return bytes((0x52, 0x54, 0, 0, 0, place))


def ask(vlan: int, place: int) -> tuple[TapReply | ErrorReply, OwnedFds]:
    """Ask for the tap number *place* in *vlan*; return the answer and the fds."""
    return ask_for(Tap("br-vlan", is_network=False, queues=1, mac=card(place), vlan=vlan))


def hears(queue: int) -> bool:
    """Say whether the frame of the test came to *queue*."""
    os.set_blocking(queue, False)
    while True:
        try:
            if os.read(queue, 4096)[len(VNET_HEADER) :][12:14] == EXPERIMENT:
                return True
        except BlockingIOError:
            return False


def main() -> None:
    """Ask, send one broadcast from the first tap, and print what came of it."""
    taps = [ask(vlan, place) for place, vlan in enumerate(VLANS, start=1)]
    refused, _ = ask(FORBIDDEN, 9)
    queues = [fds[0].borrow() for _, fds in taps if len(fds)]
    time.sleep(1)
    frame = b"\xff" * 6 + card(1) + EXPERIMENT + bytes(46)
    os.write(queues[0], VNET_HEADER + frame)
    time.sleep(1)
    print(  # noqa: T201 - read by the test
        json.dumps(
            {
                "reached": [place for place, queue in enumerate(queues) if hears(queue)],
                "refused": refused.message if isinstance(refused, ErrorReply) else "",
            }
        )
    )


if __name__ == "__main__":
    main()
