# SPDX-License-Identifier: LGPL-2.1-or-later
"""Starts of a VM that has a card with four queues and an eBPF set, on a host that is played.

An ordinary user starts it, with both helpers, which run already. The helper has loaded a set ahead
before each start: it is asked, and a start without one is not measured, since the time of a load
says nothing about bpferry. The rival is the same QEMU with four queues of a tap that is there, and
without RSS, so that it has nothing to load.
"""

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.bare import start_bare, without_own
from benchmarks.client import Client
from benchmarks.command import BenchError
from benchmarks.exec import as_user
from benchmarks.installed import install_client
from benchmarks.notified import ready
from launchers.host import LauncherHost, launcher_host
from steering_demo.workplace import BRIDGE

QUEUES: Final = 4
TAP: Final = "bench0"
DESCRIPTION: Final = f"""\
name = "steered"
memory = "64 MiB"
vcpus = 2
accelerator = "tcg"
require-ebpf = true

[[cards]]
bridge = "{BRIDGE}"
queues = {QUEUES}
rss = true
"""

AHEAD_WITHIN_S: Final = 60.0
POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Steered:
    """What starts the VM, and what starts its rival. Borrows the host."""

    host: LauncherHost
    run: Sequence[str]
    bare: Sequence[str]
    notify: Path

    def start(self) -> int:
        """Start the VM with a set that is ready, end it, and return how many ns the start took."""
        _wait_for_set(self.host)
        with ready(self.run, self.notify) as (_, took_ns):
            return took_ns

    def start_bare(self) -> int:
        """Start its rival and end it; return how many ns it took until the guest ran."""
        return start_bare(self.bare)


@contextmanager
def steered() -> Iterator[Steered]:
    """Play the host, with everything started that stays."""
    with launcher_host() as host:
        place, space = host.place, host.space
        description, notify = host.put("steered.toml", DESCRIPTION), place.home / "notify"
        client = [f"NOTIFY_SOCKET={notify}", *install_client(place.folder), "run"]
        run = as_user(place, space, [*client, str(description)])
        dry = as_user(place, space, [*client, "--dry-run=json", str(description)])
        printed = subprocess.run(dry, check=True, capture_output=True, cwd="/").stdout
        flags = ["mode", "tap", "multi_queue", "vnet_hdr", "user", str(place.user_uid)]
        space.run(["ip", "tuntap", "add", "dev", TAP, *flags])
        bare = [_of_rival(word) for word in without_own(json.loads(printed)["argv"])]
        # Once for the helpers' start, and so that one of them loads a set ahead.
        with ready(run, notify):
            pass
        yield Steered(host, run, space.command(bare, user=place.user_uid), notify)


def _of_rival(word: str) -> str:
    """Return a word of QEMU's with the tap that is there in place of what the helpers give."""
    if not word.startswith("{"):
        return word
    fields: dict[str, Any] = json.loads(word)
    if fields.pop("fds", None):
        fields |= {"ifname": TAP, "queues": QUEUES, "script": "no", "downscript": "no"}
    if fields.pop("ebpf-rss-fds", None):
        del fields["rss"]
    return json.dumps(fields)


def _wait_for_set(host: LauncherHost) -> None:
    client = Client(host.place.socket("bpf"), host.place.log("bpf"))
    deadline = time.monotonic() + AHEAD_WITHIN_S
    while not client.ready():
        if time.monotonic() > deadline:
            raise BenchError("the helper has not loaded a set ahead")
        time.sleep(POLL_S)
