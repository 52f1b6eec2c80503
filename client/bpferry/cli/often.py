# SPDX-License-Identifier: LGPL-2.1-or-later
"""The commands that are to be fast, besides ``exec``: each has a parser that knows no other."""

from collections.abc import Callable, Mapping
from typing import Final

from bpferry.cli.parser import Commands
from bpferry.cli.run_options import add_check, add_run
from bpferry.cli.running_options import add_running

OFTEN: Final[Mapping[str, Callable[[Commands], None]]] = {
    "run": add_run,
    "check": add_check,
    "list": add_running,
    "status": add_running,
}
"""What adds each of them."""
