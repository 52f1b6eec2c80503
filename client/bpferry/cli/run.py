# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry run: start a VM, or say what would be started."""

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bpferry.cli import output
from bpferry.domain.document import read_file
from bpferry.errors import Unsupported
from bpferry.machine import endpoints
from bpferry.machine.draft import Draft, draft, find_others
from bpferry.machine.hindrances import find_doubts, find_hindrances, find_in_use
from bpferry.machine.name_lock import find_conflict
from bpferry.machine.programs import find_dispensable_programs
from bpferry.machine.secrets import NO_SECRETS, SecretFiles
from bpferry.steering.plan import CardPlan, Notice, Rung
from bpferry.steering.requests import describe_source, shown

if TYPE_CHECKING:
    from bpferry.machine.preparation import Prepared
    from bpferry.network.tap_helper import GrantedTap
    from bpferry.steering.maps import Steering

STDIN, STDOUT, STDERR = 0, 1, 2
OPTIONS_WITHOUT_VALUE: Final = ("-S", "-no-user-config", "-nodefaults", "-no-reboot")
RUNG_NAMES: Final = {
    Rung.EBPF: "steering by eBPF",
    Rung.QEMU: "steering by QEMU",
    Rung.NONE: "no RSS",
}


def run(
    file: str,
    *,
    dry_run: str | None,
    require_ebpf: bool,
    ignore_unsupported: bool,
    as_json: bool,
    secrets: SecretFiles = NO_SECRETS,
) -> int:
    """Start the VM that *file* describes and return QEMU's exit status; or only say so."""
    reporter = output.StderrReporter()
    plan = _draft(
        Path(file),
        reporter,
        require_ebpf=require_ebpf,
        ignore_unsupported=ignore_unsupported,
        secrets=secrets,
    )
    if dry_run == "json" or (dry_run and as_json):
        output.print_json(dry_run_fields(plan))
        return 0
    if dry_run:
        output.print_text(dry_run_text(plan))
        return 0
    return _start(plan, reporter, as_json=as_json)


def _draft(
    file: Path,
    reporter: output.StderrReporter,
    *,
    require_ebpf: bool,
    ignore_unsupported: bool,
    secrets: SecretFiles,
) -> Draft:
    """Read *file* and draft its VM.

    Raises:
        BpferryError: among others what is not supported, with all of it that can be found.
    """
    try:
        document = read_file(file, ignore_unsupported=ignore_unsupported)
    except Unsupported as error:
        raise find_others(error, file, reporter, require_ebpf=require_ebpf) from error
    return draft(
        document,
        reporter,
        require_ebpf=require_ebpf,
        ignore_unsupported=ignore_unsupported,
        secrets=secrets,
    )


def _start(plan: Draft, reporter: output.StderrReporter, *, as_json: bool) -> int:
    # asyncio and the rest of a running VM are not needed before.
    from bpferry.machine.card_fds import Helpers  # noqa: PLC0415
    from bpferry.machine.preparation import prepare  # noqa: PLC0415
    from bpferry.machine.supervisor import supervise  # noqa: PLC0415
    from bpferry.network.bpf_helper import BpfHelper  # noqa: PLC0415
    from bpferry.network.tap_helper import TapHelper  # noqa: PLC0415

    with (
        Helpers(BpfHelper(), TapHelper()) as helpers,
        prepare(plan, helpers, reporter) as prepared,
    ):
        helpers.close()
        notices = _notices(plan, prepared)
        for notice in notices:
            reporter.warn(notice.message, notice.hint)
        reporter.note(f"'{plan.machine.name}' starts with {plan.accelerator_reason}")
        for card in prepared.plans.values():
            if card.card_id in prepared.taps:
                reporter.note(f"{card.card_id}: {tap_text(prepared.taps[card.card_id])}")
            reporter.note(f"{card.card_id}: {RUNG_NAMES[card.rung]}: {'; '.join(card.because)}")
        status = supervise(prepared, reporter, STDERR if as_json else STDOUT, _keyboard())
    if as_json:
        output.print_json(_end_fields(prepared, notices, reporter, status))
    return status


def tap_text(tap: "GrantedTap") -> str:
    """Return what *tap* is."""
    queues = output.count(tap.queues, "queue")
    return f"tap '{tap.interface}' on bridge '{tap.bridge}', {queues}, MTU {tap.mtu}"


