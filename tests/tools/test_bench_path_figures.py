# SPDX-License-Identifier: LGPL-2.1-or-later
"""What tools/bench path sends, and what it makes of its measurements."""

import struct
from pathlib import Path

import pytest

from benchmarks.path_figures import FAMILIES, QUEUES, STEERED, Lane, PathFigures, Run, as_table
from benchmarks.path_picture import draw
from benchmarks.path_plan import FLOWS, FRAME_BYTES, HEAD, MARK, flows, frame, plan, steering
from guest.packets import parse

CARD = bytes.fromhex("525400000100")
ETHERNET_BYTES = 14


def figures(ebpf: int = 100, astray: int = 0) -> PathFigures:
    """Return three rounds in which each packet costs 100 ns, but *ebpf* ns with eBPF."""
    made = PathFigures()
    for family in FAMILIES:
        for queues in QUEUES:
            for steered in STEERED:
                with_ebpf = steered == "ebpf"
                sender = ebpf if with_ebpf else 100
                lost = astray if with_ebpf else 0
                runs = [Run(1000, 1_000_000, sender * 1000, 0, 1000 - lost)] * 3
                made.of(Lane(family, steered, queues)).extend(runs)
    return made


def missed(made: PathFigures) -> set[str]:
    """Return what is not as wanted."""
    return {verdict.key for verdict in made.verdicts() if not verdict.met}


def test_just_met() -> None:
    """What is exactly at its limit is met."""
    assert missed(figures(ebpf=150)) == set()


def test_just_missed() -> None:
    """What is a little above its limit is missed, and so is one packet on another queue."""
    assert missed(figures(ebpf=151)) == {"ebpf_to_kernel", "ebpf_to_user"}
    assert missed(figures(astray=1)) == {"astray"}


def test_drift_cancels() -> None:
    """A lane is compared with its rival of the same round, not with what that was on average."""
    made = figures()
    for steered, times in (("ebpf", 120), ("kernel", 100)):
        for lane, runs in made.runs.items():
            if lane.steered == steered:
                runs[:] = [runs[0]._replace(sender=times * drift) for drift in (1, 90, 7)]

    assert made.cost_times("ebpf", "kernel") == pytest.approx(1.2)


def test_a_row_is_of_one_queue() -> None:
    """Rate and cost are multiples of one queue of the same family."""
    made = figures()
    made.of(Lane(6, "user", 4))[:] = [Run(1000, 2_000_000, 0, 400_000, 250)] * 3
    row = next(row for row in made.rows() if row.lane == Lane(6, "user", 4))

    assert (row.rate, row.readers_ns, row.rate_times, row.cost_times) == (500_000, 400, 0.5, 4)
    assert row.as_asked_percent == 25
    assert "user space        6      4        500        0      400     0.50     4.00" in as_table(
        made
    )


def test_the_picture_is_the_same_again(tmp_path: Path) -> None:
    """It has one bar for each lane and no script."""
    texts = []
    for name in ("one.svg", "two.svg"):
        draw(figures(), tmp_path / name)
        texts.append((tmp_path / name).read_text())

    assert texts[0] == texts[1]
    assert "<script" not in texts[0]
    assert texts[0].count("<rect") >= len(FAMILIES) * len(QUEUES) * len(STEERED)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_frame_is_of_its_flow(family: int) -> None:
    """The guest's own reader of packets finds the same ends; at the end is the flow's number."""
    flow = flows(family)[7]
    made = frame(flow, 7, CARD)

    assert (len(made), made[:6]) == (FRAME_BYTES, CARD)
    assert parse(made[ETHERNET_BYTES:]) == (
        family, "udp", str(flow.source), flow.source_port,
        str(flow.destination), flow.destination_port,
    )  # fmt: skip
    assert struct.unpack("=II", made[-8:]) == (MARK, 7)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_flows_use_all_queues(family: int) -> None:
    """As the table asks for, and about equally often."""
    made = plan(4, family, CARD)
    records = range(HEAD.size, len(made), 4 + FRAME_BYTES)
    queues = [struct.unpack_from("=I", made, at)[0] for at in records]

    assert [steering(4).queue_for(flow) for flow in flows(family)] == queues
    assert min(queues.count(queue) for queue in range(4)) > FLOWS / 8
