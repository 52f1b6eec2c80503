# SPDX-License-Identifier: LGPL-2.1-or-later
"""All benches, one after the other, and one table of what is wanted and what came out.

Each is a process of its own, since they need different packages and one fills the caches of
another. One that fails does not keep the others from running.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.interrupts import Interrupts

BENCH: Final = Path(__file__).parents[1] / "bench"

BENCHES: Final = (
    "exec", "fairness", "handover", "life", "path", "path-guest", "start", "tap", "watch",
)  # fmt: skip


class Outcome(NamedTuple):
    """What one bench printed; empty if it failed."""

    bench: str
    printed: dict[str, Any]

    @property
    def met(self) -> bool:
        """Whether it ran, and everything is as wanted."""
        return bool(self.printed.get("met"))


def measure(options: Sequence[str], interrupts: Interrupts) -> list[Outcome]:
    """Run every bench with *options*; each says on standard error why it fails."""
    outcomes = []
    for bench in BENCHES:
        interrupts.check()
        sys.stderr.write(f"bench: {bench}\n")
        # In our group, so that Ctrl-C ends it as well.
        done = subprocess.run(
            [str(BENCH), bench, "--json", *options],
            stdout=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        outcomes.append(Outcome(bench, json.loads(done.stdout) if done.stdout else {}))
    return outcomes


def as_object(outcomes: Sequence[Outcome]) -> dict[str, object]:
    """Return everything as one JSON object."""
    return {
        "benches": {outcome.bench: outcome.printed for outcome in outcomes},
        "met": all(outcome.met for outcome in outcomes),
    }


def as_table(outcomes: Sequence[Outcome]) -> str:
    """Return the wanted values and the results for a person, and what is missed once more."""
    lines = [f"{'bench':<10} {'wanted':<18} {'at most':>10} {'measured':>10}"]
    missed = []
    for outcome in outcomes:
        if not outcome.printed:
            lines.append(f"{outcome.bench:<10} failed")
            missed.append(outcome.bench)
        for key, entry in outcome.printed.get("wanted", {}).items():
            lines.append(_line(outcome.bench, key, entry))
            if not entry["met"]:
                missed.append(f"{outcome.bench} {key}")
    return "\n".join([*lines, "", f"missed: {', '.join(missed) or 'nothing'}"]) + "\n"


def _line(bench: str, key: str, entry: dict[str, Any]) -> str:
    values = f"{entry['at_most']:>10.1f} {entry['value']:>10.2f} {entry['unit']:<6}"
    return f"{bench:<10} {key:<18} {values} {'met' if entry['met'] else 'missed'}"
