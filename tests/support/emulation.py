# SPDX-License-Identifier: LGPL-2.1-or-later
"""A plugin of pytest: a test with a guest that QEMU's emulation failed is run once more.

With several processors, QEMU 10.0's emulation of x86 rarely loses an interrupt or ends itself; the
guests of these tests have several, since a queue needs one. Only a test with the marker "guest" is
repeated, only if it failed with one of the signs below, and the summary says so. A second failure
counts, whatever its reason.
"""

from collections.abc import Sequence
from typing import Final

import pytest
from _pytest.runner import runtestprotocol

SIGNS: Final = {
    "iotlb_to_section: Assertion": "QEMU 10.0 ended itself",
    "blocked for more than 120 seconds": "a guest's kernel waited for an interrupt that never came",
    "the guest saw 0 of ": "a guest's card got no interrupt",
    "the guest was not ready in time": "a guest stood still",
}
"""What a failure says, and what had happened. Each was seen: one of some hundred guests. The last
was virtme-ng's, which had said that it is ready, and was asked again."""

PANIC: Final = "Kernel panic"
"""A guest that says this did not stand still."""

REPEATED: Final = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Nothing was repeated yet."""
    config.stash[REPEATED] = []


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run *item*, twice if the emulation was at fault, and report the last time."""
    if not item.get_closest_marker("guest"):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, log=False, nextitem=nextitem)
    if fault := fault_of_emulation(reports):
        item.config.stash[REPEATED].append(f"{item.nodeid}: {fault}")
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def fault_of_emulation(reports: Sequence[pytest.TestReport]) -> str | None:
    """Return what QEMU's emulation did wrong, or None if a failure has no sign of that."""
    failed = [report for report in reports if report.failed]
    # What QEMU wrote is often not in the error but in what the test printed.
    said = "".join(
        f"{report.longreprtext}{report.capstdout}{report.capstderr}" for report in failed
    )
    if PANIC in said:
        return None
    return next((fault for sign, fault in SIGNS.items() if sign in said), None)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say which tests were repeated."""
    for line in config.stash[REPEATED]:
        terminalreporter.write_line(f"run twice, since emulation failed it: {line}")
