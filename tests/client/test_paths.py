# SPDX-License-Identifier: LGPL-2.1-or-later
"""A path in a folder that is closed to the user is told like any other problem, with its place."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bpferry.machine.paths import closed_folder, exists, is_folder, is_socket
from tests.client.support import let_in

NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")

FLASH = "<loader type='pflash' readonly='yes'>{open}/code</loader><nvram>{closed}/a/nvram</nvram>"
SERIAL = "<serial type='unix'><source mode='connect' path='{closed}/s'/></serial>"
TPM = (
    "<tpm model='tpm-crb'><backend type='emulator' version='2.0'>"
    "<source type='dir' path='{closed}/tpm'/></backend></tpm>"
)
TPM_THERE = TPM.replace("/tpm'/>", "'/>")
PIPE = "<serial type='pipe'><source path='{closed}/p'/></serial>"
DEVICE = "<serial type='dev'><source path='{closed}/d'/></serial>"
LISTENING = "<serial type='unix'><source mode='bind' path='{closed}/s'/></serial>"
EMULATOR = "<emulator>{closed}/qemu</emulator>"


def check(folder: Path, os_part: str = "", devices: str = "") -> subprocess.CompletedProcess[str]:
    """Check a VM as the user nobody, with a folder that is closed to him."""
    let_in(folder)
    for name in ("home", "open"):
        (folder / name).mkdir(mode=0o777)
        (folder / name).chmod(0o777)
    (folder / "closed").mkdir(mode=0o700)
    (folder / "open" / "code").write_bytes(bytes(2**16))
    names = {"open": folder / "open", "closed": folder / "closed"}
    text = (
        "<domain type='qemu'><name>v</name><memory unit='MiB'>64</memory>\n"
        f"<os><type arch='x86_64' machine='q35'>hvm</type>\n{os_part.format(**names)}\n</os>"
        f"<devices>\n{devices.format(**names)}\n</devices></domain>"
    )
    (folder / "vm.xml").write_text(text, encoding="utf-8")
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(folder / "home"),
        "XDG_RUNTIME_DIR": str(folder / "home"),
    }  # fmt: skip
    for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"):
        environment.pop(name, None)
    argv = [*NOBODY, sys.executable, "-m", "bpferry", "check", str(folder / "vm.xml")]
    return subprocess.run(
        argv, check=False, capture_output=True, text=True, env=environment, timeout=120
    )


def test_what_a_path_leads_to(tmp_path: Path) -> None:
    """A file that is there, a folder, and nothing."""
    (tmp_path / "f").touch()

    assert exists(tmp_path / "f")
    assert not exists(tmp_path / "g")
    assert is_folder(tmp_path)
    assert not is_folder(tmp_path / "f")
    assert not is_socket(tmp_path / "f")
    assert not closed_folder(tmp_path / "f")


@pytest.mark.qemu
@pytest.mark.privileged
@pytest.mark.parametrize(
    ("os_part", "devices", "says"),
    [
        (FLASH, "", "cannot use '{}/a/nvram': the folder '{}' is closed to you"),
        ("", SERIAL, "cannot connect to '{}/s': the folder '{}' is closed to you"),
        ("", PIPE, "cannot open the named pipe '{}/p': the folder '{}' is closed to you"),
        ("", DEVICE, "cannot use the device '{}/d': the folder '{}' is closed to you"),
        ("", LISTENING, "cannot listen at '{}/s': the folder '{}' is closed to you"),
        ("", TPM, "cannot make the folder '{}/tpm': the folder '{}' is closed to you"),
        ("", TPM_THERE, "cannot write into the folder '{}': you may not create files in '{}'"),
        ("", EMULATOR, "cannot start '{}/qemu': Permission denied"),
    ],
)
def test_closed_folder_is_a_finding_with_its_place(
    os_part: str, devices: str, says: str, tmp_path: Path
) -> None:
    """What to do is told too."""
    done = check(tmp_path, os_part, devices)

    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert says.format(*[tmp_path / "closed"] * 2) in said
    assert "cannot continue" not in said
    assert f"vm.xml':{3 if os_part else 5}: " in said
    assert f"ask the owner of '{tmp_path}/closed' to let you " in said
