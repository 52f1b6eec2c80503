# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry check: what is wrong with a description, or not as good as it could be."""

from collections.abc import Iterator, Sequence

from bpferry.cli import output
from bpferry.cli.findings import as_fields, lines_of
from bpferry.domain.origins import PassedOver
from bpferry.domain.variables import NOTHING, Given
from bpferry.machine.own_vms import description_of
from bpferry.machine.secrets import NO_SECRETS, SecretFiles
from bpferry.machine.verdict import Verdict, judge


def check(
    file: str,
    *,
    libvirt_session: bool,
    as_json: bool,
    list_ignored: bool = False,
    secrets: SecretFiles = NO_SECRETS,
    given: Given = NOTHING,
) -> int:
    """Print what there is to say about *file*; return the status that a start would end with.

    What is *given* stands for its variables, and in place of its name. With *list_ignored*, that is
    also what bpferry ignores in it, with the reason for each.
    """
    path = description_of(file)
    verdict = judge(
        path,
        output.StderrReporter(),
        libvirt_session=libvirt_session,
        secrets=secrets,
        given=given,
    )
    if as_json:
        output.print_json({**as_fields(verdict), **_not_for_a_run(verdict)})
    else:
        ignored = verdict.passed_over if list_ignored else ()
        output.print_text("\n".join((*_ignored(str(path), ignored), _text(str(path), verdict))))
    return verdict.status


def _not_for_a_run(verdict: Verdict) -> dict[str, object]:
    """Return what only a check tells programs."""
    return {
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
    lines = [line for finding in verdict.findings for line in lines_of(finding)]
    if verdict.not_asked:
        lines.append("note: since no QEMU could be asked, only the description itself was checked")
    return "\n".join(lines) or f"'{file}': no problems found"
