# SPDX-License-Identifier: LGPL-2.1-or-later
"""The files by which VNC and SPICE speak TLS."""

from pathlib import Path

import pytest

from bpferry.commandline.build import Built
from bpferry.commandline.context import TlsFolder
from bpferry.commandline.parts import Certificates
from bpferry.machine.certificates import FILES, find_missing_certificates, find_tls_folder
from tests.support.people import ALICE, acting_as


def test_folder_is_among_the_users_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each protocol has its own; one that is there asks for TLS."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "bpferry" / "pki" / "spice"
    before = find_tls_folder("spice")
    folder.mkdir(parents=True)

    assert TlsFolder(str(folder), are_there=False) == before
    assert TlsFolder(str(folder), are_there=True) == find_tls_folder("spice")


def test_missing_files_are_named(tmp_path: Path) -> None:
    """Each with what it is."""
    (tmp_path / "ca-cert.pem").touch()
    built = Built((), (Certificates(str(tmp_path), "graphics[0]"),), ())
    (found,) = find_missing_certificates(built)

    assert (
        f"TLS needs certificates, and '{tmp_path}' lacks server-cert.pem and server-key.pem"
    ) == found.message
    assert "server-key.pem, this host's private key" in found.hint
    assert "graphics[0]" == found.element


def test_nothing_is_missing(tmp_path: Path) -> None:
    """Three files are enough."""
    for name in FILES:
        (tmp_path / name).touch()
    built = Built((), (Certificates(str(tmp_path), "graphics[0]"),), ())

    assert [] == list(find_missing_certificates(built))


@pytest.mark.privileged
def test_a_home_of_somebody_else_has_no_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root's for a user whom setpriv or sudo made of root; the VM starts all the same."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "bpferry").mkdir(mode=0)
    tmp_path.chmod(0o755)

    with acting_as(ALICE):
        found = find_tls_folder("spice")

    assert not found.are_there
