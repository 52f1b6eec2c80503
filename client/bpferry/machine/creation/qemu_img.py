# SPDX-License-Identifier: LGPL-2.1-or-later
"""qemu-img, the program that knows images: what one has in it, and a new one on top of it.

It is always told the format, so that it never guesses: a raw image whose guest wrote a header of
qcow2 could otherwise name any file of the host.
"""

import os
import subprocess
from pathlib import Path
from typing import Final

import msgspec

from bpferry.errors import NotReady, QemuError
from bpferry.machine.companions import find_program
from bpferry.machine.creation.wish import BaseImage

PROGRAM: Final = "qemu-img"

PACKAGE: Final = "qemu-utils"

LOCKED: Final = "lock"
"""A word in what it says if another process has the image open for writing."""


class Info(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """What matters of ``qemu-img info``."""

    virtual_size: int
    backing_filename: str | None = None
    encrypted: bool = False
    format_specific: dict[str, object] = {}

    @property
    def data_file(self) -> str | None:
        """The file that has the contents of a qcow2 image, if that is not the image."""
        data = self.format_specific.get("data")
        found = data.get("data-file") if isinstance(data, dict) else None
        return None if found is None else str(found)


def read_info(path: str, image_format: str) -> Info:
    """Return what is in the image *path*.

    Raises:
        BpferryError: qemu-img is not there, or cannot read the image.
    """
    said = _run(f"cannot use the image '{path}'", "info", "--output=json", "-f", image_format, path)
    try:
        return msgspec.json.decode(said, type=Info)
    except msgspec.MsgspecError as error:
        raise QemuError(f"cannot understand what '{PROGRAM} info' says of '{path}'") from error


def make_overlay(disk: Path, image: BaseImage, size: int) -> None:
    """Make the image *disk* of *size* bytes on top of *image*.

    Raises:
        BpferryError: it cannot be made.
    """
    _run(
        f"cannot make the disk '{disk}'",
        "create", "-q", "-f", "qcow2", "-F", image.format, "-b", image.path, str(disk), str(size),
    )  # fmt: skip
    disk.chmod(0o600)


def _run(what: str, *words: str) -> bytes:
    """Run it, and return what it prints; *what* begins the message if it fails."""
    program = find_program(PROGRAM)
    if program is None:
        raise NotReady(
            f"{what}: '{PROGRAM}' is not installed", f"install it; Debian's package is '{PACKAGE}'"
        )
    # Ended together with us: run() kills it if a signal interrupts.
    done = subprocess.run(
        [program, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    if done.returncode == 0:
        return done.stdout
    said = done.stderr.decode(errors="replace").strip()
    last = said.splitlines()[-1].removeprefix(f"{PROGRAM}: ") if said else "it says no reason"
    hint = ""
    if LOCKED in last:
        hint = "another VM has it open to write to it: stop that VM, or use a copy of the image"
    raise QemuError(f"{what}: {PROGRAM}: {last}", hint, said)
