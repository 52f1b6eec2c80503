# SPDX-License-Identifier: LGPL-2.1-or-later
"""A man page for each command, from its parser: what ``--help`` says, laid out for man(1)."""

import argparse
import itertools
import re
import textwrap
from collections.abc import Iterator
from typing import Final

from bpferry.cli.parser import Formatter
from manuals import roff
from manuals.commands import Command, subcommands

HEADING: Final = re.compile(r"([A-Za-z][A-Za-z ]*):")
"""A line of an epilog such as ``examples:``."""

USAGE: Final = "usage: "
"""Before the first line of a usage; the others are indented by at least as much."""

COLUMNS: Final = re.compile(r"  (\S.*?)(?:  +(\S.*))?")
"""A line of a section with two columns, such as that of exit statuses; or of text below them."""

BULLET: Final = "- "
"""Before an item of a list, whose lines are indented."""

ALSO: Final = (
    "bpferry.toml(5)",
    "bpferry-policy.toml(5)",
    "bpferry-protocol(7)",
    "bpferry-helper(8)",
)


def command_page(command: Command) -> str:
    """Return the page of *command*."""
    return roff.page(command.page, 1, command.summary, _lines(command))


def _lines(command: Command) -> Iterator[str]:
    yield roff.section("SYNOPSIS")
    yield from (".nf", *_synopsis(command.parser), ".fi")
    yield roff.section("DESCRIPTION")
    yield from blocks(command.parser.description or "")
    yield from _groups(command)
    yield from _epilog(command.parser.epilog or "")
    if command.words and "exit status:" not in (command.parser.epilog or ""):
        yield roff.section("EXIT STATUS")
        yield "0 if it is done. The others are in"
        yield ".BR bpferry (1)."
    yield roff.section("SEE ALSO")
    yield from _see_also(command)


def _synopsis(parser: argparse.ArgumentParser) -> Iterator[str]:
    for one in parser.format_usage().rstrip("\n").splitlines():
        yield roff.line(roff.escape(one[len(USAGE) :]))


def _groups(command: Command) -> Iterator[str]:
    """Yield arguments and options, and the commands below."""
    for group in command.parser._action_groups:  # noqa: SLF001 - argparse has no other way
        actions = [one for one in group._group_actions if one.help != argparse.SUPPRESS]  # noqa: SLF001
        if not actions:
            continue
        title = (group.title or "").replace("positional arguments", "arguments")
        yield roff.section(title.upper())
        for action in actions:
            yield from _action(command, action)


def _action(command: Command, action: argparse.Action) -> Iterator[str]:
    if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
        for name, (summary, _) in subcommands(command.parser).items():
            page = f"{command.page}-{name}"
            yield from roff.tagged(
                f"{roff.bold(roff.escape(page))}(1)", [roff.line(roff.escape(summary))]
            )
        return
    formatter = Formatter(command.prog)
    shown = roff.words_in_bold(formatter._format_action_invocation(action))  # noqa: SLF001
    text = formatter._expand_help(action) if action.help else ""  # noqa: SLF001
    yield from roff.tagged(shown, roff.lines(roff.escape(text)))


def _epilog(text: str) -> Iterator[str]:
    """Yield the sections of an epilog: each begins with a heading at the edge."""
    title, body = "NOTES", []
    for one in [*text.splitlines(), "end:"]:
        found = HEADING.fullmatch(one)
        if found is None:
            body.append(one)
            continue
        if any(line.strip() for line in body):
            yield roff.section(title)
            yield from _section_of(title, body)
        title, body = found[1].upper().replace("EXAMPLE", "EXAMPLES").replace("SS", "S"), []


def _section_of(title: str, body: list[str]) -> Iterator[str]:
    if title == "NOTES":
        yield from blocks("\n".join(body))
    elif title == "EXAMPLES":
        yield from blocks("\n".join(body), indent="")
    else:
        yield from _columns(body)


def _columns(body: list[str]) -> Iterator[str]:
    """Yield lines of two columns as paragraphs with tags, and text among them."""
    in_text = False
    for one in filter(str.strip, body):
        found = COLUMNS.fullmatch(one)
        if found is None or one.startswith("   "):
            yield roff.line(roff.escape(one.strip()))
        elif found[2]:
            in_text = False
            tag, text = map(roff.escape, found.groups())
            yield from roff.tagged(roff.bold(tag), [roff.line(text)])
        else:
            yield from () if in_text else (".PP",)
            in_text = True
            yield roff.line(roff.escape(found[1]))


def blocks(text: str, indent: str = roff.INDENT) -> Iterator[str]:
    """Yield paragraphs and lists to be filled, and other indented lines as they are.

    Those get *indent*.
    """
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        for is_indented, found in itertools.groupby(block.splitlines(), _is_indented):
            part = list(found)
            if not is_indented:
                yield ".PP"
                yield from roff.lines(roff.escape("\n".join(part)))
            elif part[0].lstrip().startswith(BULLET):
                yield from _list(part)
            else:
                yield from roff.literal(textwrap.dedent("\n".join(part)), indent)


def _is_indented(one: str) -> bool:
    return one.startswith(" ")


def _list(found: list[str]) -> Iterator[str]:
    """Yield the items of a list."""
    for one in map(str.strip, found):
        if one.startswith(BULLET):
            yield '.IP "\\(bu" 2'
        yield roff.line(roff.escape(one.removeprefix(BULLET)))


def _see_also(command: Command) -> Iterator[str]:
    pages = [f"{command.page}-{name}(1)" for name in subcommands(command.parser)]
    if command.words:
        pages.append(f"{'-'.join(('bpferry', *command.words[:-1]))}(1)")
    shown = [one.partition("(") for one in (*pages, *ALSO)]
    for at, (name, _, number) in enumerate(shown, 1):
        yield f".BR {roff.escape(name)} ({number}{',' if at < len(shown) else ''}"
