# SPDX-License-Identifier: LGPL-2.1-or-later
"""Import msgspec, which must not be interrupted, and which should not bring what nobody needs."""

import contextlib
import importlib
import signal
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType
from typing import Final

from bpferry.cli.stand_ins import in_place_of

NEEDLESS: Final = "typing_extensions"
"""msgspec takes from it what Python's own typing has since 3.11, and looks there if it is not
installed. To import it, and inspect with it, takes a twentieth of the time that a start takes."""

SELDOM: Final = ("msgspec.inspect", "msgspec.json", "msgspec.toml", "msgspec.yaml")
"""What msgspec brings along, and few commands use: with what is behind them, as much again."""


def import_msgspec() -> None:
    """Import it undivided by signals.

    It swallows an exception that is raised meanwhile, such as that of Ctrl-C, remains incomplete,
    and crashes the interpreter when it is used (SIGSEGV; seen with 0.22.0).
    """
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        with in_place_of(NEEDLESS, None), in_place_of("platform", _linux()), _once_used(SELDOM):
            importlib.import_module("msgspec")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _linux() -> ModuleType:
    """Return what stands for Python's ``platform``, of which uuid, until 3.11, asks one thing.

    msgspec imports uuid. To import ``platform``, with its regular expressions, takes a fiftieth of
    the time that a start takes.
    """
    found = ModuleType("platform")
    vars(found)["system"] = lambda: "Linux"
    return found


@contextlib.contextmanager
def _once_used(names: Sequence[str]) -> Iterator[None]:
    """Import the modules *names* in the block without running them, which their first use does."""
    finder = _LazyFinder(names)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _LazyFinder:
    """Finds the modules *names* as Python does, for ``LazyLoader``; the others are not for it."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def find_spec(
        self, name: str, path: Sequence[str] | None, _target: object = None
    ) -> ModuleSpec | None:
        """Return how the module *name* of a package at *path* is loaded; None if it is another."""
        found = PathFinder.find_spec(name, path) if name in self._names else None
        if found is not None and found.loader is not None:
            found.loader = LazyLoader(found.loader)
        return found
