# SPDX-License-Identifier: LGPL-2.1-or-later
# ruff: noqa: INP001 - a script, not a package
"""Fail when a test was skipped for a reason that nobody allowed.

    skips.py REPORT ALLOWED

REPORT is pytest's JUnit XML. ALLOWED has one reason a line, word for word as the test gives it;
lines that begin with "#" are comments. Also fails when the report has no test at all.
"""

import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path


def skips(report: ET.Element) -> Iterator[tuple[str, str]]:
    """Yield the name of each skipped test and why."""
    for case in report.iter("testcase"):
        for skipped in case.iter("skipped"):
            yield f"{case.get('classname')}.{case.get('name')}", skipped.get("message", "")


def main() -> int:
    """Return 1 after naming each skip that is not allowed."""
    report, allowed_path = sys.argv[1:]
    root = ET.parse(report).getroot()  # noqa: S314 - pytest wrote it, on this machine
    lines = Path(allowed_path).read_text().splitlines()
    allowed = {line.strip() for line in lines if not line.startswith("#")} - {""}
    wrong = [(name, reason) for name, reason in skips(root) if reason not in allowed]
    for name, reason in wrong:
        print(f"skipped without leave: {name}: {reason}", file=sys.stderr)  # noqa: T201
    if next(root.iter("testcase"), None) is None:
        print(f"'{report}' has no test in it", file=sys.stderr)  # noqa: T201
        return 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
