# SPDX-License-Identifier: LGPL-2.1-or-later
"""tools/bench watch: what it makes of its measurements, and what it prints."""

import json
import subprocess
from pathlib import Path
from typing import Final

import pytest

from benchmarks.watch import RATE, Look, Watched, as_table

BENCH: Final = Path(__file__).parents[2] / "tools" / "bench"


def seen(*rounds: tuple[float, float, float]) -> Watched:
    """Return measurements of QEMU's time before, during and after a watch, by round."""
    found = Watched()
    for before, during, after in rounds:
        found.before.append(Look(before, 0, 1000))
        found.during.append(Look(during, 1, 1000))
        found.after.append(Look(after, 0, 1000))
    return found


def test_a_cost_within_the_noise_is_met() -> None:
    """Each round is compared with itself: the host's load may change from one to the next."""
    (qemu, rate) = seen((95, 102, 105), (190, 204, 210), (50, 51, 50)).verdicts()

    assert (2.0, 10.0) == pytest.approx((qemu.value, qemu.at_most))
    assert qemu.met
    assert (0, 0) == (rate.value, rate.at_most)


def test_a_cost_above_the_noise_is_missed() -> None:
    """A fifth more of QEMU's time, where nothing else changes."""
    (qemu, _) = seen((100, 120, 100), (200, 240, 200)).verdicts()

    assert (20.0, 0.0) == pytest.approx((qemu.value, qemu.at_most))
    assert not qemu.met
    assert "missed" in as_table(seen((100, 120, 100)))


@pytest.mark.privileged
@pytest.mark.kernel
@pytest.mark.qemu
@pytest.mark.guest
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_vm_under_traffic_is_measured_with_and_without() -> None:
    """The guest gets packets in each measurement, and bpferry works only while somebody watches."""
    done = subprocess.run(
        [BENCH, "watch", "--runs", "1", "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    before, during, after = (printed[name][0] for name in ("before", "during", "after"))

    assert all(0 < look["rate"] < 2 * RATE for look in (before, during, after))
    assert all(look["qemu_ms"] > 0 for look in (before, during, after))
    assert during["supervisor_ms"] > 0
    assert {"qemu", "rate"} == set(printed["wanted"])
