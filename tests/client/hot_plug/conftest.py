# SPDX-License-Identifier: LGPL-2.1-or-later
"""Folders of the tests' own, in which VMs are looked for."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))
