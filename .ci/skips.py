# SPDX-License-Identifier: LGPL-2.1-or-later
# ruff: noqa: INP001 - a script, not a package
"""Fail if a test was skipped for a reason that is not allowed.

    skips.py REPORT ALLOWED

REPORT is pytest's JUnit XML. ALLOWED has one reason per line, word for word as the test gives it;
lines that begin with "#" are comments. Also fails if the report has no tests at all.
"""

import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path


def skips(report: ET.Element) -> Iterator[tuple[str, str]]:
    """Yield the name of each skipped test and the reason."""
    for case in report.iter("testcase"):
        for skipped in case.iter("skipped"):
            yield f"{case.get('classname')}.{case.get('name')}", skipped.get("message", "")


def main() -> int:
    """Print each skip that is not allowed, and return 1 if there is one."""
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
