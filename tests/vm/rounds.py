# SPDX-License-Identifier: LGPL-2.1-or-later
"""A round with a guest in the host, as ``inside/steered.py`` plays it.

The host's virtualization is emulated, and not without faults: QEMU 10.0 was seen to end a guest's
life with a triple fault, early in its boot or later. bpferry says that ("the VM restarts"), and a
round that this has spoiled is played again. Any other failure is one.
"""

import json
import sys
from dataclasses import dataclass
from typing import Any, Final

from tests.vm.freight import CLONE
from tests.vm.host import Host

ROUND_SECONDS: Final = 240
"""It takes 50 on a machine that does other things too."""

ATTEMPTS: Final = 3
RESTARTED: Final = "the VM restarts"

PYTHON: Final = "/usr/local/lib/bpferry/venv/bin/python3"
TREES: Final = ":".join(f"{CLONE}/{tree}" for tree in ("tools", "client", "helper", "shared"))


@dataclass(frozen=True, slots=True)
class Player:
    """Who starts which VM on the bridge, and the last part of the guest's addresses."""

    user: str
    document: str
    guest: int


def play_round(host: Host, player: Player) -> dict[str, Any]:
    """Play a round with the VM of *player*, and return what was seen.

    Raises:
        AssertionError: it went wrong, and the guest did not restart; or it did so each time.
    """
    program = ["env", f"PYTHONPATH={TREES}", PYTHON, "-B", f"{CLONE}/tests/vm/inside/steered.py"]
    arguments = (player.user, player.document, str(player.guest))
    for _ in range(ATTEMPTS):
        done = host.run(*program, *arguments, timeout=ROUND_SECONDS)
        if done.status == 0:
            seen: dict[str, Any] = json.loads(done.output)
            return seen
        if RESTARTED not in done.errors:
            break
        sys.stderr.write(f"the guest of {player} started anew; the round is played again\n")
    raise AssertionError(f"the round of {player}: {done.errors}")
