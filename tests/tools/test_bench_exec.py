# SPDX-License-Identifier: LGPL-2.1-or-later
"""tools/bench exec: what it prints. How quick a start is depends on the host."""

import json
import subprocess
from pathlib import Path
from typing import Final

import pytest

from launchers.virsh import is_installed

BENCH: Final = Path(__file__).parents[2] / "tools" / "bench"
RUNS: Final = 2


@pytest.mark.privileged
@pytest.mark.kernel
@pytest.mark.qemu
@pytest.mark.slow
def test_a_start_by_exec_takes_longer_than_one_without() -> None:
    """Each was measured as often as the others, and each wanted value says whether it is met."""
    arguments = ["exec", "--runs", str(RUNS), "--json"]
    done = subprocess.run([BENCH, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    times, wanted = printed["times"], printed["wanted"]

    assert {RUNS} == {row["count"] for row in times.values()}
    assert times["exec"]["p50_ms"] > times["bare"]["p50_ms"] > 0
    assert {"exec", "probe"} == set(wanted) - {"virsh"}
    assert ("virsh" in wanted) == is_installed()
    met = {key: entry["value"] <= entry["at_most"] for key, entry in wanted.items()}
    assert met == {key: entry["met"] for key, entry in wanted.items()}
