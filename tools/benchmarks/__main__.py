# SPDX-License-Identifier: LGPL-2.1-or-later
"""What tools/bench runs once everything is installed."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.interrupts import Interrupted, Interrupts
from failure import ToolError

DEFAULT_RUNS: Final = {
    "all": 0, "exec": 20, "fairness": 100, "handover": 100, "life": 20, "path": 20,
    "path-guest": 10, "start": 20, "tap": 100,
    "watch": 10,
}  # fmt: skip
DEFAULT_TAPS: Final = 1000
"""Policy cannot allow many more: 1,024 in total."""
FEWEST_TAPS: Final = 20
"""The bench uses a hundredth, a tenth and all of them; these have to differ."""
EXIT_OK, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report; return the exit status."""
    options = _parser().parse_args(arguments)
    interrupts = Interrupts()
    runs = options.runs or DEFAULT_RUNS[options.what]
    try:
        if options.what == "all":
            table, fields = _all(options.runs, interrupts)
        elif options.what == "tap":
            table, fields = _tap(runs, options.taps, interrupts)
        elif options.what == "path":
            table, fields = _path(runs, options.picture, interrupts)
        elif options.what == "path-guest":
            table, fields = _path_guest(runs, options.picture, interrupts)
        else:
            benches = {
                "exec": _exec,
                "fairness": _fairness,
                "handover": _handover,
                "life": _life,
                "start": _start,
                "watch": _watch,
            }
            table, fields = benches[options.what](runs, interrupts)
    except ToolError as error:
        sys.stderr.write(f"bench: {error}\n")
        return EXIT_FAILED
    except Interrupted:
        sys.stderr.write("bench: interrupted\n")
        return EXIT_INTERRUPTED
    sys.stdout.write(json.dumps(fields) + "\n" if options.json else table)
    return exit_status(check=options.check, all_met=bool(fields["met"]))


# Each bench is imported only when it runs: they need different packages.


def _all(runs: int | None, interrupts: Interrupts) -> tuple[str, dict[str, object]]:
    from benchmarks.all import as_object, as_table, measure  # noqa: PLC0415

    outcomes = measure([] if runs is None else ["--runs", str(runs)], interrupts)
    return as_table(outcomes), as_object(outcomes)


def _handover(runs: int, interrupts: Interrupts) -> tuple[str, dict[str, object]]:
    from benchmarks.handover import measure  # noqa: PLC0415
    from benchmarks.object import find_object  # noqa: PLC0415
    from benchmarks.report import as_object, as_table  # noqa: PLC0415

    carried = find_object()
    figures = measure(carried, runs, interrupts)
    return as_table(figures, carried), as_object(figures, carried)


def _fairness(runs: int, interrupts: Interrupts) -> tuple[str, dict[str, object]]:
    from benchmarks.fairness import as_object, as_table, measure  # noqa: PLC0415
    from benchmarks.object import find_object  # noqa: PLC0415

    rows = measure(find_object(), runs, interrupts)
    return as_table(rows), as_object(rows)


def _exec(runs: int, interrupts: Interrupts) -> tuple[str, dict[str, object]]:
    from benchmarks.exec import as_object, as_table, measure  # noqa: PLC0415

    times = measure(runs, interrupts)
    return as_table(times), as_object(times)


def _life(runs: int, interrupts: Interrupts) -> tuple[str, dict[str, object]]:
    from benchmarks.life import as_object, as_table, measure  # noqa: PLC0415

    life = measure(runs, interrupts)
    return as_table(life), as_object(life)


def _start(runs: int, interrupts: Interrupts) -> tuple[str, dict[str, object]]:
    from benchmarks.start import as_object, as_table, measure  # noqa: PLC0415

    steps = measure(runs, interrupts)
    return as_table(steps), as_object(steps)


def _path(runs: int, picture: Path | None, interrupts: Interrupts) -> tuple[str, dict[str, object]]:
    from benchmarks.path import measure  # noqa: PLC0415
    from benchmarks.path_figures import as_object, as_table  # noqa: PLC0415

    figures = measure(runs, interrupts)
    if picture is not None:
        from benchmarks.path_picture import draw  # noqa: PLC0415

        draw(figures, picture)
    return as_table(figures), as_object(figures)


def _path_guest(
    runs: int, picture: Path | None, interrupts: Interrupts
) -> tuple[str, dict[str, object]]:
    from benchmarks.path_guest import measure  # noqa: PLC0415
    from benchmarks.path_guest_figures import as_object, as_table  # noqa: PLC0415

    figures = measure(runs, interrupts)
    if picture is not None:
        from benchmarks.path_picture import draw_guests  # noqa: PLC0415

        draw_guests(figures, picture)
    return as_table(figures), as_object(figures)


def _watch(runs: int, interrupts: Interrupts) -> tuple[str, dict[str, object]]:
    from benchmarks.watch import as_object, as_table, measure  # noqa: PLC0415

    seen = measure(runs, interrupts)
    return as_table(seen), as_object(seen)


def _tap(runs: int, taps: int, interrupts: Interrupts) -> tuple[str, dict[str, object]]:
    from benchmarks.tap import measure  # noqa: PLC0415
    from benchmarks.tap_figures import as_object, as_table  # noqa: PLC0415

    figures = measure(runs, taps, interrupts)
    return as_table(figures), as_object(figures)


def exit_status(*, check: bool, all_met: bool) -> int:
    """Return the exit status: missing a wanted value is a failure only with *check*."""
    return EXIT_FAILED if check and not all_met else EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tools/bench", add_help=False)
    parser.add_argument("what", choices=sorted(DEFAULT_RUNS))
    parser.add_argument("--runs", type=_count)
    parser.add_argument("--taps", type=_tap_count, default=DEFAULT_TAPS)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--check", action="store_true")
    return parser


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return count


def _tap_count(text: str) -> int:
    count = int(text)
    if not FEWEST_TAPS <= count <= DEFAULT_TAPS:
        raise argparse.ArgumentTypeError(f"must be from {FEWEST_TAPS} to {DEFAULT_TAPS}")
    return count


if __name__ == "__main__":
    sys.exit(main())
