# SPDX-License-Identifier: LGPL-2.1-or-later
"""What would be started, and why: all of it, with nothing done."""

import json
import shlex
from collections.abc import Iterator, Sequence
from typing import Final

from bpferry.cli import output
from bpferry.cli.card_plans import RUNG_NAMES, nics
from bpferry.cli.findings import fields_of, lines_of
from bpferry.commandline.numbers import format_ranges
from bpferry.commandline.parts import Affinity, Command, Companion, Limit, PlugIn, Scheduling
from bpferry.machine.draft import Draft
from bpferry.machine.verdict import Verdict
from bpferry.steering.plan import CardPlan
from bpferry.steering.requests import describe_source, shown

OPTIONS_WITHOUT_VALUE: Final = ("-S", "-no-user-config", "-nodefaults", "-no-reboot")


def as_fields(plan: Draft, verdict: Verdict, stop_seconds: int) -> dict[str, object]:
    """Return what ``--dry-run=json`` prints; the shape is a contract with scripts.

    *stop_seconds* is how long the guest may take to power down; 0 for no limit.
    """
    built = plan.built
    return {
        "argv": list(built.argv),
        "requests": shown(plan.requests),
        "nics": nics(plan.plans),
        "companions": [
            {
                "name": companion.name,
                "for": companion.key,
                "steps": [list(step.argv) for step in companion.steps],
                "argv": list(companion.argv),
            }
            for companion in built.of(Companion)
        ],
        "commands": [
            {"execute": command.name, "arguments": dict(command.arguments)}
            for command in built.of(Command)
        ],
        "plugged_in": [number for part in built.of(PlugIn) for number in part.vcpus],
        "affinity": [
            {"threads": str(affinity.threads), "processors": sorted(affinity.processors)}
            for affinity in built.of(Affinity)
        ],
        "scheduling": [
            {"threads": str(one.threads), "policy": one.policy, "priority": one.priority}
            for one in built.of(Scheduling)
        ],
        "stop_timeout": stop_seconds,
        "limits": [{"name": one.name, "value": one.value} for one in built.of(Limit)],
        "findings": [fields_of(finding) for finding in verdict.findings],
        "warnings": [fault.sentence for fault in verdict.warnings],
        "errors": [output.fields_of(error) for error in verdict.errors],
    }


def as_text(plan: Draft, verdict: Verdict, stop_seconds: int) -> str:
    """Return the command line, one option on each line, and everything else as comments."""
    comments = [f"accelerator: {plan.accelerator_reason}"]
    for card in plan.plans.values():
        comments.append(f"{card.card_id}: {RUNG_NAMES[card.rung]}, queues: {card.queues}")
        comments += [f"    {reason}" for reason in _tap_reasons(plan, card)]
        comments += [f"    {reason}" for reason in card.because]
    comments += _beside_qemu(plan)
    limit = f"{stop_seconds} s, and QEMU is ended then" if stop_seconds else "as long as it takes"
    comments.append(f"when the VM is stopped, the guest has {limit}")
    comments += [line for finding in verdict.findings for line in lines_of(finding)]
    comments.append("fds are shown by name; QEMU gets their numbers")
    lines = [f"# {comment}" for comment in comments]
    words = plan.built.argv
    return "\n".join(lines) + "\n" + " \\\n    ".join(_option_lines(words))


def _tap_reasons(plan: Draft, card: CardPlan) -> list[str]:
    asked = plan.requests[card.card_id].tap
    if asked is None:
        return []
    return [f"the helper would be asked for a tap on {describe_source(asked)}"]


def _beside_qemu(plan: Draft) -> Iterator[str]:
    """Yield what is done besides starting QEMU: processes, QMP commands, threads."""
    built = plan.built
    for companion in built.of(Companion):
        place = plan.document.origins.element_of(companion.key)
        yield f"{companion.name} runs beside QEMU, for '{place}':"
        for step in companion.steps:
            yield f"    before it: {shlex.join(step.argv)}"
        yield f"    {shlex.join(companion.argv)}"
    for part in built.of(PlugIn):
        yield f"before the guest runs, its processors {_listed(part.vcpus)} are plugged in"
    for command in built.of(Command):
        text = json.dumps({"execute": command.name, "arguments": dict(command.arguments)})
        yield f"QMP, when QEMU runs: {text}"
    for limit in built.of(Limit):
        yield f"your systemd limits the unit that QEMU runs in: {limit}"
    for affinity in built.of(Affinity):
        numbers = _listed(sorted(affinity.processors))
        yield f"{affinity.threads} runs on the host's processors {numbers}"
    for one in built.of(Scheduling):
        priority = f", priority {one.priority}" if one.priority else ""
        yield f"{one.threads} is scheduled by '{one.policy}'{priority}"


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(format_ranges(numbers))


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
