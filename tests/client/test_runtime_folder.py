# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the sockets of VMs are."""

from pathlib import Path

import pytest

from bpferry.machine.folders import folders_of, runtime_folders

NOBODY_S_UID = 1_700_112


def test_folder_of_a_session_elsewhere_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job of a cluster has the variables of the host that it was submitted at."""
    monkeypatch.setattr("os.getuid", lambda: NOBODY_S_UID)
    monkeypatch.setenv("XDG_RUNTIME_DIR", f"/run/user/{NOBODY_S_UID}")
    usual = f"/tmp/bpferry-{NOBODY_S_UID}/bpferry"

    assert f"{usual}/web" == folders_of("web").runtime
    assert Path(usual) == runtime_folders()[0]


def test_folder_that_is_yet_to_be_made_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who names another folder means it."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "later"))

    assert f"{tmp_path}/later/bpferry/web" == folders_of("web").runtime
