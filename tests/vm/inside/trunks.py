# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ask for taps on the bridge br-vlan, some in several VLANs, send frames, and see who hears what.

    python3 trunks.py

Runs as root, who is in the policy, and so can take each defence away in the end. It prints a JSON
object: "heard", for each frame the taps that heard it, each with the tag that it had there (0 for
none); and "without", the same of the frames that nobody heard, sent again without the defence.
"""

import json
import os
import subprocess
import sys
import time
from typing import Final

sys.path[:0] = ["/srv/bpferry", "/srv/bpferry/shared"]

from bpferry_wire.messages import Tap, TapReply  # noqa: E402 - the path comes first
from tests.vm.inside.asking import VNET_HEADER, ask_for  # noqa: E402 - as above
from tests.vm.inside.vlans import EXPERIMENT, card  # noqa: E402 - as above

TAPS: Final[dict[str, tuple[int | None, tuple[int, ...]]]] = {
    "trunk": (None, (20, 21)),
    "native": (10, (20,)),
    "ten": (10, ()),
    "twenty": (20, ()),
    "twenty-one": (21, ()),
    "twenty-two": (22, ()),
}
"""Each with the VLAN of frames without a tag, and those of frames with one."""

FALSE: Final = 99
"""The last byte of an address that no card here has."""

FRAMES: Final[tuple[tuple[str, str, int, bool], ...]] = (
    ("20", "trunk", 20, True),
    ("21", "trunk", 21, True),
    ("22", "trunk", 22, True),
    ("no tag", "trunk", 0, True),
    ("20 of another", "trunk", 20, False),
    ("21 of another", "trunk", 21, False),
    ("into the trunk", "twenty", 0, True),
    ("native", "native", 0, True),
    ("native 20", "native", 20, True),
    ("native 21", "native", 21, True),
)
"""The name of a frame, who sends it, its tag, and whether it is from the card's own address."""

Q: Final = b"\x81\x00"
"""The protocol of a tag (IEEE 802.1Q)."""


class Port:
    """One tap."""

    def __init__(self, name: str, place: int) -> None:
        """Ask for the tap *name*, with the card's address number *place*."""
        vlan, tagged = TAPS[name]
        tap = Tap("br-vlan", False, 1, mac=card(place), vlan=vlan, tagged=tagged)  # noqa: FBT003
        reply, self.fds = ask_for(tap)
        assert isinstance(reply, TapReply), reply
        self.interface = reply.interface
        self.card = card(place)
        self.queue = self.fds[0].borrow()
        os.set_blocking(self.queue, False)

    def send(self, number: int, tag: int, sender: bytes) -> None:
        """Send the frame *number* to everybody."""
        tags = Q + tag.to_bytes(2, "big") if tag else b""
        frame = b"\xff" * 6 + sender + tags + EXPERIMENT + bytes([number]) + bytes(45)
        os.write(self.queue, VNET_HEADER + frame)

    def heard(self) -> dict[int, int]:
        """Return the tag of each frame of the test that came, by its number."""
        found: dict[int, int] = {}
        while True:
            try:
                frame = os.read(self.queue, 4096)[len(VNET_HEADER) :]
            except BlockingIOError:
                return found
            tag = int.from_bytes(frame[14:16], "big") & 0xFFF if frame[12:14] == Q else 0
            rest = frame[16:] if tag else frame[12:]
            if rest[:2] == EXPERIMENT:
                found[rest[2]] = tag


def play(ports: dict[str, Port], wanted: set[str]) -> dict[str, dict[str, int]]:
    """Send the frames that are *wanted*; return which ports heard each."""
    for number, (name, source, tag, is_own) in enumerate(FRAMES):
        if name in wanted:
            ports[source].send(number, tag, ports[source].card if is_own else card(FALSE))
    time.sleep(1)
    heard = {name: port.heard() for name, port in ports.items()}
    return {
        name: {port: tags[number] for port, tags in heard.items() if number in tags}
        for number, (name, *_) in enumerate(FRAMES)
        if name in wanted
    }


def main() -> None:
    """Ask, send, and print; then take the defences away, one by one."""
    ports = {name: Port(name, place) for place, name in enumerate(TAPS, start=1)}
    trunk, native = ports["trunk"].interface, ports["native"].interface
    time.sleep(1)
    heard = play(ports, {name for name, *_ in FRAMES})
    without: dict[str, dict[str, int]] = {}
    for words, frames in (
        (f"link set dev {trunk} locked off", {"20 of another", "21 of another"}),
        (f"vlan add dev {trunk} vid 22", {"22"}),
        (f"vlan add dev {trunk} vid 22 pvid untagged", {"no tag"}),
        # The card's address is locked in its own VLANs only, so the lock alone holds it back too.
        (f"link set dev {native} locked off", set()),
        (f"vlan add dev {native} vid 21", {"native 21"}),
    ):
        subprocess.run(["bridge", *words.split()], check=True)
        without |= play(ports, frames)
    print(json.dumps({"heard": heard, "without": without}))  # noqa: T201 - read by the test


if __name__ == "__main__":
    main()
