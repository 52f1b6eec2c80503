# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is refused of a VM, with its places in the document: as an error, or as left out.

Everything that is built names a part by its key. A user is told the file, the line, and the
document's own name of the part.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from msgspec.structs import replace

from bpferry.commandline.parts import Refusal
from bpferry.domain.document import Document
from bpferry.domain.forms import in_form
from bpferry.errors import BpferryError, Unsupported, all_in_one, in_order
from bpferry.machine.faults import Fault

E = TypeVar("E", bound=BpferryError)

IN_CONSEQUENCE = "it depends on something that was left out: "


def located(error: E, document: Document, key: str = "") -> E:
    """Return *error* with the place of its element, or else of *key*, in the document."""
    import copy  # noqa: PLC0415 - slow to import, and most VMs have nothing refused

    key = error.element or key
    told = copy.copy(error)
    message = f"{document.origins.describe(key)}: {error.message}"
    told.message, told.hint = in_form(message, document.kind), in_form(error.hint, document.kind)
    told.element = document.origins.element_of(key) or None
    told.args = (told.message,)
    if isinstance(told, Unsupported):
        place = document.origins.find(key)
        told.line = place.line if place else 0
    return told


def placed(fault: Fault, document: Document) -> Fault:
    """Return *fault* with its place in the document, and in the words of its form."""
    where, kind = document.origins.describe(fault.key), document.kind
    return replace(
        fault,
        message=in_form(f"{where}: {fault.message}", kind),
        cause=in_form(fault.cause, kind),
        fix=in_form(fault.fix, kind),
        element=document.origins.element_of(fault.key),
    )


def own_faults(refusals: Sequence[Refusal], document: Document) -> tuple[Unsupported, ...]:
    """Return what the user has to change, in the order of the document."""
    own = (refusal.error for refusal in refusals if not _follows(refusal, document))
    return in_order(located(error, document) for error in own)


def _follows(refusal: Refusal, document: Document) -> bool:
    """Say whether something is refused only because something else was left out.

    That includes things of the same part that were left out when the document was read.
    """
    if refusal.follows:
        return True
    part = document.origins.element_of((refusal.error.element or "").partition(".")[0])
    gone = (
        *(error.whole or error.element for error in document.ignored),
        *(error.element for error in document.mistakes),
    )
    return any(f"{place}/".startswith(f"{part}/") for place in gone)


def refuse_all(error: Unsupported, refusals: Sequence[Refusal], document: Document) -> Unsupported:
    """Return *error*, which has its place, with the other things to change as its others."""
    others = [one for one in own_faults(refusals, document) if one.message != error.message]
    return all_in_one((error, *others))


def left_out(
    refusals: Sequence[Refusal], document: Document, machine_type: str = ""
) -> tuple[Unsupported, ...]:
    """Return what is left out of *document*, each thing once, in its order.

    It includes what was left out when the document was read. *machine_type* is used in place of
    one that is left out.
    """
    instead = {"machine-type": machine_type}
    built = (
        _told(refusal, gone, document, instead.get(gone, ""))
        for refusal, gone in _gone(refusals, document)
    )
    return in_order((*document.ignored, *built))


def _gone(refusals: Sequence[Refusal], document: Document) -> Iterator[tuple[Refusal, str]]:
    """Yield those of *refusals* by which something is left out, and its key."""
    if not refusals:
        return
    from bpferry.domain.leaving_out import leave_out  # noqa: PLC0415 - for mistakes only

    machine, found = document.machine, list[tuple[Refusal, str]]()
    for refusal in refusals:
        element = refusal.error.element or ""
        left = leave_out(machine, element, in_xml=document.kind == "xml")
        if left is not None and left.gone:
            machine = left.value
            found.append((refusal, left.gone))
    keys = {key for _, key in found}
    for refusal, key in found:
        if not any(key != other and key.startswith((f"{other}.", f"{other}[")) for other in keys):
            yield refusal, key


def _told(refusal: Refusal, gone: str, document: Document, instead: str) -> Unsupported:
    told = located(refusal.error, document)
    told.instead = instead
    if refusal.follows:
        place = document.origins.describe(refusal.error.element or "")
        message = f"{place}: {IN_CONSEQUENCE}{refusal.error.message}"
        told.message = in_form(message, document.kind)
        told.hint = ""
    whole = document.origins.element_of(gone)
    told.whole = "" if whole == told.element else whole
    return told
