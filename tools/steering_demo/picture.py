# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tables and bars for people, and the JSON for scripts."""

from collections.abc import Sequence
from typing import Final

from steering_demo.play import Result
from steering_demo.rounds import Round
from steering_demo.stations import QUEUES

EXCHANGES_TITLE: Final = "Datagrams there and back, each in one frame:"

BAR_CELLS: Final = 40
"""Width of the longest bar, in characters."""


def draw(played: Round) -> str:
    """Return the table and the bars of one round."""
    lines = [played.title, ""]
    lines.append(f"  {'queue':>5} {'in table':>9} {'predicted':>10} {'counted':>8}")
    longest = max([*played.counted.values(), 1])
    for queue in range(QUEUES):
        counted = played.counted.get(queue, 0)
        entries = played.table.count(queue)
        row = f"  {queue:>5} {entries:>9} {played.predicted.get(queue, 0):>10} {counted:>8}"
        lines.append(f"{row}  {'█' * round(counted * BAR_CELLS / longest)}".rstrip())
    lines.append("")
    lines.append(f"  {played.flows} flows, {len(played.mismatches)} mismatches")
    lines.append(f"  the kernel ran the eBPF program {played.program_runs} times")
    return "\n".join([*lines, *(f"  {mismatch}" for mismatch in played.mismatches), ""])


def as_json(result: Result) -> dict[str, object]:
    """Return what ``--json`` prints."""
    rounds = result.rounds
    return {
        "steering": steering_word(rounds),
        "flows": sum(played.flows for played in rounds),
        "mismatches": sum(len(played.mismatches) for played in rounds),
        "queues": _totals(rounds),
        "qemu": result.qemu,
        "helper_started_by": result.started_by,
        "rounds": [
            {
                "title": played.title,
                "table": list(played.table),
                "predicted": [played.predicted.get(queue, 0) for queue in range(QUEUES)],
                "counted": [played.counted.get(queue, 0) for queue in range(QUEUES)],
                "mismatches": list(played.mismatches),
                "program_runs": played.program_runs,
            }
            for played in rounds
        ],
        "exchanges": [exchange._asdict() for exchange in result.exchanges],
    }


def _totals(rounds: Sequence[Round]) -> list[dict[str, int]]:
    return [
        {
            "queue": queue,
            "predicted": sum(played.predicted.get(queue, 0) for played in rounds),
            "counted": sum(played.counted.get(queue, 0) for played in rounds),
        }
        for queue in range(QUEUES)
    ]


def steering_word(rounds: Sequence[Round]) -> str:
    """Return what steered, according to the kernel's count of the program's runs."""
    return "ebpf" if all(played.steered_by_ebpf for played in rounds) else "not ebpf"


def last_line(result: Result) -> str:
    """Return the line that sums it up."""
    rounds = result.rounds
    flows = sum(played.flows for played in rounds)
    mismatches = sum(len(played.mismatches) for played in rounds)
    who = "eBPF" if steering_word(rounds) == "ebpf" else "not eBPF"
    back = sum(exchange.came_back for exchange in result.exchanges)
    datagrams = f"{back} of {len(result.exchanges)} datagrams came back"
    return f"steering: {who}; {flows} flows, {mismatches} mismatches; {datagrams}"
