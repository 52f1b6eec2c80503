# SPDX-License-Identifier: LGPL-2.1-or-later
"""Find kernel modules and the order in which they have to be loaded.

Debian's kernel packages have no modules.dep (their installation script makes it), so the order
comes from the modules: each lists its dependencies in its ".modinfo" section, as a NUL-terminated
"depends=one,two". Debian 12 ships plain modules, Debian 13 compresses them with xz.
"""

import lzma
from dataclasses import dataclass, field
from pathlib import Path

from guest.command import GuestError

SUFFIXES = (".ko", ".ko.xz")
DEPENDS = b"\0depends="


@dataclass(slots=True)
class Modules:
    """The modules of one unpacked kernel: *folder* is its lib/modules/RELEASE."""

    folder: Path
    chosen: dict[str, bytes] = field(default_factory=dict)
    """What was chosen so far, uncompressed, in the order to load."""

    def choose(self, name: str) -> None:
        """Choose the module *name* after its dependencies; it may be built into the kernel."""
        if name in self.chosen or self._built_in(name):
            return
        content = self._read(name)
        for needed in dependencies(content):
            self.choose(needed)
        self.chosen[name] = content

    def _built_in(self, name: str) -> bool:
        lines = (self.folder / "modules.builtin").read_text().splitlines()
        return any(plain(Path(line).stem) == name for line in lines)

    def _read(self, name: str) -> bytes:
        for path in (self.folder / "kernel").rglob("*.ko*"):
            stem, dot, ending = path.name.partition(".")
            if plain(stem) == name and dot + ending in SUFFIXES:
                content = path.read_bytes()
                return lzma.decompress(content) if ending.endswith("xz") else content
        raise GuestError(f"cannot find kernel module '{name}' in '{self.folder}': no such file")


def plain(name: str) -> str:
    """Return *name* as the kernel spells it; a file may have hyphens instead of underscores."""
    return name.replace("-", "_")


def dependencies(content: bytes) -> list[str]:
    """Return the modules that the module with this *content* needs."""
    start = content.find(DEPENDS)
    if start < 0:
        return []
    start += len(DEPENDS)
    listed = content[start : content.index(b"\0", start)].decode()
    return [plain(name) for name in listed.split(",") if name]
