# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a command line is read: no abbreviations, no exit, help as it was written."""

import argparse
from collections.abc import Sequence
from typing import NoReturn, TypeAlias

from bpferry.errors import BadInput


class Parser(argparse.ArgumentParser):
    """Raises what is wrong with the command line instead of exiting."""

    def parse_known_args(  # type: ignore[override]  # argparse says Any where we say what it is
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Refuse unknown words here, where the command that they were given to is known."""
        found, extra = super().parse_known_args(args, namespace)
        if extra:
            self.error(f"unrecognized arguments: {' '.join(extra)}")
        return found, extra

    def error(self, message: str) -> NoReturn:
        """Raise BadInput."""
        raise BadInput(f"wrong usage: {message}", f"see: {self.prog} --help")


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps our line breaks, and shows an optional value as users have to write it."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=79)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        shown = super()._format_action_invocation(action)
        return shown.replace("--dry-run text|json", "--dry-run[=text|json]")


# argparse has no other name for what add_subparsers() returns.
Commands: TypeAlias = "argparse._SubParsersAction[Parser]"  # noqa: SLF001


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
