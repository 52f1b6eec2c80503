# SPDX-License-Identifier: LGPL-2.1-or-later
"""Encrypted images in a real QEMU, which reads the passphrase from memory that it inherits.

The images are made by QEMU as well, as ``qemu-img create`` makes them.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest

from bpferry.errors import BpferryError
from tests import requires
from tests.devices.running import Running, domain, running

pytestmark = pytest.mark.qemu

MIB = 1024 * 1024
PHRASE = "c0rrect horse"
UUID = "0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f"
LUKS = f"<encryption format='luks'><secret type='passphrase' uuid='{UUID}'/></encryption>"

SETTINGS = {"key-secret": "s", "iter-time": 10}
"""Ten milliseconds of work for the one who opens it; a second is usual."""


def make_image(path: Path, driver: str) -> None:
    """Make an encrypted image of 4 MiB, as ``qemu-img create`` does."""
    path.touch()
    options: dict[str, object] = {"driver": driver, "file": "f", "size": 4 * MIB}
    options |= {"encrypt": {"format": "luks", **SETTINGS}} if driver == "qcow2" else SETTINGS
    secret = {"qom-type": "secret", "id": "s", "data": PHRASE}
    file = {"driver": "file", "filename": str(path), "node-name": "f"}
    asked: list[tuple[str, dict[str, object]]] = [
        ("qmp_capabilities", {}),
        ("blockdev-add", {**file}),
        ("blockdev-create", {"job-id": "j", "options": options}),
    ]
    argv = [requires.qemu(), "-M", "none", "-display", "none", "-nodefaults", "-qmp", "stdio"]
    with subprocess.Popen(
        [*argv, "-object", json.dumps(secret)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        for command, arguments in asked:
            print(json.dumps({"execute": command, "arguments": arguments}), file=process.stdin)
        process.stdin.flush()
        for line in process.stdout:
            if json.loads(line).get("data", {}).get("status") == "concluded":
                print(json.dumps({"execute": "quit"}), file=process.stdin, flush=True)
                return


def disk(driver: str, encryption: str = LUKS) -> str:
    """Return the XML of a disk from the file ``image``, encrypted."""
    return (
        f"<disk type='file' device='disk'><driver type='{driver}'/><source file='image'>"
        f"{encryption}</source><target dev='vda' bus='virtio'/></disk>"
    )


def key_file(folder: Path, text: str) -> dict[str, str]:
    """Write *text* into a private file, and return where the secret is."""
    path = folder / "key"
    path.write_text(text)
    path.chmod(0o600)
    return {UUID: str(path)}


def node(vm: Running, name: str) -> dict[str, object]:
    """Return what QEMU says of a block node."""
    found = cast("list[dict[str, object]]", vm.execute("query-named-block-nodes", flat=True))
    return next(one for one in found if one["node-name"] == name)


@pytest.mark.parametrize(("driver", "kind"), [("raw", "luks"), ("qcow2", "qcow2")])
def test_encrypted_image_is_open(driver: str, kind: str, tmp_path: Path) -> None:
    """QEMU has decrypted it, and the guest sees what is in it."""
    make_image(tmp_path / "image", kind)
    with running(domain(disk(driver)), tmp_path, key_file(tmp_path, f"{PHRASE}\n")) as vm:
        found = node(vm, "vda-format")

        image = cast("dict[str, object]", found["image"])
        assert (kind, True, 4 * MIB) == (found["drv"], image["encrypted"], image["virtual-size"])
        argv = Path(f"/proc/{vm.child.pid}/cmdline").read_bytes()
        assert PHRASE.encode() not in argv


def test_wrong_passphrase_is_refused(tmp_path: Path) -> None:
    """QEMU does not start."""
    make_image(tmp_path / "image", "luks")
    with (
        pytest.raises(AssertionError, match="Invalid password"),
        running(domain(disk("raw")), tmp_path, key_file(tmp_path, "wrong")),
    ):
        pass


def test_secret_that_is_not_named(tmp_path: Path) -> None:
    """It is said where in the document, and how to name it, before anything is started."""
    (tmp_path / "image").touch()
    with (
        pytest.raises(BpferryError, match=f"it needs the secret '{UUID}'") as caught,
        running(domain(disk("raw")), tmp_path),
    ):
        pass

    assert "/domain/devices/disk/source/encryption/secret" == caught.value.element
    assert f"--secret {UUID}=FILE" in caught.value.hint


def bpferry(*words: str) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "bpferry", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**requires.environment(), "PYTHONPATH": ":".join(sys.path)},
    )


def test_command_says_which_secret_was_wrong(tmp_path: Path) -> None:
    """The message has the file and the place, and QEMU's own words."""
    make_image(tmp_path / "image", "luks")
    (tmp_path / "vm.xml").write_text(domain(disk("raw")))
    files = key_file(tmp_path, "wrong")
    done = bpferry("run", "--secret", f"{UUID}={files[UUID]}", str(tmp_path / "vm.xml"))

    assert 1 == done.returncode
    assert "Invalid password, cannot unlock any keyslot\n" in done.stderr
    assert "hint: QEMU has been given the secret in " in done.stderr
    assert f"'{files[UUID]}' for '{tmp_path}/vm.xml'" in done.stderr


def test_dry_run_says_what_is_missing_and_no_secret(tmp_path: Path) -> None:
    """It needs no file, opens none, and tells what a start would fail with."""
    document = tmp_path / "vm.xml"
    document.write_text(domain(disk("raw")))
    (tmp_path / "image").touch()
    without = json.loads(bpferry("run", "--dry-run=json", str(document)).stdout)
    files = key_file(tmp_path, PHRASE)
    secrets = tmp_path / "secrets.toml"
    secrets.write_text(f'[[secrets]]\nname = "{UUID}"\nfile = "key"\n')
    words = ("run", "--dry-run=json", "--secrets", str(secrets), str(document))
    named = json.loads(bpferry(*words).stdout)

    assert [f"it needs the secret '{UUID}', and no file is named for it"] == [
        error["message"].rpartition("': ")[2] for error in without["errors"]
    ]
    assert [] == named["warnings"]
    assert without["argv"] == named["argv"]
    assert PHRASE not in json.dumps(named)
    assert str(files[UUID]) not in named["argv"]
