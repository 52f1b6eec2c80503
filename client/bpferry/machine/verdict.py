# SPDX-License-Identifier: LGPL-2.1-or-later
"""All there is to say about a description before its VM is started.

``bpferry check``, a dry run and a start are told by it, so that they say the same about the same
file: what keeps the VM from starting, and what it would lack or have otherwise.
"""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from bpferry.commandline.parts import Companion
from bpferry.domain.document import Document, read_in_part
from bpferry.domain.origins import PassedOver
from bpferry.domain.variables import NOTHING, Given
from bpferry.errors import (
    BadInput,
    BpferryError,
    Mistaken,
    NameTaken,
    Unsupported,
    by_weight,
    in_order,
)
from bpferry.machine.absent_media import without_absent_media
from bpferry.machine.draft import Draft, draft
from bpferry.machine.faults import Fault, fault_of, worst_first
from bpferry.machine.files import find_missing_files
from bpferry.machine.hindrances import find_all, find_doubts
from bpferry.machine.lint import find_faults
from bpferry.machine.refusals import placed
from bpferry.machine.reporter import Reporter
from bpferry.machine.secrets import NO_SECRETS, SecretFiles, find_unused


class Verdict(Struct, frozen=True):
    """What there is to say about a description, each with its place in the document."""

    draft: Draft | None
    """Without what is refused; None if nothing could be drafted."""
    errors: tuple[BpferryError, ...]
    """All that keeps the VM from starting; what the exit status follows from comes first."""
    others: tuple[Fault, ...] = ()
    """Warnings and notes."""
    not_asked: BpferryError | None = None
    """Why no QEMU could be asked; it is among the errors."""
    passed_over: tuple[PassedOver, ...] = ()
    """What a domain document says and QEMU does not need."""

    @property
    def status(self) -> int:
        """The exit status that a start would have because of the errors; 0 if there are none."""
        return self.errors[0].status if self.errors else 0

    @property
    def findings(self) -> tuple[Fault, ...]:
        """All of it, the worst first."""
        return worst_first((*map(fault_of, self.errors), *self.others))

    @property
    def warnings(self) -> tuple[Fault, ...]:
        """What the VM would lack, or have otherwise."""
        return tuple(one for one in self.findings if one.level in ("data-loss", "warning"))

    @property
    def describable(self) -> Draft | None:
        """The draft, if nothing but this host keeps the VM of the description from starting."""
        is_wrong = any(isinstance(error, BadInput | Unsupported) for error in self.errors)
        return None if is_wrong else self.draft

    @property
    def startable(self) -> Draft | None:
        """The draft, if the VM can start, perhaps once another VM of its name has ended."""
        in_the_way = any(not isinstance(error, NameTaken) for error in self.errors)
        return None if in_the_way else self.draft


def judge(
    file: Path,
    reporter: Reporter,
    *,
    require_ebpf: bool = False,
    ignore_unsupported: bool = False,
    libvirt_session: bool = False,
    secrets: SecretFiles = NO_SECRETS,
    given: Given = NOTHING,
    starts: bool = False,
) -> Verdict:
    """Return what there is to say about the VM that *file* describes; see ``judge_document``.

    What is *given* stands for the variables of the file, and in place of its name.
    """
    try:
        document = read_in_part(file, given)
    except (BadInput, Unsupported) as error:
        return Verdict(None, by_weight((error, *error.others)))
    return judge_document(
        document,
        reporter,
        require_ebpf=require_ebpf,
        ignore_unsupported=ignore_unsupported,
        libvirt_session=libvirt_session,
        secrets=secrets,
        starts=starts,
    )


def judge_document(
    document: Document,
    reporter: Reporter,
    *,
    require_ebpf: bool = False,
    ignore_unsupported: bool = False,
    libvirt_session: bool = False,
    secrets: SecretFiles = NO_SECRETS,
    starts: bool = False,
    images_are_shared: bool = False,
) -> Verdict:
    """Return what there is to say about the VM that *document* describes.

    Args:
        document: the description, read in part.
        reporter: who is told of the steps.
        require_ebpf: start only if the host's kernel steers every card.
        ignore_unsupported: what is not supported is left out, with a warning for each.
        libvirt_session: note too what libvirt's session mode would make of it.
        secrets: where the user says that passwords and keys are.
        starts: the VM is started at once if nothing is in the way, so that its taps and eBPF sets
            are asked for then. A VM whose name is taken is not.
        images_are_shared: the QEMU that has the images locked is about to let go of them.
    """
    try:
        plan = draft(
            document,
            reporter,
            require_ebpf=require_ebpf,
            ignore_unsupported=True,
            secrets=secrets,
        )
    except Unsupported as error:
        refused = in_order((*document.ignored, error, *error.others))
        return _of_document(document, _certain(refused, document), (), None)
    except BpferryError as error:
        # Without a QEMU to ask, only the document itself can be judged.
        refused = () if ignore_unsupported else document.ignored
        return _of_document(document, refused, (error,), error)
    refused = () if ignore_unsupported else plan.refused
    if document.mistakes:
        return _of_part(plan, document, refused)
    found = find_faults(
        document.machine,
        plan.capabilities,
        plan.circumstances.host,
        kind=document.kind,
        libvirt_session=libvirt_session,
    )
    left_out = tuple(_left_out(plan)) if ignore_unsupported else ()
    in_the_way = (*refused, *find_all(plan, images_are_shared=images_are_shared))
    verdict = _of_whole(plan, document, in_the_way, found, starts=starts)
    return replace(verdict, others=(*verdict.others, *left_out, *_unused(plan, secrets)))


