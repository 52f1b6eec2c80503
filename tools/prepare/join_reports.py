# SPDX-License-Identifier: LGPL-2.1-or-later
"""Join JUnit reports of several runs of pytest into one.

join_reports.py JOINED REPORT...
"""

import sys
import xml.etree.ElementTree as ET


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
    return 0


if __name__ == "__main__":
    sys.exit(main())
