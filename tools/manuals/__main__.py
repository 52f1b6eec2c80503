# SPDX-License-Identifier: LGPL-2.1-or-later
"""Write all man pages and completions below a folder."""

import sys
from collections.abc import Iterator
from pathlib import Path

from manuals.command_pages import command_page
from manuals.commands import all_commands
from manuals.completions import SHELLS, completion
from manuals.text_pages import PAGES, text_page


def files() -> Iterator[tuple[str, str]]:
    """Yield the path of each file below the folder, and its text."""
    for command in all_commands():
        yield f"man/man1/{command.page}.1", command_page(command)
    for page in PAGES:
        yield f"man/man{page.section}/{page.name}.{page.section}", text_page(page)
    for shell, path in SHELLS.items():
        yield path, completion(shell)


def write(folder: Path) -> None:
    """Write them below *folder*."""
    for name, text in files():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(*map(Path, sys.argv[1:]))
