# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry doctor: whether this host is ready, for one VM or for any."""

import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bpferry.cli import output
from bpferry.cli.colours import coloured, wants_colours
from bpferry.cli.slow_helpers import tell_of_slow_helpers
from bpferry.domain.variables import NOTHING, Given
from bpferry.machine.doctor.examination import Examination, Subject, examine
from bpferry.machine.doctor.finding import NAMES, Finding
from bpferry.machine.secrets import NO_SECRETS, SecretFiles

TITLES: Final = {
    "kernel": "Kernel",
    "tun": "Taps",
    "bridges": "Bridges",
    "helpers": "Helpers",
    "policy": "What you may do",
    "qemu": "QEMU",
    "kvm": "KVM",
    "vhost": "vhost",
    "firmware": "Firmware",
    "session": "Your session",
    "security": "Security modules",
    "proof": "Steering, tried",
    "vm": "This VM",
}
"""What people read above the findings of a group."""

WIDTH: Final = 80
INDENT: Final = " " * 11
"""The width of the longest state, with a space of two characters on both sides."""

QUOTED: Final = re.compile(r"(?<!\w)'[^']{1,65}'(?!\w)")
NO_BREAK: Final = "\0"
"""In place of a space at which a line must not end; no text has it."""


def doctor(
    file: str | None,
    *,
    deep: bool,
    as_json: bool,
    secrets: SecretFiles = NO_SECRETS,
    given: Given = NOTHING,
) -> int:
    """Print what there is to say about this host, and about the VM in *file* if there is one.

    Returns:
        1 if something that was asked for cannot work, otherwise 0.
    """
    tell_of_slow_helpers()
    subject = Subject(Path(file) if file else None, deep=deep, secrets=secrets, given=given)
    found = examine(subject, output.StderrReporter())
    if as_json:
        output.print_json(_fields(found))
    else:
        in_colour = wants_colours(sys.stdout)
        output.print_text("\n".join(_lines(found, in_colour=in_colour)))
    return found.status


def _fields(found: Examination) -> dict[str, object]:
    return {
        "status": found.status,
        "ready": {feature.value: works for feature, works in found.ready.items()},
        "findings": [
            {
                "name": one.name,
                "state": one.state,
                "for": [feature.value for feature in one.features],
                "message": one.message,
                "fix": one.fix or None,
                "command": one.mended_by or None,
            }
            for one in found.findings
        ],
    }


def _lines(found: Examination, *, in_colour: bool) -> Iterator[str]:
    for group in dict.fromkeys(one.group for one in found.findings):
        yield TITLES[group]
        for one in found.findings:
            if one.group == group:
                yield from _of_finding(one, in_colour=in_colour)
        yield ""
    yield from _wrapped(_summary(found), "")
    yield _counted(found)


def _of_finding(one: Finding, *, in_colour: bool) -> Iterator[str]:
    state = f"{one.state:<7}"
    first, *others = _wrapped(one.message, INDENT)
    shown = coloured(one.state, state) if in_colour else state
    yield f"  {shown}  {first.lstrip()}"
    yield from others
    if one.state == "ok":
        return
    if one.group != "vm":
        of = ", ".join(NAMES[feature] for feature in one.features)
        yield from _wrapped(f"matters for: {of}", INDENT)
    if one.fix:
        yield from _wrapped(f"fix: {one.fix}", INDENT)
    if one.command:
        # In one line, however long: it is there to be copied.
        yield f"{INDENT}run: {one.command}"


def _wrapped(text: str, indent: str) -> list[str]:
    """Return *text* in lines; what is quoted, such as a command, stays in one if it fits."""
    lines = textwrap.wrap(
        QUOTED.sub(lambda found: found[0].replace(" ", NO_BREAK), text),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(NO_BREAK, " ") for line in lines]


def _summary(found: Examination) -> str:
    good, bad = (
        ", ".join(NAMES[feature] for feature, works in found.ready.items() if works is wanted)
        for wanted in (True, False)
    )
    works = f"Works here: {good}." if good else "Nothing works here."
    return f"{works} Does not work: {bad}." if bad else works


def _counted(found: Examination) -> str:
    counts = (
        output.count(sum(one.state == state for one in found.findings), state)
        for state in ("fault", "warning")
    )
    return ", ".join(counts)
