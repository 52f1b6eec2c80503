# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a test's policy file is, and how it is read."""

from pathlib import Path
from typing import Final

import pytest

from bpferry_helper.policy.file import read_policy
from bpferry_helper.policy.rules import Policy

GROUP: Final = 36
"""The group of the socket."""


@pytest.fixture
def path(roots_folder: Path) -> Path:
    """Return where the policy file shall be."""
    return roots_folder / "policy.toml"


def read(path: Path, text: str | bytes) -> Policy:
    """Write *text* and read it as a policy."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_policy(str(path), GROUP)
