# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry log: what bpferry and QEMU have said about a VM."""

import contextlib
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bpferry.cli import output
from bpferry.errors import BadInput, NotRunning
from bpferry.machine import journal
from bpferry.machine.log_file import log_files

POLL_SECONDS: Final = 0.25


def show(vm_name: str, *, follow: bool, as_json: bool) -> int:
    """Print what was said, and with *follow* what is said from now on.

    Raises:
        BadInput: both was asked for, one object and lines without an end.
        NotRunning: nothing was said that this user may read.
    """
    if follow and as_json:
        raise BadInput(
            "wrong usage: --json prints one object, and with --follow there is no end",
            "use one of the two",
        )
    file, former = log_files(vm_name)
    said_in_journal = journal.last_time(vm_name)
    said_in_file = _last_time(file)
    if not said_in_journal and not said_in_file:
        raise NotRunning(f"nothing was said about a VM '{vm_name}'", journal.hint(vm_name))
    if said_in_journal > said_in_file:
        return _show_journal(vm_name, follow=follow, as_json=as_json)
    return _show_file(former, file, follow=follow, as_json=as_json)


def _last_time(file: Path) -> float:
    """Return when *file* was last written, in seconds since 1970; 0 if there is none."""
    with contextlib.suppress(OSError):
        return file.stat().st_mtime if file.is_file() else 0.0
    return 0.0


def _show_journal(vm_name: str, *, follow: bool, as_json: bool) -> int:
    if not as_json:
        return journal.hand_over(vm_name, follow=follow)
    output.print_json({"source": "journal", "lines": journal.lines(vm_name)})
    return 0


def _show_file(former: Path, file: Path, *, follow: bool, as_json: bool) -> int:
    if as_json:
        lines = [_as_fields(line) for path in (former, file) for line in _lines(path)]
        output.print_json({"source": str(file), "lines": lines})
        return 0
    for path in (former, file):
        for line in _lines(path):
            output.print_text(line)
    if follow:
        _follow(file)
    return 0


def _follow(file: Path) -> None:
    """Print what is appended to *file* until Ctrl-C, which is how that ends."""
    try:
        for line in _new_lines(file):
            output.print_text(line)
    except KeyboardInterrupt as interrupt:
        # SIGTERM and SIGHUP arrive as this too, with their number.
        if hasattr(interrupt, "number"):
            raise


def _as_fields(line: str) -> dict[str, str]:
    when, _, text = line.partition(" ")
    return {"time": when, "text": text}


def _lines(path: Path) -> Iterator[str]:
    if not path.is_file():
        return  # A FIFO would be waited for.
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            yield from (line.rstrip("\n") for line in file)
    except FileNotFoundError:
        return


def _new_lines(path: Path) -> Iterator[str]:
    """Yield what is appended to *path* from now on, also when another file takes its place."""
    file = _open(path)
    if file is not None:
        file.seek(0, os.SEEK_END)
    rest = ""
    while True:
        # Looked at first: what was written before it was replaced is read to its end.
        replaced = file is None or not _is_at(path, file)
        rest += file.read() if file is not None else ""
        *whole, rest = rest.split("\n")
        yield from whole
        if replaced:
            if file is not None:
                file.close()
            file = _open(path)
        if not whole:
            time.sleep(POLL_SECONDS)


def _open(path: Path) -> io.TextIOWrapper | None:
    try:
        return path.open(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None


def _is_at(path: Path, file: io.TextIOWrapper) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except OSError:
        return False