def _of_whole(
    plan: Draft,
    document: Document,
    in_the_way: Sequence[BpferryError],
    found: Sequence[Fault],
    *,
    starts: bool,
) -> Verdict:
    """Return what there is to say about a document without mistakes; *found* is of its design."""
    of_design = list(_of_design(found, plan.refused, document))
    errors = (*in_the_way, *_errors(of_design))
    # A start that nothing is in the way of asks them to do it, in place of whether they would.
    drafted, denied = (plan, ()) if starts and not errors else _ask_helpers(plan, in_the_way)
    return Verdict(
        draft=drafted,
        errors=by_weight((*errors, *(one for one in denied if isinstance(one, BpferryError)))),
        others=(
            *_less(of_design),
            *_of_plan(plan, document),
            *(one for one in denied if isinstance(one, Fault)),
        ),
        passed_over=document.passed_over,
    )


def _of_part(plan: Draft, document: Document, refused: Sequence[Unsupported]) -> Verdict:
    """Return what there is to say about a document that has mistakes: what is certain.

    What its parts contradict, and what would be better done otherwise, may follow from what is not
    there.
    """
    in_the_way = tuple(find_all(plan))
    denied = (one for one in _ask_helpers(plan, in_the_way)[1] if isinstance(one, BpferryError))
    return Verdict(
        draft=None,
        errors=by_weight((*document.mistakes, *_certain(refused, document), *in_the_way, *denied)),
        others=tuple(one for one in plan.general_faults() if one.kind == "host"),
        passed_over=document.passed_over,
    )


def _ask_helpers(
    plan: Draft, in_the_way: Sequence[BpferryError]
) -> tuple[Draft, tuple[BpferryError | Fault, ...]]:
    """Return *plan* as it would be after the helpers' answers, and what they would not do.

    One thing *in_the_way* may be that the VM runs already.
    """
    if not plan.plans:
        return plan, ()
    from bpferry.machine.permissions import ask_helpers  # noqa: PLC0415 - where there is a card

    answers = ask_helpers(plan, runs=any(isinstance(error, NameTaken) for error in in_the_way))
    return plan.after(answers.plans), answers.denied


def _certain(refused: Sequence[Unsupported], document: Document) -> tuple[Unsupported, ...]:
    """Return those of *refused* that do not follow from mistakes of *document*."""
    if not document.mistakes:
        return tuple(refused)
    return tuple(one for one in refused if one in document.ignored or not isinstance(one, Mistaken))


def _of_document(
    document: Document,
    refused: tuple[Unsupported, ...],
    errors: tuple[BpferryError, ...],
    not_asked: BpferryError | None,
) -> Verdict:
    """Return what there is to say where no command line could be drafted."""
    present, absent = without_absent_media(document)
    found = () if document.mistakes else find_faults(document.machine)
    of_design = list(_of_design(found, refused, document))
    return Verdict(
        draft=None,
        errors=by_weight(
            (
                *document.mistakes,
                *refused,
                *errors,
                *_errors(of_design),
                *find_missing_files(present),
            )
        ),
        others=(*_less(of_design), *absent),
        not_asked=not_asked,
        passed_over=document.passed_over,
    )


def _of_design(
    faults: Sequence[Fault], refused: Sequence[Unsupported], document: Document
) -> Iterator[Fault]:
    """Yield *faults* with their places, except where something is refused that says enough.

    A note may be about what the VM lacks only because it is refused.
    """
    told = {error.element or "" for error in refused}
    for fault in faults:
        place = document.origins.element_of(fault.key)
        follows = fault.level == "note" and _is_around(place, fault.key, told, document)
        if place not in told and not follows:
            yield placed(fault, document)


def _is_around(place: str, key: str, told: Collection[str], document: Document) -> bool:
    """Say whether *key*, which the document lacks, is in a part of which something is refused.

    *place* is the nearest part around it, and *told* are the places of what is refused.
    """
    if not key:
        return bool(told)
    return key not in document.origins.places and any(
        one.startswith((f"{place}/", f"{place}.")) for one in told
    )


def _unused(plan: Draft, secrets: SecretFiles) -> Iterator[Fault]:
    for notice in find_unused(plan.built, secrets):
        yield Fault("", "warning", notice.message, fix=notice.hint)


def _of_plan(plan: Draft, document: Document) -> Iterator[Fault]:
    """Yield what the VM would lack, or have otherwise, beside its design."""
    yield from plan.general_faults()
    yield from find_doubts(plan)
    if plan.built.of(Companion):
        from bpferry.machine.programs import find_dispensable_programs  # noqa: PLC0415 - few VMs

        for fault in find_dispensable_programs(plan.built):
            yield placed(fault, document)


def _left_out(plan: Draft) -> Iterator[Fault]:
    for error in plan.left_out:
        place = error.element or ""
        told = error.when_left_out()
        yield Fault(place, "warning", told, kind="left-out", element=place)


def _errors(faults: Sequence[Fault]) -> Iterator[BpferryError]:
    for fault in faults:
        if fault.level == "error":
            yield BadInput(fault.sentence, fault.fix, fault.element)


def _less(faults: Sequence[Fault]) -> Iterator[Fault]:
    return (fault for fault in faults if fault.level != "error")
