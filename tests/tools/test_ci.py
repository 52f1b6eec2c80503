# SPDX-License-Identifier: LGPL-2.1-or-later
"""The check that no test is skipped without leave, and the README's test command."""

import re
import subprocess
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).parents[2]

CI: Final = REPOSITORY / ".ci"

JOIN: Final = REPOSITORY / "tools/prepare/join_reports.py"

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


def join(folder: Path, *reports: Path) -> subprocess.CompletedProcess[str]:
    """Join *reports* to one in *folder*."""
    command = ["/usr/bin/python3", "-I", *map(str, (JOIN, folder / "joined.xml", *reports))]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_a_skip_without_leave_is_seen_in_each_of_two_runs(tmp_path: Path) -> None:
    """All tests run as several parts, and what is checked is the report of all."""
    parts = [tmp_path / "one.xml", tmp_path / "two.xml"]
    for part, reason in zip(parts, (REASON, "no time"), strict=True):
        part.write_text(REPORT.format(reason))
    joined = join(tmp_path, *parts).returncode
    text = (tmp_path / "joined.xml").read_text()

    assert (0, 4) == (joined, text.count("<testcase "))
    assert "no time" in check_skips(text, tmp_path).stderr


def test_a_part_that_wrote_no_report_fails(tmp_path: Path) -> None:
    """It was killed, or crashed; nobody can say what was skipped."""
    part = tmp_path / "one.xml"
    part.write_text(REPORT.format(REASON))
    done = join(tmp_path, part, tmp_path / "two.xml")

    assert (1, True) == (done.returncode, done.stderr.startswith("pytest wrote no report: "))


def test_the_ten_slowest_of_all_runs_are_printed(tmp_path: Path) -> None:
    """Slowest first, whichever run had them."""
    parts = [tmp_path / "even.xml", tmp_path / "odd.xml"]
    for first, part in enumerate(parts):
        tests = (f'<testcase classname="t" name="{n}" time="{n}"/>' for n in range(first, 12, 2))
        part.write_text(f"<testsuites><testsuite>{''.join(tests)}</testsuite></testsuites>")
    printed = join(tmp_path, *parts).stdout.splitlines()

    assert [f"{seconds:6.1f} s  t.{seconds}" for seconds in range(11, 1, -1)] == printed[1:]


def test_what_runs_in_parts_of_its_own_is_there() -> None:
    """The last part is all the rest, so a path that has gone would be in none."""
    script = (REPOSITORY / "tools/test").read_text()
    listed = re.findall(r'^(\w+)="(tests/[^"]+)"', script, re.MULTILINE)
    paths = [path for _, words in listed for path in words.split()]

    assert ["hosts", "systems"] == [name for name, _ in listed]
    assert [] == [path for path in paths if not (REPOSITORY / path).exists()]
    assert len(paths) == len(set(paths))


def test_empty_report_fails(tmp_path: Path) -> None:
    """A run without any test is not a good one."""
    assert 1 == check_skips("<testsuites/>", tmp_path).returncode
