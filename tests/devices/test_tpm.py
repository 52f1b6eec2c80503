# SPDX-License-Identifier: LGPL-2.1-or-later
"""A TPM in a real QEMU, played by a real swtpm."""

from pathlib import Path

import pytest

from tests import requires
from tests.client.support import wait_until
from tests.devices.running import domain, running

pytestmark = pytest.mark.qemu


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what the VM leaves in the test's own folder."""
    requires.program("swtpm")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "run").mkdir()


@pytest.mark.parametrize(
    ("model", "version"), [("tpm-crb", "2.0"), ("tpm-tis", "2.0"), ("tpm-tis", "1.2")]
)
def test_emulated_tpm_is_there(model: str, version: str, tmp_path: Path) -> None:
    """QEMU has found the emulator and made the device."""
    tpm = f"<tpm model='{model}'><backend type='emulator' version='{version}'/></tpm>"

    with running(domain(tpm), tmp_path) as vm:
        assert [
            {"id": "tpm-tpm0", "model": model, "options": {
                "type": "emulator", "data": {"chardev": "chrtpm"}}}
        ] == vm.execute("query-tpm")  # fmt: skip


def test_state_is_kept_for_the_next_run(tmp_path: Path) -> None:
    """What the firmware has made of a new TPM is there for the next start."""
    tpm = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"
    state = tmp_path / "state" / "bpferry" / "devices" / "tpm2" / "tpm2-00.permall"

    with running(domain(tpm), tmp_path) as vm:
        vm.execute("cont")
        assert wait_until(state.exists)
    kept = state.stat().st_ino, state.stat().st_size
    with running(domain(tpm), tmp_path):
        pass

    assert kept[1] > 0
    assert 0o600 == state.stat().st_mode & 0o7777


def test_nobody_else_can_reach_the_emulator(tmp_path: Path) -> None:
    """Its socket has no path: in the VM's folder are only those for its user."""
    tpm = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"
    folder = tmp_path / "run" / "bpferry" / "devices"

    with running(domain(tpm), tmp_path):
        assert {"control.sock", "qmp.sock"} == {path.name for path in folder.iterdir()}
    assert not folder.exists()
