# SPDX-License-Identifier: LGPL-2.1-or-later
"""A state folder."""

from pathlib import Path

import pytest

from bpferry_helper.bpf.state import StateFolder


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    """Return an empty state folder."""
    return StateFolder(str(tmp_path))
