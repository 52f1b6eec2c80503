# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every target with what a fuzzer makes up, and with all that one has ever found."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.abuse.amounts import amount
from tests.abuse.conftest import say
from tests.fuzz.seeds import REPOSITORY, seeds
from tests.fuzz.targets import SCRATCH, TARGETS

__all__ = ["say"]

RUNS: Final = {
    name: amount(1000, 10_000_000 if name.startswith("wire") else 1_000_000) for name in TARGETS
}
FUZZED: Final = amount(("wire-request", "policy"), tuple(TARGETS))
"""To start a fuzzer takes ten times as long as these few runs."""

FOUND: Final = Path(__file__).parent / "found"

pytestmark = pytest.mark.privileged


@pytest.fixture
def _scratch() -> Iterator[None]:
    SCRATCH.mkdir(mode=0o700)
    yield
    shutil.rmtree(SCRATCH)


@pytest.mark.usefixtures("_scratch")
@pytest.mark.parametrize("name", TARGETS)
def test_what_was_found_before(name: str) -> None:
    """Real input, and every input that was wrong once."""
    kept = [path.read_bytes() for path in sorted((FOUND / name).glob("*"))]
    for content in [*seeds(name), *kept]:
        TARGETS[name](content)


@pytest.mark.slow
@pytest.mark.timeout(amount(300, 0))
@pytest.mark.parametrize("name", FUZZED)
def test_what_a_fuzzer_makes_up(name: str, tmp_path: Path, say: Callable[[str], None]) -> None:
    """As many inputs as wanted were tried, and none was wrong."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", name, str(RUNS[name]), str(tmp_path)],
        check=False, capture_output=True, text=True, errors="replace", cwd=REPOSITORY,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": ":".join(sys.path),
            "BPFERRY_SCRATCH": str(tmp_path / "scratch"),
        },
    )  # fmt: skip
    counted = re.search(r"^Done (\d+) runs", done.stderr, re.MULTILINE)
    say(f"fuzz, {name}: N = {counted[1] if counted else 'not all'}")

    assert done.returncode == 0, done.stderr[-3000:]
    assert counted is not None, done.stderr[-3000:]
    assert int(counted[1]) >= RUNS[name]
    assert covered(done.stderr) > 20


def covered(output: str) -> int:
    """Return how many places in the code the last line with a number of them says were reached.

    Without that, the fuzzer is blind: the code was not instrumented.
    """
    return int(re.findall(r"cov: (\d+)", output)[-1])
