# SPDX-License-Identifier: LGPL-2.1-or-later
"""The files in which packages describe what they provide for QEMU, such as firmware.

Each kind has a folder of JSON files (docs/interop in QEMU). Of files with the same name, the one in
the folder with the highest priority counts: the user's own, the administrator's, the
distribution's. An empty file hides those below it. The names give the order: the first match is
used.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

SYSTEM_FOLDERS: Final = (Path("/etc/qemu"), Path("/usr/share/qemu"))

MAX_FILE_BYTES: Final = 1024 * 1024
"""The largest descriptor; those of Debian have 1 KiB."""


def folders(kind: str, environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the folders of descriptors of *kind*, such as firmware, by priority."""
    system = tuple(folder / kind for folder in SYSTEM_FOLDERS)
    given = environment.get("XDG_CONFIG_HOME", "")
    home = environment.get("HOME", "")
    if given.startswith("/"):
        return (Path(given) / "qemu" / kind, *system)
    if home.startswith("/"):
        return (Path(home) / ".config/qemu" / kind, *system)
    return system


def read_files(kind: str, environment: Mapping[str, str]) -> Iterator[tuple[Path, bytes]]:
    """Yield the descriptors of *kind* that are not empty, in order; unreadable ones are skipped."""
    found: dict[str, Path] = {}
    for folder in reversed(folders(kind, environment)):
        found |= {path.name: path for path in _files_in(folder)}
    for name in sorted(found):
        raw = _read(found[name])
        if raw.strip():
            yield found[name], raw


def _files_in(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.suffix == ".json"]
    except OSError:
        return []


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES)
    except OSError:
        return b""
