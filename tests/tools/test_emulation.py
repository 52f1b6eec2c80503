# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which tests the suite runs a second time: those that QEMU's emulation failed, and no others."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

SUITE = """\
import pathlib, pytest, sys
COUNT = pathlib.Path(__file__).with_name("count")

@pytest.fixture
def place(tmp_path):
    yield tmp_path
    with COUNT.open("a") as file:
        file.write("x")

@pytest.mark.{marker}
def test_with_a_guest(place):
    assert {passes}, "demo: error: {words}"
"""


def run_suite(folder: Path, marker: str, passes: str, words: str) -> tuple[str, int]:
    """Run one test that fails with *words* unless *passes*; return output and number of runs."""
    (folder / "test_it.py").write_text(SUITE.format(marker=marker, passes=passes, words=words))
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    guest\n    slow\n")
    done = subprocess.run(
        [sys.executable, "-B", "-m", "pytest", "-p", "tests.support.emulation", "-p",
         "no:cacheprovider", "--rootdir", str(folder), str(folder)],
        check=False, capture_output=True, text=True, cwd=REPOSITORY, timeout=200,
    )  # fmt: skip
    return done.stdout, len((folder / "count").read_text())


ONCE = "COUNT.exists()"
FAULT = "the guest saw 0 of 200 packets"


def test_a_fault_of_the_emulation_is_tried_again_and_told(tmp_path: Path) -> None:
    """Fixtures too are made anew; the summary names the test, and what was wrong."""
    output, ran = run_suite(tmp_path, "guest", ONCE, FAULT)
    assert ran == 2
    assert "1 passed" in output
    assert "test_with_a_guest: a guest's card got no interrupt" in output


def test_what_a_test_printed_is_looked_at_too(tmp_path: Path) -> None:
    """QEMU's last words are on its stderr, which a test prints with what else it knows."""
    passes = f"{ONCE} or print('iotlb_to_section: Assertion', file=sys.stderr)"
    output, ran = run_suite(tmp_path, "guest", passes, "the guest is gone")
    assert ran == 2
    assert "test_with_a_guest: QEMU 10.0 ended itself" in output


@pytest.mark.parametrize(
    ("marker", "passes", "words", "times"),
    [
        ("guest", "False", FAULT, 2),
        ("guest", ONCE, "the guest saw 199 of 200 packets", 1),
        ("guest", ONCE, "the guest was not ready in time; Kernel panic - not syncing", 1),
        ("slow", ONCE, FAULT, 1),
    ],
    ids=["a second fault", "another fault", "a panic", "no guest"],
)
def test_other_failures_are_failures(
    tmp_path: Path, marker: str, passes: str, words: str, times: int
) -> None:
    """So are a second one, one without a sign of the emulation, and one without a guest."""
    output, ran = run_suite(tmp_path, marker, passes, words)
    assert ran == times
    assert "1 failed" in output
