# SPDX-License-Identifier: LGPL-2.1-or-later
"""Run the demonstration: ``sudo tools/demo``."""

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bpferry.errors import BpferryError
from guest.build import build_guest
from guest.command import GuestError
from steering_demo.exchanges import Exchange
from steering_demo.helpers import HelperFailed
from steering_demo.picture import EXCHANGES_TITLE, as_json, draw, last_line
from steering_demo.play import Result, field, play
from steering_demo.rounds import Round
from steering_demo.witness import WitnessError
from steering_demo.workplace import workplace

CACHE: Final = Path("/var/cache/bpferry/guest")
DEFAULT_FLOWS: Final = 400
MAX_FLOWS: Final = 4000

DESCRIPTION: Final = (
    "Boot two small Linux guests as an ordinary user, on a bridge, one of them with a four-queue "
    "tap that is steered by QEMU's eBPF program. Check on which queue every flow from the host and "
    "from the other guest arrives, and that all can reach each other, also with jumbo frames."
)
EPILOG: Final = (
    "exit status: 0 if every flow arrived where predicted and every datagram came back, 1 if not "
    "or if something failed, 2 wrong usage. All changes to the host are undone."
)

FAULTS: Final = (
    BpferryError,
    GuestError,
    WitnessError,
    HelperFailed,
    subprocess.CalledProcessError,
    OSError,
)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(prog="tools/demo", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument(
        "--flows",
        metavar="N",
        type=int,
        default=DEFAULT_FLOWS,
        help=f"flows in each of the three rounds, up to {MAX_FLOWS} (default: {DEFAULT_FLOWS})",
    )
    options = parser.parse_args(arguments)
    if not 1 <= options.flows <= MAX_FLOWS:
        parser.error(f"--flows must be from 1 to {MAX_FLOWS}")
    return options


def say(text: str) -> None:
    """Print what happens now to standard error; standard output is for the result."""
    print(f"==> {text}", file=sys.stderr, flush=True)


def demonstrate(flows: int, *, show: bool) -> Result:
    """Build, boot, send, compare; *show* each round as soon as it is played."""
    guest = build_guest(CACHE, say)
    with workplace() as place, field(place, guest, say) as played:
        return play(played, flows, _Stage() if show else lambda _: None)


class _Stage:
    """Prints what is played."""

    def __init__(self) -> None:
        self._titled = False

    def __call__(self, played: Round | Exchange) -> None:
        if isinstance(played, Round):
            print(draw(played), flush=True)
            return
        if not self._titled:
            self._titled = True
            print(f"{EXCHANGES_TITLE}\n")
        print(f"  {played}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration and return the exit status."""
    options = parse(arguments)
    # A terminal's hang-up and systemctl stop end it in the same way as Ctrl-C.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        result = demonstrate(options.flows, show=not options.json)
    except KeyboardInterrupt:
        print("demo: interrupted; everything has been taken down", file=sys.stderr)
        return 1
    except FAULTS as error:
        print(f"demo: error: {error}", file=sys.stderr)
        if options.json:
            print(json.dumps({"error": {"code": "failed", "message": str(error)}}))
        return 1
    print(json.dumps(as_json(result)) if options.json else f"\n{last_line(result)}")
    return 0 if result.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
