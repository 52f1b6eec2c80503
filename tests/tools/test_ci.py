# SPDX-License-Identifier: LGPL-2.1-or-later
"""The check that no test is skipped without leave, and the README's test command."""

import subprocess
from pathlib import Path
from typing import Final

CI: Final = Path(__file__).parents[2] / ".ci"

REASON: Final = "this machine has no usable KVM"

REPORT: Final = """
<testsuites><testsuite>
<testcase classname="tests.a" name="test_runs"/>
<testcase classname="tests.a" name="test_skips">
<skipped type="pytest.skip" message="{}"/>
</testcase>
</testsuite></testsuites>
"""


def check_skips(report: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the check on *report*, with the list of the repository."""
    path = folder / "report.xml"
    path.write_text(report)
    return subprocess.run(
        ["/usr/bin/python3", "-I", CI / "skips.py", path, CI / "allowed-skips.txt"],
        check=False,
        capture_output=True,
        text=True,
    )


def test_skip_for_an_allowed_reason_passes(tmp_path: Path) -> None:
    """A reason that is in the list, word for word, is not a failure."""
    assert 0 == check_skips(REPORT.format(REASON), tmp_path).returncode


def test_skip_for_another_reason_fails(tmp_path: Path) -> None:
    """Any other reason is one, and the test is named."""
    done = check_skips(REPORT.format("no time"), tmp_path)

    assert (1, "skipped without leave: tests.a.test_skips: no time\n") == (
        done.returncode,
        done.stderr,
    )


def test_comment_is_not_a_reason(tmp_path: Path) -> None:
    """A comment line of the list allows nothing."""
    comment = (CI / "allowed-skips.txt").read_text().splitlines()[0]

    assert 1 == check_skips(REPORT.format(comment), tmp_path).returncode


def test_empty_report_fails(tmp_path: Path) -> None:
    """A run without any test is not a good one."""
    assert 1 == check_skips("<testsuites/>", tmp_path).returncode
