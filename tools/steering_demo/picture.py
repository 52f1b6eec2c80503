# SPDX-License-Identifier: LGPL-2.1-or-later
"""The table, the bars and the JSON: what a person and a script see of the rounds."""

from collections.abc import Sequence
from typing import Final

from steering_demo.rounds import Round

BAR_CELLS: Final = 40
"""Width of the longest bar, in characters."""


def draw(played: Round, queues: int) -> str:
    """Return the table and the bars of one round."""
    lines = [played.title, ""]
    lines.append(f"  {'queue':>5} {'in table':>9} {'predicted':>10} {'counted':>8}")
    longest = max([*played.counted.values(), 1])
    for queue in range(queues):
        counted = played.counted.get(queue, 0)
        entries = played.table.count(queue)
        row = f"  {queue:>5} {entries:>9} {played.predicted.get(queue, 0):>10} {counted:>8}"
        lines.append(f"{row}  {'█' * round(counted * BAR_CELLS / longest)}".rstrip())
    lines.append("")
    lines.append(f"  {played.flows} flows, {len(played.mismatches)} mismatches")
    lines.append(f"  the kernel ran the eBPF program {played.program_runs} times")
    return "\n".join([*lines, *(f"  {mismatch}" for mismatch in played.mismatches), ""])


def as_json(rounds: Sequence[Round], queues: int, qemu: str, started_by: str) -> dict[str, object]:
    """Return what ``--json`` prints."""
    return {
        "steering": steering_word(rounds),
        "flows": sum(played.flows for played in rounds),
        "mismatches": sum(len(played.mismatches) for played in rounds),
        "queues": _totals(rounds, queues),
        "qemu": qemu,
        "helper_started_by": started_by,
        "rounds": [
            {
                "title": played.title,
                "table": list(played.table),
                "predicted": [played.predicted.get(queue, 0) for queue in range(queues)],
                "counted": [played.counted.get(queue, 0) for queue in range(queues)],
                "mismatches": list(played.mismatches),
                "program_runs": played.program_runs,
            }
            for played in rounds
        ],
    }


def _totals(rounds: Sequence[Round], queues: int) -> list[dict[str, int]]:
    return [
        {
            "queue": queue,
            "predicted": sum(played.predicted.get(queue, 0) for played in rounds),
            "counted": sum(played.counted.get(queue, 0) for played in rounds),
        }
        for queue in range(queues)
    ]


def steering_word(rounds: Sequence[Round]) -> str:
    """Return who steered, as the kernel's count of the program's runs says."""
    return "ebpf" if all(played.steered_by_ebpf for played in rounds) else "not ebpf"


def last_line(rounds: Sequence[Round]) -> str:
    """Return the one line that says it all."""
    flows = sum(played.flows for played in rounds)
    mismatches = sum(len(played.mismatches) for played in rounds)
    who = "eBPF" if steering_word(rounds) == "ebpf" else "not eBPF"
    return f"steering: {who}; {flows} flows, {mismatches} mismatches"
