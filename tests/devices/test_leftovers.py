# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a VM leaves in its folders."""

import os
from pathlib import Path

import pytest

from tests.devices.running import domain, running

AGENT = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"


@pytest.mark.qemu
def test_runtime_folder_goes_with_the_vm(tmp_path: Path) -> None:
    """A socket that bpferry made, and the folder for it, are there only while the VM is."""
    folder = Path(os.environ["XDG_RUNTIME_DIR"], "bpferry", "devices")

    with running(domain(AGENT), tmp_path):
        meanwhile = [entry.name for entry in folder.iterdir()]

    assert {"org.qemu.guest_agent.0", "control.sock", "qmp.sock"} == set(meanwhile)
    assert not folder.exists()
