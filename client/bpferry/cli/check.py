# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry check: what is wrong with a description, or not as good as it could be."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from bpferry.cli import output
from bpferry.domain.origins import PassedOver
from bpferry.errors import BpferryError
from bpferry.machine.faults import Fault
from bpferry.machine.secrets import NO_SECRETS, SecretFiles
from bpferry.machine.verdict import Verdict, judge


def check(
    file: str,
    *,
    libvirt_session: bool,
    as_json: bool,
    list_ignored: bool = False,
    secrets: SecretFiles = NO_SECRETS,
) -> int:
    """Print what there is to say about *file*; return the status that a start would end with.

    With *list_ignored*, that is also what bpferry ignores in it, with the reason for each.
    """
    verdict = judge(
        Path(file), output.StderrReporter(), libvirt_session=libvirt_session, secrets=secrets
    )
    if as_json:
        output.print_json(_fields(verdict))
    else:
        ignored = verdict.passed_over if list_ignored else ()
        output.print_text("\n".join((*_ignored(file, ignored), _text(file, verdict))))
    return verdict.errors[0].status if verdict.errors else 0


def _faults(verdict: Verdict) -> tuple[Fault, ...]:
    """Return all but what is not supported; errors come first."""
    return (*map(_error, verdict.hindrances), *verdict.faults)


def _error(error: BpferryError) -> Fault:
    return Fault(error.element or "", "error", error.message, "", error.hint)


def _fields(verdict: Verdict) -> dict[str, object]:
    return {
        "unsupported": [
            {"element": error.element, "message": error.message, "hint": error.hint}
            for error in verdict.refused
        ],
        "faults": [
            {
                "key": fault.key,
                "level": fault.level,
                "message": fault.message,
                "cause": fault.cause or None,
                "fix": fault.fix or None,
            }
            for fault in _faults(verdict)
        ],
        "ignored": [
            {"element": one.place.element, "line": one.place.line, "reason": one.reason}
            for one in verdict.passed_over
        ],
        "not_checked": verdict.not_asked.message if verdict.not_asked else None,
    }


def _ignored(file: str, found: Sequence[PassedOver]) -> Iterator[str]:
    for one in found:
        yield f"ignored: '{file}':{one.place.line}: '{one.place.element}'"
        yield f"    {one.reason}"


def _text(file: str, verdict: Verdict) -> str:
    lines = []
    for error in verdict.refused:
        lines += [f"unsupported: {error.message}", *([f"    fix: {error.hint}"] * bool(error.hint))]
    for fault in _faults(verdict):
        lines.append(f"{fault.level}: {fault.message}")
        lines += [f"    {fault.cause}"] if fault.cause else []
        lines += [f"    fix: {fault.fix}"] if fault.fix else []
    if verdict.not_asked:
        lines.append("note: since no QEMU could be asked, only the description itself was checked")
    return "\n".join(lines) or f"'{file}': no problems found"
