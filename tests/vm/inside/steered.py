# SPDX-License-Identifier: LGPL-2.1-or-later
"""Run a VM as a user, send it flows, and look at what steers them; this runs in the host, as root.

    steered.py USER DOCUMENT GUEST

The guest gets the addresses 10.85.0.GUEST and fd85::GUEST; the bridge has those that end in 1.
Prints one JSON object.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Final

from guest.console import Console
from guest.flows import Route, make_flows
from guest.netns import Namespace
from steering_demo.rounds import play_round
from steering_demo.vm import Vm
from steering_demo.witness import counted_runs, live_maps, wait_for

QUEUES: Final = 4
FLOWS: Final = 48
HELLO_SECONDS: Final = 200
GOODBYE_SECONDS: Final = 150
VHOST: Final = "/dev/vhost-net"
HERE: Final = Namespace(holder=1, tap="")
"""No namespace of our own: that of the host's first process."""


def as_user(user: str, *command: str) -> list[str]:
    """Return *command* so that *user* runs it."""
    become = ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "--bounding-set=-all"]
    return [*become, "--", "env", f"HOME=/home/{user}", *command]


@contextmanager
def running(user: str, document: str, said: IO[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start the VM, and kill it if it is still there."""
    command = as_user(user, "bpferry", "run", document)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, cwd="/"
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def vhost_fds(pid: int) -> int:
    """Return how many fds of vhost-net the process *pid* has open."""
    found = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        # It may be closed meanwhile, as those below.
        with suppress(FileNotFoundError):
            found += str(link.readlink()) == VHOST
    return found


def tap_queues(pid: int) -> dict[str, int]:
    """Return how many queues of which tap the process *pid* has open."""
    lines: list[str] = []
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        with suppress(FileNotFoundError):
            lines += info.read_text().splitlines()
    return dict(Counter(line.split()[1] for line in lines if line.startswith("iff:")))


def vhost_turns(pid: int) -> int:
    """Return how often the vhost threads of *pid* were woken: they are what moves the packets."""
    turns = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            if (task / "comm").read_text().startswith("vhost-"):
                lines = dict(line.split(":\t", 1) for line in (task / "status").open())
                turns += int(lines["voluntary_ctxt_switches"])
    return turns


def play(machine: Vm, guest: str) -> dict[str, object]:
    """Send flows to the guest while its table is even, and return what was seen."""
    console = machine.console
    started = time.monotonic()
    console.wait_until_ready(HELLO_SECONDS)
    ready = time.monotonic() - started
    ipv4 = Route("10.85.0.1", f"10.85.0.{guest}")
    ipv6 = Route("fd85::1", f"fd85::{guest}")
    console.ask("address", ipv4=f"{ipv4.destination}/24", ipv6=f"{ipv6.destination}/64")
    console.ask("channels", count=QUEUES)
    pid = machine.qemu_pid()
    with live_maps(pid) as maps, counted_runs():
        console.ask("equal", queues=QUEUES)
        even = wait_for(maps, "an even table", lambda s: s.redirect and s.queues == QUEUES)
        turns = vhost_turns(pid)
        played = play_round("", HERE, machine, even, make_flows(FLOWS, [ipv4, ipv6]))
        turns = vhost_turns(pid) - turns
    return asdict(played) | {
        "flows": played.flows,
        "taps": tap_queues(pid),
        "vhost_fds": vhost_fds(pid),
        "vhost_turns": turns,
        "guest_ready_after": round(ready, 1),
    }


def main(user: str, document: str, guest: str) -> None:
    """Do it, and print what was seen."""
    with tempfile.TemporaryFile("w+") as said:
        try:
            with running(user, document, said) as process:
                assert process.stdin is not None
                assert process.stdout is not None
                machine = Vm(Console(process.stdout, process.stdin), process)
                seen = play(machine, guest)
                machine.console.ask("poweroff")
                seen["status"] = process.wait(GOODBYE_SECONDS)
        finally:
            said.seek(0)
            text = said.read()
            sys.stderr.write(text)
    print(json.dumps(seen | {"said": text}))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
