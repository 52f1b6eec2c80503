# SPDX-License-Identifier: LGPL-2.1-or-later
"""Import modules of others without what they bring along and no command needs of them."""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType


@contextlib.contextmanager
def in_place_of(name: str, module: ModuleType | None) -> Iterator[None]:
    """Let who imports *name* in the block get *module*, unless it has been imported before.

    None in sys.modules means that there is no such module (Python's reference, 5.3.1).
    """
    if name in sys.modules:
        yield
        return
    sys.modules[name] = module  # type: ignore[assignment]  # typeshed does not know of None
    try:
        yield
    finally:
        del sys.modules[name]


def import_pathlib() -> None:
    """Import ``pathlib``, which until Python 3.12 imports ``urllib.parse``, and so ``ipaddress``.

    It needs one function of it, for ``Path.as_uri`` alone. To import both takes a fiftieth of the
    time that a start takes.
    """
    with in_place_of("urllib.parse", _quoting()):
        importlib.import_module("pathlib")


def _quoting() -> ModuleType:
    """Return what stands for ``urllib.parse``, and asks it when it is called."""

    def quote_from_bytes(path: bytes) -> str:
        from urllib import parse  # noqa: PLC0415 - see above

        return parse.quote_from_bytes(path)

    found = ModuleType("urllib.parse")
    vars(found)["quote_from_bytes"] = quote_from_bytes
    return found
