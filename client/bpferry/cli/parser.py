# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a command line is read: no abbreviations, no exit, help as it was written."""

import argparse
import re
from collections.abc import Callable, Sequence
from typing import Final, NoReturn, TypeAlias

from bpferry.errors import BadInput

# For each of its own words, argparse looks for translations, which Python does not have. To look
# for them takes 2 ms of each start.
argparse._ = str  # type: ignore[attr-defined]  # not for others to set, but there is no switch

INVALID_CHOICE: Final = r"invalid choice: '?([^' ]*)'? \(choose from (.*)\)$"
"""argparse's sentence; newer versions have no quotes in it."""

WORD: Final = r"[\w-]+"

CLOSE: Final = 0.6
"""How like two words are that one may stand for the other (difflib): 'lsit' and 'list' are 0.75."""


class Parser(argparse.ArgumentParser):
    """Raises what is wrong with the command line instead of exiting."""

    stray = ""
    """What to do about words that are no options, and that the command does not take."""

    def parse_known_args(  # type: ignore[override]  # argparse says Any where we say what it is
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Refuse unknown words here, where the command that they were given to is known."""
        found, extra = super().parse_known_args(args, namespace)
        if extra:
            known = list(self._option_string_actions)
            meant = [_nearest(word.partition("=")[0], known) for word in extra]
            is_word = any(not word.startswith("-") for word in extra)
            message = f"unrecognized arguments: {' '.join(extra)}"
            self._refuse(message, meant, self.stray if is_word else "")
        return found, extra

    def error(self, message: str) -> NoReturn:
        """Raise BadInput."""
        word, choices = _choice_in(message)
        if choices and message.startswith("argument COMMAND: "):
            # The list of all commands is longer than an answer should be.
            message = f"there is no command '{word}'"
        self._refuse(message, [_nearest(word, choices)])

    def _refuse(self, message: str, meant: Sequence[str], otherwise: str = "") -> NoReturn:
        """Raise BadInput with the words that were probably *meant*; empty ones are not known."""
        words = ", ".join(f"'{word}'" for word in meant if word)
        guess = f"{otherwise}; see" if otherwise else "see"
        guess = f"did you mean {words}? See" if words else guess
        raise BadInput(f"wrong usage: {message}", f"{guess}: {self.prog} --help")


def _choice_in(message: str) -> tuple[str, list[str]]:
    """Return the word that argparse's *message* refuses, and those that it takes in its place."""
    found = re.search(INVALID_CHOICE, message)
    return (found[1], re.findall(WORD, found[2])) if found else ("", [])


def _nearest(word: str, known: Sequence[str]) -> str:
    """Return the one of *known* that *word* is most like; empty if none is."""
    if not word or not known:
        return ""
    from difflib import get_close_matches  # noqa: PLC0415 - only for who has made a mistake

    return next(iter(get_close_matches(word, known, n=1, cutoff=CLOSE)), "")


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps our line breaks, and shows an optional value as users have to write it."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=79)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        shown = super()._format_action_invocation(action)
        return shown.replace("--dry-run text|json", "--dry-run[=text|json]")


# argparse has no other name for what add_subparsers() returns.
Commands: TypeAlias = "argparse._SubParsersAction[Parser]"  # noqa: SLF001


def parser_of(add: Callable[[Commands], None]) -> Parser:
    """Return a parser of the commands that *add* adds, and of no other.

    To make all of them takes longer than to read a command line.
    """
    parser = Parser(prog="bpferry", formatter_class=Formatter, allow_abbrev=False)
    add(commands_of(parser))
    return parser


def commands_of(parser: Parser) -> Commands:
    """Return what the commands of bpferry are added to."""
    return parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, title="commands", parser_class=Parser
    )


def add_command(
    commands: Commands,
    name: str,
    *,
    help: str,  # noqa: A002 - as argparse calls it
    description: str,
    usage: str | None = None,
    epilog: str | None = None,
) -> Parser:
    """Add the command *name* with its texts, as argparse calls them."""
    return commands.add_parser(
        name,
        help=help,
        description=description,
        usage=usage,
        epilog=epilog,
        formatter_class=Formatter,
        allow_abbrev=False,
    )


def number(text: str, low: int, high: int) -> int:
    """Return the number *text*, which must not be below *low* or above *high*."""
    if not (text.isascii() and text.isdecimal() and low <= int(text[:9]) <= high):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from {low} to {high}")
    return int(text)
