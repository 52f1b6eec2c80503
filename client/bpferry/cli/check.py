# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry check: what is wrong with a description, or not as good as it could be."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bpferry.cli import output
from bpferry.domain.document import Document, read_file
from bpferry.errors import BpferryError, Unsupported, in_order
from bpferry.machine.draft import KVM_HINT, Draft, draft
from bpferry.machine.faults import Fault
from bpferry.machine.files import find_missing_files
from bpferry.machine.hindrances import find_doubts, find_hindrances, find_in_use
from bpferry.machine.lint import find_faults
from bpferry.machine.name_lock import find_conflict
from bpferry.machine.programs import find_dispensable_programs
from bpferry.machine.refusals import placed
from bpferry.machine.secrets import NO_SECRETS, SecretFiles

SOUND, FAULTS, UNSUPPORTED = 0, 1, 3
"""Exit statuses. Something unsupported outweighs a fault."""


RUNNING: Final = (
    "a user runs one VM of a name at a time: sockets, firmware variables and the TPM's state go by "
    "the name; its own locks and ports are not looked at"
)


def check(
    file: str, *, libvirt_session: bool, as_json: bool, secrets: SecretFiles = NO_SECRETS
) -> int:
    """Print the findings about *file*; return 0 if there are none."""
    document = read_file(Path(file), ignore_unsupported=True)
    plan, refused, note = _draft(document, secrets)
    faults = [
        placed(fault, document)
        for fault in find_faults(
            document.machine,
            plan.capabilities if plan else None,
            plan.circumstances.host if plan else None,
            kind=document.kind,
            libvirt_session=libvirt_session,
        )
    ]
    faults = [fault for fault in faults if not _is_refused(fault, refused, document)]
    faults += _of_this_host(plan, document)
    if as_json:
        output.print_json(_fields(refused, faults, note))
    else:
        output.print_text(_text(file, refused, faults, note))
    if refused:
        return UNSUPPORTED
    return FAULTS if any(fault.level != "note" for fault in faults) else SOUND


def _is_refused(fault: Fault, refused: tuple[Unsupported, ...], document: Document) -> bool:
    """Say whether what *fault* is about is refused as well, which says enough about it."""
    place = document.origins.element_of(fault.key)
    return any(place == error.element for error in refused)


def _draft(
    document: Document, secrets: SecretFiles
) -> tuple[Draft | None, tuple[Unsupported, ...], str]:
    """Return the draft of *document*, all that bpferry refuses, and why that may not be all."""
    reporter = output.StderrReporter()
    try:
        plan = draft(document, reporter, ignore_unsupported=True, secrets=secrets)
    except Unsupported as error:
        return None, in_order((*document.ignored, error, *error.others)), ""
    except BpferryError as error:
        # Without a QEMU to ask, only the document itself can be judged.
        return None, document.ignored, error.message
    return plan, plan.refused, ""


def _of_this_host(plan: Draft | None, document: Document) -> Iterator[Fault]:
    """Yield what would keep the VM from starting here and now, and what it would lack."""
    hindrances = list(find_hindrances(plan) if plan else find_missing_files(document))
    conflict = find_conflict(document.machine.name)
    if conflict is not None:
        running = Fault("name", "note", conflict.message, RUNNING, conflict.hint)
        yield placed(running, document)
    elif plan is not None:
        hindrances += find_in_use(plan)
    for hindrance in hindrances:
        yield Fault(hindrance.element or "", "error", hindrance.message, "", hindrance.hint)
    if plan is not None:
        if plan.kvm_problem:
            yield placed(Fault("accelerator", "error", plan.kvm_problem, "", KVM_HINT), document)
        yield from find_doubts(plan)
        for fault in find_dispensable_programs(plan.built):
            yield placed(fault, document)


def _fields(refused: tuple[Unsupported, ...], faults: list[Fault], note: str) -> dict[str, object]:
    return {
        "unsupported": [
            {"element": error.element, "message": error.message, "hint": error.hint}
            for error in refused
        ],
        "faults": [
            {
                "key": fault.key,
                "level": fault.level,
                "message": fault.message,
                "cause": fault.cause or None,
                "fix": fault.fix or None,
            }
            for fault in faults
        ],
        "not_checked": note or None,
    }


def _text(file: str, refused: tuple[Unsupported, ...], faults: list[Fault], note: str) -> str:
    lines = []
    for error in refused:
        lines += [f"unsupported: {error.message}", *([f"    fix: {error.hint}"] * bool(error.hint))]
    for fault in faults:
        lines.append(f"{fault.level}: {fault.message}")
        lines += [f"    {fault.cause}"] if fault.cause else []
        lines += [f"    fix: {fault.fix}"] if fault.fix else []
    if note:
        lines.append(f"note: not compared with a QEMU: {note}")
    return "\n".join(lines) or f"'{file}': no problems found"
