# SPDX-License-Identifier: LGPL-2.1-or-later
"""What there is to say about a description, in one style for people and one for programs."""

from collections.abc import Iterator

from bpferry.cli import output
from bpferry.errors import all_in_one
from bpferry.machine.faults import Fault
from bpferry.machine.verdict import Verdict

WORDS = {"data-loss": "warning, data loss"}
"""How people are told how serious something is, if not by the level itself."""


def lines_of(finding: Fault) -> Iterator[str]:
    """Yield what people are told about *finding*."""
    yield f"{WORDS.get(finding.level, finding.level)}: {finding.message}"
    if finding.cause:
        yield f"    {finding.cause}"
    if finding.fix:
        yield f"    fix: {finding.fix}"


def fields_of(finding: Fault) -> dict[str, object]:
    """Return what programs are told about *finding*."""
    return {
        "kind": finding.kind,
        "severity": finding.level,
        "place": finding.element or None,
        "message": finding.message,
        "cause": finding.cause or None,
        "hint": finding.fix or None,
    }


def as_fields(verdict: Verdict) -> dict[str, object]:
    """Return all of *verdict* for programs, with the error that a start would end with, if any."""
    error = {"error": output.error_fields(all_in_one(verdict.errors))} if verdict.errors else {}
    return {
        **error,
        "status": verdict.status,
        "findings": [fields_of(finding) for finding in verdict.findings],
    }