def _keyboard() -> int | None:
    return None if sys.stdin is None else STDIN


def _notices(plan: Draft, prepared: "Prepared") -> tuple[Notice, ...]:
    of_cards = (notice for card in prepared.plans.values() for notice in card.warnings)
    return (*plan.general_notices(), *_doubts(plan), *of_cards)


def _doubts(plan: Draft) -> Iterator[Notice]:
    for doubt in find_doubts(plan):
        yield Notice(f"{doubt.message}: {doubt.cause}", doubt.fix)


def dry_run_fields(plan: Draft) -> dict[str, object]:
    """Return what ``--dry-run=json`` prints; the shape is a contract with scripts."""
    return {
        "argv": list(plan.built.argv),
        "requests": shown(plan.requests),
        "nics": nics(plan.plans),
        "warnings": dry_run_warnings(plan),
    }


def nics(plans: Mapping[str, CardPlan]) -> list[dict[str, object]]:
    """Return each card's plan for programs."""
    return [
        {
            "id": card.card_id,
            "steering": card.rung.value,
            "vhost": card.vhost,
            "queues": card.queues,
            "because": list(card.because),
        }
        for card in plans.values()
    ]


def dry_run_warnings(plan: Draft) -> list[str]:
    """Return what would be less than wished, and what would be in the way."""
    of_cards = [notice for card in plan.plans.values() for notice in card.warnings]
    notices = (*plan.general_notices(), *_doubts(plan), *of_cards)
    texts = [notice.message for notice in notices]
    texts += [f"{fault.message}: {fault.cause}" for fault in find_dispensable_programs(plan.built)]
    conflict = find_conflict(plan.machine.name)
    texts += [conflict.message] if conflict else []
    # What a VM of this name uses now is its own.
    in_use = () if conflict else find_in_use(plan)
    return texts + [hindrance.message for hindrance in (*find_hindrances(plan), *in_use)]


def dry_run_text(plan: Draft) -> str:
    """Return the command line, one option on each line, and the reasons as comments."""
    comments = [f"accelerator: {plan.accelerator_reason}"]
    for card in plan.plans.values():
        comments.append(f"{card.card_id}: {RUNG_NAMES[card.rung]}, queues: {card.queues}")
        comments += [f"    {reason}" for reason in _tap_reasons(plan, card)]
        comments += [f"    {reason}" for reason in card.because]
    comments += [f"warning: {text}" for text in dry_run_warnings(plan)]
    comments.append("fds are shown by name here; QEMU gets their numbers")
    lines = [f"# {comment}" for comment in comments]
    words = plan.built.argv
    return "\n".join(lines) + "\n" + " \\\n    ".join(_option_lines(words))


def _tap_reasons(plan: Draft, card: CardPlan) -> list[str]:
    asked = plan.requests[card.card_id].tap
    if asked is None:
        return []
    return [f"the helper would be asked for a tap on {describe_source(asked)}"]


def _option_lines(words: Sequence[str]) -> list[str]:
    """Return the program and then each option with its value, quoted for a shell."""
    lines = [shlex.quote(words[0])]
    wants_value = False
    for word in words[1:]:
        if wants_value:
            lines[-1] += " " + shlex.quote(word)
            wants_value = False
        else:
            lines.append(shlex.quote(word))
            wants_value = word not in OPTIONS_WITHOUT_VALUE
    return lines


def _end_fields(
    prepared: "Prepared",
    notices: tuple[Notice, ...],
    reporter: output.StderrReporter,
    status: int,
) -> dict[str, object]:
    """Return what ``run --json`` prints when the VM has ended."""
    return {
        "exit_status": status,
        "nics": nics(prepared.plans),
        "taps": {
            card_id: {"interface": tap.interface, "bridge": tap.bridge, "mtu": tap.mtu}
            for card_id, tap in prepared.taps.items()
        },
        "seen": {card_id: _seen(found) for card_id, found in reporter.steering.items()},
        "endpoints": [endpoints.fields(endpoint) for endpoint in reporter.endpoints],
        "warnings": [notice.message for notice in notices],
    }


def _seen(steering: "Steering") -> dict[str, object]:
    return {
        "hash_types": int(steering.hash_types),
        "key": steering.key.hex(),
        "table": list(steering.table),
        "default_queue": steering.default_queue,
    }
