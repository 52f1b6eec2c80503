# SPDX-License-Identifier: LGPL-2.1-or-later
"""VMs that start, stop, get and lose cards and move, for as long as one likes.

Two users on two hosts, each near the quota of both helpers. What everybody holds is exact at every
step, the helpers' memory does not grow, and nothing is left in the end.
"""

import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

import pytest

from bpferry_wire.messages import Load
from tests.abuse.amounts import IS_LONG, amount
from tests.abuse.fleet import QUOTA, Fleet
from tests.abuse.host import PATIENCE_S, USERS, VmHost, vm_host
from tests.abuse.slope import resident_kib, slope_of
from tests.support.census import fd_targets, wait_until
from tests.support.people import ask_once

STEPS: Final = amount(12, 5_000)
SEED: Final = 11_884
"""With which the short form does everything, and is refused everything, at least once."""

WARM: Final = amount(1, 2_500)
"""Sets that each helper for eBPF loads before the first step. Its memory grows by 1 MiB in the
first 2,000, in small holes between what it keeps, and by 4 KiB in 1,600 after the next 800."""

MOST_KIB_A_STEP: Final = 0.05
"""In 5,000 steps, 250 KiB. A set that a helper forgets to close has more than that of its own
accord, and an object of Python's that it keeps for each step has 0.05 KiB at the least."""

POLICY: Final = (
    f"[load]\nusers = {[person.uid for person in USERS]}\n"
    f"[quota]\nsets-per-user = {QUOTA}\ntaps-per-user = {QUOTA}\n"
    "loads-at-once = 1000\nloads-per-second = 1000\nloads-per-second-in-total = 1000\n"
    "taps-at-once = 1000\ntaps-per-second = 1000\ntaps-per-second-in-total = 1000\n"
    + "".join(f'[users.{person.uid}]\nbridges = ["*"]\n' for person in USERS)
)
"""The pace does not matter."""

FDS_OF_A_SET: Final = 4

COME_AND_GO: Final = ("/tun", "anon_inode:bpf-map", "anon_inode:bpf-prog", "ledger.msgpack")
"""Of spare taps and of sets that are loaded ahead; the ledger is open while one can add to it."""


def load_often(host: VmHost, load: Load) -> None:
    """Have *host* load WARM sets, one after the other, that nobody keeps."""
    for _ in range(WARM):
        answered = ask_once(host.bpf.path, load, USERS[0])
        with answered.fds as fds:
            assert len(fds) == FDS_OF_A_SET, answered.reply


def open_in_helpers(host: VmHost) -> Counter[str]:
    """Return the kinds of fds that both helpers have open for good, once nobody asks them."""
    found: Counter[str] = Counter()
    for helper in (host.bpf, host.tap):
        helper.settle()
        targets = fd_targets(helper.pid).elements()
        found += Counter(
            re.sub(r":\[\d+\]$", "", target)
            for target in targets
            if not target.endswith(COME_AND_GO)
        )
    return found


@pytest.mark.privileged
@pytest.mark.kernel
@pytest.mark.qemu
@pytest.mark.slow
@pytest.mark.timeout(amount(300, 0))
def test_a_soak(rss_digest: bytes, say: Callable[[str], None]) -> None:
    """Counted after each step by the helpers, on the hosts, and in the QEMUs."""
    with vm_host(POLICY) as here, vm_host(POLICY) as there:
        here.reaches(there)
        there.reaches(here)
        helpers = [helper for host in (here, there) for helper in (host.bpf, host.tap)]

        def opened() -> list[Counter[str]]:
            return [open_in_helpers(host) for host in (here, there)]

        before = opened()
        for host in (here, there):
            load_often(host, Load("rss", rss_digest))
        fleet = Fleet((here, there), SEED)
        began = time.monotonic()
        resident: list[list[int]] = []
        for _ in range(STEPS):
            fleet.step()
            resident.append([resident_kib(helper.pid) for helper in helpers])
        took_s = time.monotonic() - began
        fleet.end()
        slopes = [slope_of(samples) for samples in zip(*resident, strict=True)]
        say(
            f"soak: N = {STEPS} steps in {took_s:.0f} s; {dict(fleet.done)}; "
            f"KiB a step in each helper: {', '.join(f'{slope:.3f}' for slope in slopes)}"
        )

        assert {name for name, count in fleet.done.items() if count} >= {
            "start", "start refused", "attach", "attach refused", "detach", "stop",
            "move", "move refused",
        }  # fmt: skip
        # It takes longer than a short form until everything was done once.
        assert not IS_LONG or max(slopes) < MOST_KIB_A_STEP
        assert wait_until(lambda: not here.processes() + there.processes(), PATIENCE_S)
        assert wait_until(lambda: not here.tap.granted_taps() + there.tap.granted_taps())
        # While a set is being loaded ahead, a helper has more open: a BTF.
        assert wait_until(lambda: opened() == before), (before, opened())


def test_a_leak_would_be_seen() -> None:
    """A page in every 40 steps, among pages that come and go; but not a single step of 1 MiB."""
    noise = [20_000 + 4 * (number * 7919 % 5) for number in range(1_000)]
    leaking = [kib + number // 40 * 4 for number, kib in enumerate(noise)]
    stepped = [kib + (1024 if number > 900 else 0) for number, kib in enumerate(noise)]

    assert slope_of(noise) < MOST_KIB_A_STEP
    assert slope_of(stepped) < MOST_KIB_A_STEP
    assert slope_of(leaking) > MOST_KIB_A_STEP
