# SPDX-License-Identifier: LGPL-2.1-or-later
"""Look at and change the guest's network card, through ethtool and busybox's ip."""

import re
import socket
import subprocess
from collections.abc import Sequence

from guest.qstats import packets_by_queue


class CardError(Exception):
    """A tool failed; the message is its output."""


def tool(*argv: str) -> str:
    """Run a command of the guest and return what it printed."""
    done = subprocess.run(argv, capture_output=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        words = " ".join((done.stderr or done.stdout).split())
        raise CardError(f"{' '.join(argv)}: status {done.returncode}: {words}")
    return done.stdout


class Card:
    """One network device."""

    def __init__(self, device: str) -> None:
        self.device = device

    def exists(self) -> bool:
        """Return whether the guest has this device."""
        return any(name == self.device for _, name in socket.if_nameindex())

    def channels(self) -> tuple[int, int]:
        """Return how many combined channels are in use, and how many there may be."""
        printed = tool("ethtool", "-l", self.device)
        most, now = re.findall(r"^Combined:\s+(\d+)", printed, re.MULTILINE)
        return int(now), int(most)

    def set_channels(self, count: int) -> None:
        """Use *count* channels."""
        # ethtool fails if there is nothing to change.
        if self.channels()[0] != count:
            tool("ethtool", "-L", self.device, "combined", str(count))

    def hash_key(self) -> str:
        """Return the key of the receive hash, in hexadecimal digits without separators."""
        found = re.search(r"^RSS hash key:\s+([0-9a-f:]+)$", self._indirection(), re.MULTILINE)
        if found is None:
            raise CardError(f"ethtool -x {self.device}: it shows no hash key")
        return found[1].replace(":", "")

    def table(self) -> list[int]:
        """Return the indirection table: for each entry the number of its queue."""
        rows = re.findall(r"^\s*\d+:((?:\s+\d+)+)$", self._indirection(), re.MULTILINE)
        return [int(queue) for row in rows for queue in row.split()]

    def set_weights(self, weights: Sequence[int]) -> None:
        """Fill the indirection table in proportion to *weights*, one for each queue."""
        tool("ethtool", "-X", self.device, "weight", *(str(weight) for weight in weights))

    def set_equal(self, queues: int) -> None:
        """Fill the indirection table with the first *queues* queues in turn."""
        tool("ethtool", "-X", self.device, "equal", str(queues))

    def set_hash_fields(self, flow: str, fields: str) -> None:
        """Choose what the hash of a kind of flow covers, in ethtool's words (udp4, sdfn)."""
        tool("ethtool", "-N", self.device, "rx-flow-hash", flow, fields)

    def add_address(self, address: str) -> None:
        """Add *address*, which has its prefix length behind a slash, and bring the device up."""
        # A card that is plugged in later is down until then.
        tool("ip", "link", "set", "dev", self.device, "up")
        tool("ip", "address", "add", address, "dev", self.device)

    def packets(self) -> dict[int, int]:
        """Return how many packets came in on each queue since the driver was loaded."""
        printed = tool("ethtool", "-S", self.device)
        counts = re.findall(r"^\s*rx_queue_(\d+)_packets:\s+(\d+)$", printed, re.MULTILINE)
        found = {int(queue): int(count) for queue, count in counts}
        return found or packets_by_queue(self.device)

    def _indirection(self) -> str:
        return tool("ethtool", "-x", self.device)
