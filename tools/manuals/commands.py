# SPDX-License-Identifier: LGPL-2.1-or-later
"""All commands of a parser, each with its own parser."""

import argparse
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from bpferry.cli.options import build_parser


class Command(NamedTuple):
    """One command, such as ``bpferry tap create``."""

    words: tuple[str, ...]
    """Without the program's name; empty for the program itself."""
    summary: str
    parser: argparse.ArgumentParser

    @property
    def page(self) -> str:
        """The name of its man page."""
        return "-".join(("bpferry", *self.words))

    @property
    def prog(self) -> str:
        """What is typed."""
        return " ".join(("bpferry", *self.words))


SUMMARY = "start QEMU VMs as an ordinary user, with fast networking"


def all_commands() -> Iterator[Command]:
    """Yield the program and each command, those above before those below."""
    yield from _below(Command((), SUMMARY, build_parser()))


def _below(command: Command) -> Iterator[Command]:
    yield command
    for name, (summary, parser) in subcommands(command.parser).items():
        yield from _below(Command((*command.words, name), summary, parser))


def subcommands(
    parser: argparse.ArgumentParser,
) -> Mapping[str, tuple[str, argparse.ArgumentParser]]:
    """Return the commands of *parser*, by name, with what each is for."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to list them
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            told = {one.dest: one.help or "" for one in action._choices_actions}  # noqa: SLF001
            return {
                name: (told[name], found) for name, found in action.choices.items() if name in told
            }
    return {}
