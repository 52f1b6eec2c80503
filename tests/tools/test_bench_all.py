# SPDX-License-Identifier: LGPL-2.1-or-later
"""tools/bench all: what it makes of what each bench prints."""

import re
from pathlib import Path

from benchmarks.__main__ import DEFAULT_RUNS
from benchmarks.all import BENCHES, Outcome, as_object, as_table

FIGURES = Path(__file__).parents[2] / "docs/figures.md"


def printed(**values: float) -> dict[str, object]:
    """Return what a bench prints whose *values* should all be at most 1."""
    wanted = {
        key: {"value": value, "at_most": 1.0, "unit": "ms", "met": value <= 1}
        for key, value in values.items()
    }
    return {"wanted": wanted, "met": all(value <= 1 for value in values.values())}


def test_all_met() -> None:
    """Nothing is missed, and the object says so."""
    outcomes = [Outcome("tap", printed(cold=1.0)), Outcome("life", printed(start=0.5))]

    assert as_table(outcomes).endswith("\nmissed: nothing\n")
    assert as_object(outcomes)["met"] is True


def test_one_missed() -> None:
    """It is named with its bench; the others are in the table as well."""
    outcomes = [Outcome("tap", printed(cold=1.1, warm=1.0)), Outcome("life", printed(start=0.5))]
    table = as_table(outcomes)

    assert table.endswith("\nmissed: tap cold\n")
    assert "life       start                     1.0       0.50 ms     met\n" in table
    assert as_object(outcomes)["met"] is False


def test_one_failed() -> None:
    """A bench that printed nothing is not a bench whose figures are met."""
    outcomes = [Outcome("tap", {}), Outcome("life", printed(start=0.5))]

    assert "\nmissed: tap\n" in as_table(outcomes)
    assert as_object(outcomes)["met"] is False


def test_each_bench_is_among_them() -> None:
    """A new bench is run by it, and the page of figures has it."""
    text = FIGURES.read_text()

    assert sorted(BENCHES) == sorted(DEFAULT_RUNS.keys() - {"all"})
    assert set(BENCHES) <= set(re.findall(r"`tools/bench ([\w-]+)`", text))
