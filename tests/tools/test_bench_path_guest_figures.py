# SPDX-License-Identifier: LGPL-2.1-or-later
"""What tools/bench path-guest makes of its measurements."""

from pathlib import Path
from typing import Final

import pytest

from benchmarks.path_guest_figures import (
    ONE,
    STEERED,
    GuestFigures,
    Lane,
    Look,
    as_object,
    as_table,
)
from benchmarks.path_picture import draw_guests

LANES: Final = [Lane(steered) for steered in STEERED]


def look(packets: int, sender: int, guest: int) -> Look:
    """Return a look of a millisecond; QEMU's main loop takes no time."""
    return Look(elapsed=1_000_000, packets=packets, sender=sender, loop=0, vhost=0, guest=guest)


def figures(ebpf: int = 100, astray: float = 0) -> GuestFigures:
    """Return three rounds in which each packet costs the host 100 ns, but *ebpf* ns with eBPF."""
    made = GuestFigures()
    for lane in LANES:
        with_ebpf = lane.steered == "ebpf"
        sender = ebpf if with_ebpf else 100
        made.looks[lane] = [look(1000, sender * 1000, 900_000)] * 3
        if lane.steered != "user":
            made.floods[lane] = [look(5000, 0, 0)] * 3
        made.as_asked[lane] = 100 - astray if with_ebpf else 100
    return made


def missed(made: GuestFigures) -> set[str]:
    """Return what is not as wanted."""
    return {verdict.key for verdict in made.verdicts() if not verdict.met}


def test_just_met_and_just_missed() -> None:
    """What is exactly at its limit is met; a little more is missed, and so is one packet astray."""
    assert missed(figures(ebpf=150)) == set()
    assert missed(figures(ebpf=151)) == {"ebpf_to_kernel", "ebpf_to_user"}
    assert missed(figures(astray=0.01)) == {"astray"}


def test_drift_cancels() -> None:
    """A lane is compared with the one queue of the same round."""
    made = figures()
    for lane, cost in ((Lane("kernel"), 300_000), (ONE, 100_000)):
        one = made.looks[lane][0]
        made.looks[lane] = [one._replace(sender=cost * drift) for drift in (1, 90, 7)]
    row = next(row for row in made.rows() if row.lane == Lane("kernel"))

    assert (3, 0.3 * 7) == pytest.approx((row.host_times, row.sender_us))


def test_a_lane_without_floods_has_no_rate() -> None:
    """What QEMU steers is flooded once, at the end, and said in a sentence."""
    made = figures()
    made.stopped = 2816
    printed = as_table(made)

    assert "kernel's own   no     5000000     0.10     0.00     0.00     0.90     1.00" in printed
    assert "user space     no           -     0.10     0.00     0.00     0.90        -" in printed
    assert "\nin a flood, user space took 2816 packets, and then no more\n" in printed
    assert 2816 == as_object(made)["stopped_after"]
    made.stopped = None
    assert "\nin a flood, user space did not stop\n" in as_table(made)


def test_the_picture_is_the_same_again(tmp_path: Path) -> None:
    """It has a bar of two parts for each lane, its name below, and no script."""
    texts = []
    for name in ("one.svg", "two.svg"):
        draw_guests(figures(), tmp_path / name)
        texts.append((tmp_path / name).read_text())

    assert texts[0] == texts[1]
    assert "<script" not in texts[0]
    assert texts[0].count("<rect") >= 2 * len(LANES)
    assert all(f">{name}<" in texts[0] for name in STEERED.values())
