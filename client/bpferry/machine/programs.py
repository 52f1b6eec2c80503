# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs that have to be installed for the processes beside QEMU."""

from collections.abc import Iterator

from bpferry.commandline.build import Built
from bpferry.commandline.parts import Companion, Step
from bpferry.errors import CompanionError
from bpferry.machine.companions import find_program, install_hint, not_installed
from bpferry.machine.faults import Fault
from bpferry.machine.paths import holds_files


def find_missing_programs(built: Built) -> Iterator[CompanionError]:
    """Yield an error for each program that is missing; its element is a key of the model."""
    for companion in built.of(Companion):
        if find_program(companion.argv[0]) is None:
            yield not_installed(companion.argv[0], companion)
        for step in _lacking(companion):
            if not step.without:
                yield not_installed(step.argv[0], companion, step)


def find_dispensable_programs(built: Built) -> Iterator[Fault]:
    """Yield what the VM will lack because an optional program is missing."""
    for companion in built.of(Companion):
        for step in _lacking(companion):
            if step.without:
                cause = f"'{step.argv[0]}' is not installed"
                hint = install_hint(companion, step)
                yield Fault(companion.key, "warning", step.without, cause, fix=hint, kind="host")


def _lacking(companion: Companion) -> Iterator[Step]:
    """Yield the first step that has to be done for each program that is missing."""
    told: set[str] = set()
    for step in companion.steps:
        program = step.argv[0]
        if program not in told and find_program(program) is None and _is_due(step):
            told.add(program)
            yield step


def _is_due(step: Step) -> bool:
    """Say whether *step* has to be done: no former run has."""
    return step.empty is None or not holds_files(step.empty)
