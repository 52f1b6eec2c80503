# SPDX-License-Identifier: LGPL-2.1-or-later
"""A round with a guest in the host, as a program of ``inside`` plays it.

The host's virtualization is emulated, and not without faults: QEMU 10.0 was seen to end a guest's
life with a triple fault, early in its boot or later. bpferry says that ("the VM restarts"). Guests
with several processors were also seen never to write a word while the whole host was idle. A round
that one of these has spoiled is played again. Any other failure is one.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.vm.freight import CLONE
from tests.vm.host import Host

ROUND_SECONDS: Final = 600
"""It takes 50 on a machine that does other things too, and most of the rest is patience."""

ATTEMPTS: Final = 3
SPOILED: Final = ("the VM restarts", "the guest was not ready in time; it wrote nothing before")

PYTHON: Final = "/usr/local/lib/bpferry/venv/bin/python3"
TREES: Final = ":".join(f"{CLONE}/{tree}" for tree in ("tools", "client", "helper", "shared"))

INSTALLED: Final = (f"PYTHONPATH={TREES}", PYTHON)
"""A Python that can import what the clone's modules do, as tools/install leaves it."""

PACKAGED: Final = (f"PYTHONPATH={TREES}:/usr/lib/bpferry/client", "/usr/bin/python3")
"""The same of Debian's packages."""


@dataclass(frozen=True, slots=True)
class Player:
    """Who starts which VM on the bridge, and the last part of the guest's addresses."""

    user: str
    document: str
    guest: int


def play_round(host: Host, player: Player, python: Sequence[str] = INSTALLED) -> dict[str, Any]:
    """Play a round with the VM of *player*, by *python*, and return what was seen.

    Raises:
        AssertionError: it went wrong, and not by such a fault; or by one each time.
    """
    words = ("steered.py", player.user, player.document, str(player.guest))
    return play(host, words, ROUND_SECONDS, python)


def play(
    host: Host, words: Sequence[str], seconds: float, python: Sequence[str] = INSTALLED
) -> dict[str, Any]:
    """Run a program of ``inside`` with its arguments, *words*, and return what it saw.

    Raises:
        AssertionError: as above.
    """
    program = ("env", *python, "-B", f"{CLONE}/tests/vm/inside/{words[0]}")
    for _ in range(ATTEMPTS):
        done = host.run(*program, *words[1:], timeout=seconds)
        if done.status == 0:
            seen: dict[str, Any] = json.loads(done.output)
            return seen
        if not any(fault in done.errors for fault in SPOILED):
            break
        sys.stderr.write(f"the guest of {words} did not come up; the round is played again\n")
    raise AssertionError(f"the round of {words}: {done.errors}")
