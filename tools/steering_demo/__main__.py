# SPDX-License-Identifier: LGPL-2.1-or-later
"""Run the demonstration: ``sudo tools/demo``."""

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bpferry.errors import BpferryError
from bpferry.steering.maps import Steering
from guest.build import Guest, build_guest
from guest.command import GuestError
from guest.flows import make_flows
from guest.netns import Namespace, namespace
from steering_demo import helper, vm
from steering_demo.helper import HelperFailed, activated_helper
from steering_demo.picture import as_json, draw, last_line
from steering_demo.rounds import GUEST, HOST, Round, play_round, routes
from steering_demo.vm import QUEUES, Vm, running_vm, write_description
from steering_demo.witness import WitnessError, counted_runs, live_maps, wait_for
from steering_demo.workplace import Workplace, workplace

CACHE: Final = Path("/var/cache/bpferry/guest")
DEFAULT_FLOWS: Final = 400
MAX_FLOWS: Final = 4000
WEIGHTS: Final = (1, 0, 0, 3)
"""What the guest changes its table to: a quarter to queue 0, the rest to queue 3."""

EVEN_TITLE: Final = f"The guest's table names all {QUEUES} queues equally:"
CHANGED_TITLE: Final = "The guest ran 'ethtool -X eth0 weight 1 0 0 3':"
EVEN_SEED: Final = 1
CHANGED_SEED: Final = 2

FAULTS: Final = (
    BpferryError,
    GuestError,
    WitnessError,
    HelperFailed,
    subprocess.CalledProcessError,
    OSError,
)


@dataclass(frozen=True, slots=True)
class Result:
    """All rounds, and what they were played with."""

    rounds: tuple[Round, ...]
    qemu: str
    started_by: str


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(
        prog="tools/demo",
        description="Boot a small Linux guest as an ordinary user, with a four-queue tap that is "
        "steered by QEMU's eBPF program, and check where every single flow comes in.",
        epilog="exit status: 0 every flow came in where it was predicted, 1 it did not or could "
        "not be tried, 2 wrong usage. Nothing on the host is changed that is not undone.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument(
        "--flows",
        metavar="N",
        type=int,
        default=DEFAULT_FLOWS,
        help=f"flows in each of the two rounds, up to {MAX_FLOWS} (default: {DEFAULT_FLOWS})",
    )
    options = parser.parse_args(arguments)
    if not 1 <= options.flows <= MAX_FLOWS:
        parser.error(f"--flows must be from 1 to {MAX_FLOWS}")
    return options


def say(text: str) -> None:
    """Tell a person what happens now; standard output is for the result."""
    print(f"==> {text}", file=sys.stderr, flush=True)


def demonstrate(flows: int, *, show: bool) -> Result:
    """Build, boot, send, compare; *show* prints each round as soon as it is played."""
    guest = build_guest(CACHE, say)
    with workplace() as place, _explaining(place):
        qemu, started_by, rounds = _play_all(place, guest, flows, show=show)
    return Result(rounds, qemu, started_by)


@contextmanager
def _explaining(place: Workplace) -> Iterator[None]:
    """Show what helper and client said if something goes wrong, before the folder is gone."""
    try:
        yield
    except (GuestError, WitnessError, HelperFailed, subprocess.CalledProcessError):
        for name, text in (("helper", helper.said(place)), ("bpferry", vm.said(place))):
            print(f"--- the {name} said:\n{text}", file=sys.stderr)
        raise


def qemu_version(place: Workplace, space: Namespace) -> str:
    """Return the version that QEMU itself names, asked as the user."""
    argv = ["env", f"PYTHONPATH={place.python_path('client', 'shared')}", sys.executable, "-B"]
    argv += ["-m", "bpferry", "capabilities", "--json"]
    capabilities = json.loads(space.run(argv, user=place.user_uid))
    return str(capabilities["version"])


def _play_all(
    place: Workplace, guest: Guest, flows: int, *, show: bool
) -> tuple[str, str, tuple[Round, ...]]:
    say(f"making a network namespace with a {QUEUES}-queue tap of uid {place.user_uid}")
    with namespace(place.user_uid, HOST) as space, activated_helper(place) as started_by:
        say(f"helper waits behind {place.socket} ({started_by})")
        description = write_description(place, guest, space.tap)
        say(f"bpferry run {description.name}, as uid {place.user_uid}")
        with running_vm(place, space, description) as machine:
            hello = machine.console.wait_until_ready()
            say(f"the guest is up: Linux {hello.get('kernel')}")
            rounds = tuple(_rounds(space, machine, flows, show=show))
            machine.console.ask("poweroff")
            machine.wait()
        return qemu_version(place, space), started_by, rounds


def _rounds(space: Namespace, machine: Vm, flows: int, *, show: bool) -> Iterator[Round]:
    """Play a round with an even table, then one with a table that the guest has changed."""
    console = machine.console
    console.ask("address", ipv4=GUEST[0], ipv6=GUEST[1])
    console.ask("channels", count=QUEUES)
    with live_maps(machine.qemu_pid()) as maps, counted_runs():
        console.ask("equal", queues=QUEUES)
        even = wait_for(maps, "an even table", lambda s: s.redirect and s.queues == QUEUES)
        yield _played(
            play_round(EVEN_TITLE, space, machine, even, make_flows(flows, routes(), EVEN_SEED)),
            show=show,
        )
        console.ask("weights", weights=list(WEIGHTS))
        changed = wait_for(maps, "the changed table", _follows_weights)
        yield _played(
            play_round(
                CHANGED_TITLE, space, machine, changed, make_flows(flows, routes(), CHANGED_SEED)
            ),
            show=show,
        )


def _follows_weights(steering: Steering) -> bool:
    return set(steering.table) == {queue for queue, weight in enumerate(WEIGHTS) if weight}


def _played(played: Round, *, show: bool) -> Round:
    if show:
        print(draw(played, QUEUES), flush=True)
    return played


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration and return the exit status."""
    options = parse(arguments)
    # A terminal's hang-up and systemctl's stop take the same way out as Ctrl-C.
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
    if options.json:
        print(json.dumps(as_json(result.rounds, QUEUES, result.qemu, result.started_by)))
    else:
        print(last_line(result.rounds))
    good = all(played.steered_by_ebpf and not played.mismatches for played in result.rounds)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
