# SPDX-License-Identifier: LGPL-2.1-or-later
"""The options that say more about a VM than its description does: its name, and variables."""

import argparse
import os
from typing import TYPE_CHECKING

from bpferry.cli.parser import Parser

if TYPE_CHECKING:
    from bpferry.domain.variables import Given


def add_given(command: Parser) -> None:
    """Add the options to *command*, which reads a description."""
    command.add_argument(
        "--name",
        metavar="NAME",
        help="call the VM NAME, whatever the description says, so that one description serves "
        "several VMs; as in file names of sbatch, %%a stands for the task's number in an array of "
        "Slurm, %%A for the array's, %%j for the job's, and %%%% for %%",
    )
    command.add_argument(
        "--set",
        metavar="NAME=VALUE",
        type=_named_value,
        action="append",
        default=[],
        help="put VALUE where the description has ${NAME}; its list 'variables' has to name it. "
        "What is not set here is taken from the environment",
    )


def given_by(options: argparse.Namespace) -> "Given":
    """Return what the user has said, with our environment for what was not said.

    Raises:
        BadInput: the name has a placeholder without a value, or cannot be a VM's.
    """
    from bpferry.domain.variables import Given, expand_name  # noqa: PLC0415 - not for a help text

    name = None if options.name is None else expand_name(options.name, os.environ)
    return Given(name, dict(options.set), os.environ)


def _named_value(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (equals and name):
        # It is not repeated: it may be a password.
        raise argparse.ArgumentTypeError("expected NAME=VALUE")
    return name, value
