# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files that have to exist before QEMU starts: those that are named, and our own."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from bpferry.commandline.build import Built
from bpferry.commandline.parts import Copy, Folder
from bpferry.domain.binding import Form
from bpferry.domain.checks import texts_of
from bpferry.domain.document import Document
from bpferry.domain.model.machine import Machine
from bpferry.domain.shape import Field
from bpferry.errors import BpferryError, NotReady
from bpferry.machine.listening import make_folder


def find_missing_files(document: Document) -> Iterator[NotReady]:
    """Yield an error for each file or folder of the VM that is missing or cannot be read."""
    for key, bound, path in texts_of(document.machine):
        look = _look_into_file if _is_rom(bound, path) else LOOKS.get(bound.at.form)
        if look is None:
            continue
        try:
            look(path)
        except OSError as error:
            yield NotReady(
                f"{document.origins.describe(key)}: cannot read '{path}': {error.strerror}",
                _way_out(key, path, error, document.machine),
                document.origins.element_of(key),
            )


def _is_rom(bound: Field, path: str) -> bool:
    """Say whether *path* is the ROM of a card, which may also be empty."""
    return bound.name == "rom_file" and path.startswith("/")


def _way_out(key: str, path: str, error: OSError, machine: Machine) -> str:
    if isinstance(error, FileNotFoundError):
        other = ""
        if key in ("loader.path", "nvram.template"):
            from bpferry.machine.uefi_files import find_other_firmware  # noqa: PLC0415 - rare
            from bpferry.qemu.firmware import read_descriptors  # noqa: PLC0415 - as above

            arch = machine.arch or os.uname().machine
            other = find_other_firmware(path, arch, read_descriptors())
        return other or "correct the path, or create the file"
    if isinstance(error, PermissionError):
        return "choose a file that you may read, or ask its owner for access"
    return "correct the path"


def _look_into_file(path: str) -> None:
    with Path(path).open("rb"):
        pass


def _look_into_folder(path: str) -> None:
    with os.scandir(path):
        pass


LOOKS: Final[Mapping[Form, Callable[[str], None]]] = {
    Form.FILE: _look_into_file,
    Form.FOLDER: _look_into_folder,
}
"""How to find out whether a path can be read."""


def make_files(built: Built, document: Document) -> None:
    """Make the folders and copies that the command line relies on, if they are missing.

    Raises:
        BpferryError: one of them cannot be made.
    """
    for folder in built.of(Folder):
        make_folder(Path(folder.path))
    for copy in built.of(Copy):
        target = Path(copy.target)
        make_folder(target.parent)
        try:
            _copy_once(Path(copy.source), target)
        except OSError as error:
            raise BpferryError(
                f"cannot create '{target}' from '{copy.source}': {error.strerror}",
                f"it is for {document.origins.describe(copy.key)}",
            ) from error


def _copy_once(source: Path, target: Path) -> None:
    """Copy *source* to *target*, whole or not at all; an existing file is kept."""
    import shutil  # noqa: PLC0415 - rarely needed, and brings compressors

    if target.exists():
        return
    half = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        fd = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with source.open("rb") as template, os.fdopen(fd, "wb") as copy:
            shutil.copyfileobj(template, copy)
        # The link fails if somebody was quicker; then it does not matter whose copy it is.
        with contextlib.suppress(FileExistsError):
            os.link(half, target)
    finally:
        half.unlink(missing_ok=True)
