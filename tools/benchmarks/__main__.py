# SPDX-License-Identifier: LGPL-2.1-or-later
"""What tools/bench runs once everything that it needs is installed."""

import argparse
import json
import sys
from collections.abc import Sequence

from benchmarks.command import BenchError
from benchmarks.figures import verdicts
from benchmarks.handover import measure
from benchmarks.interrupts import Interrupted, Interrupts
from benchmarks.object import find_object
from benchmarks.report import as_object, as_table

DEFAULT_RUNS = 100
EXIT_OK, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report; return the exit status."""
    options = _parser().parse_args(arguments)
    interrupts = Interrupts()
    try:
        carried = find_object()
        figures = measure(carried, options.runs, interrupts)
    except BenchError as error:
        sys.stderr.write(f"bench: {error}\n")
        return EXIT_FAILED
    except Interrupted:
        sys.stderr.write("bench: interrupted\n")
        return EXIT_INTERRUPTED
    if options.json:
        sys.stdout.write(json.dumps(as_object(figures, carried)) + "\n")
    else:
        sys.stdout.write(as_table(figures, carried))
    all_met = all(verdict.met for verdict in verdicts(figures))
    return exit_status(check=options.check, all_met=all_met)


def exit_status(*, check: bool, all_met: bool) -> int:
    """Return how to end: to miss something is a failure only for who asked for a *check*."""
    return EXIT_FAILED if check and not all_met else EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tools/bench", add_help=False)
    parser.add_argument("what", choices=["handover"])
    parser.add_argument("--runs", type=_count, default=DEFAULT_RUNS)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--check", action="store_true")
    return parser


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return count


if __name__ == "__main__":
    sys.exit(main())
