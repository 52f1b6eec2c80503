# SPDX-License-Identifier: LGPL-2.1-or-later
"""The files in which the host's kernel lists devices, and through which it gives them away.

All are looked for below one folder, which is the root of the host, except in tests.
"""

import os
from pathlib import Path
from typing import Final

from msgspec import Struct

from bpferry.network.groups import describe_owner


class HostFiles(Struct, frozen=True):
    """The host's /sys and /dev."""

    root: Path = Path("/")

    def path(self, name: str) -> Path:
        """Return where the file *name*, such as ``/dev/vfio/3``, is."""
        return self.root / name.lstrip("/")

    def text(self, name: str) -> str:
        """Return the word or line in a file; empty if it cannot be read."""
        try:
            return self.path(name).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""

    def names(self, folder: str) -> list[str]:
        """Return the names in *folder*, in order; none if there is no such folder."""
        try:
            return sorted(os.listdir(self.path(folder)))  # noqa: PTH208 - names alone
        except OSError:
            return []

    def target(self, link: str) -> str:
        """Return the last name of what *link* points to; empty if it is not a link."""
        try:
            return self.path(link).readlink().name
        except OSError:
            return ""

    def exists(self, name: str) -> bool:
        """Say whether the file *name* exists."""
        return self.path(name).exists()

    def may_use(self, node: str) -> bool:
        """Say whether this user may read and write *node*."""
        return os.access(self.path(node), os.R_OK | os.W_OK, effective_ids=True)

    def owner_of(self, node: str) -> str:
        """Return owner and mode of *node*, such as ``root:kvm, mode 0660``; empty if missing."""
        try:
            found = self.path(node).stat()
        except OSError:
            return ""
        return describe_owner(found)


HOST: Final = HostFiles()
"""The files of this host itself."""
