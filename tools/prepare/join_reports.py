# SPDX-License-Identifier: LGPL-2.1-or-later
"""Join JUnit reports of several runs of pytest into one, and print the ten slowest tests of all.

join_reports.py JOINED REPORT...
"""

import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from heapq import nlargest

SLOWEST = 10


def slowest(root: ET.Element) -> Iterator[str]:
    """Yield a line for each of the slowest tests, with the seconds of its fixtures and its own."""
    timed = ((float(test.get("time", "0")), test) for test in root.iter("testcase"))
    for seconds, test in nlargest(SLOWEST, timed, key=lambda pair: pair[0]):
        yield f"{seconds:6.1f} s  {test.get('classname')}.{test.get('name')}"


def main() -> int:
    """Write the report that has the test suites of all others."""
    joined, *reports = sys.argv[1:]
    root = ET.Element("testsuites", name="pytest tests")
    for report in reports:
        try:
            suites = ET.parse(report).getroot().iter("testsuite")  # noqa: S314 - from pytest, here
        except OSError as error:
            sys.stderr.write(f"pytest wrote no report: {error}\n")
            return 1
        root.extend(suites)
    ET.ElementTree(root).write(joined, encoding="utf-8", xml_declaration=True)
    print("the slowest tests:", *slowest(root), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
