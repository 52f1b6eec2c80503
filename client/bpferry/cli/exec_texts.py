# SPDX-License-Identifier: LGPL-2.1-or-later
"""What bpferry exec says about a command line: for people, and for programs."""

from collections.abc import Iterator, Sequence

from bpferry.cli.card_plans import RUNG_NAMES, nics
from bpferry.launcher.cards import LeftCard
from bpferry.launcher.conversion import Conversion, Converted
from bpferry.launcher.guest import comes_from_elsewhere
from bpferry.launcher.properties import Properties
from bpferry.launcher.words import read_options
from bpferry.steering.requests import shown

MOVED = (
    "the guest comes from another QEMU, whose cards have to be the same: it too has to have been "
    "started by bpferry exec"
)


def lines_of(argv: Sequence[str], made: Conversion) -> Iterator[str]:
    """Yield what people are told, line by line, about what became of *argv*."""
    if made.is_changed and comes_from_elsewhere(read_options(argv)):
        yield f"warning: {MOVED}"
    for card in made.cards:
        yield from _lines_of_left(card) if isinstance(card, LeftCard) else _lines_of_card(card)


def _lines_of_left(card: LeftCard) -> Iterator[str]:
    if card.hint:
        yield f"warning: {card.name} stays as it is: {card.reason} (hint: {card.hint})"
    else:
        yield f"{card.name} stays as it is: {card.reason}"


def _lines_of_card(made: Converted) -> Iterator[str]:
    name, plan, found = made.plan.card_id, made.plan, made.card.found
    for notice in made.notices:
        yield f"warning: {notice.message}" + (f" (hint: {notice.hint})" if notice.hint else "")
    if made.tap_text:
        option = found.netdev.option
        queues = "1 queue" if plan.queues == 1 else f"{plan.queues} queues"
        yield f"{name}: {made.tap_text}, {queues}, in place of '-{option.name} {option.value}'"
    given = _given(found.device.properties, made.card.device)
    if given:
        yield f"{name}: its card gets {', '.join(given)}"
    if not made.card.is_changed:
        yield f"{name} has everything already"
    yield f"{name}: {RUNG_NAMES[plan.rung]}: {'; '.join(plan.because)}"


def _given(old: Properties, new: Properties) -> list[str]:
    """Return what *new* has and *old* does not, as text."""
    return [f"{item.key}={_shown(item.value)}" for item in new.items if not old.has(item.key)]


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return ":".join(map(str, value)) if isinstance(value, list) else str(value)


def as_text(argv: Sequence[str], made: Conversion) -> str:
    """Return both command lines as a diff, one option on each line, and the rest as comments."""
    from difflib import ndiff  # noqa: PLC0415 - not for a start

    comments = [*lines_of(argv, made), "fds are shown by name; QEMU gets their numbers"]
    lines = [f"# {comment}" for comment in comments]
    both = ndiff(_option_lines(argv), _option_lines(made.argv))
    lines += (line for line in both if not line.startswith("?"))
    return "\n".join(lines)


def _option_lines(argv: Sequence[str]) -> list[str]:
    """Return *argv* as a shell would take it, with each option and its value on a line."""
    import shlex  # noqa: PLC0415 - as above

    lines, done = [shlex.quote(argv[0])], 1
    for option in read_options(argv):
        lines += map(shlex.quote, argv[done : option.place])
        done = option.place + option.words
        lines.append(shlex.join(argv[option.place : done]))
    return [*lines, *map(shlex.quote, argv[done:])]


def as_fields(argv: Sequence[str], made: Conversion) -> dict[str, object]:
    """Return the same for programs; the shape is a contract with scripts."""
    return {
        "argv": made.argv,
        "was": list(argv),
        "requests": shown({card.plan.card_id: card.requests for card in made.converted}),
        "nics": nics({card.plan.card_id: card.plan for card in made.converted}),
        "left": [
            {"id": card.name, "because": card.reason}
            for card in made.cards
            if isinstance(card, LeftCard)
        ],
        "warnings": [notice.message for card in made.converted for notice in card.notices],
    }
