# SPDX-License-Identifier: LGPL-2.1-or-later
"""The client alone, as pip installs it from a wheel that was built from the sdist."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.lint.test_package import INPUTS, REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

WITHOUT_HELPERS: Final = """
for folder in /run /etc/systemd/system /usr/local/lib/systemd /usr/lib/systemd/system; do
    [ ! -d $folder ] || mount -t tmpfs none $folder
done
exec "$@"
"""
"""Hides the sockets and units of helpers that this machine may have."""

BUILD: Final = """
import os, sys
from setuptools import build_meta
os.chdir(sys.argv[1])
print(build_meta.build_sdist(sys.argv[2]))
"""

SECONDS: Final = 300
"""It takes ten; an index may be slow."""


def check(*command: str | Path) -> str:
    """Run *command* and return its output."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS)
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(name="commands", scope="module")
def _commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of commands of a fresh environment with bpferry[client]."""
    folder = tmp_path_factory.mktemp("pip")
    source = folder / "source"
    source.mkdir()
    check("cp", "-r", *(REPOSITORY / name for name in INPUTS), source)
    # With the pip of the tests: to install one takes as long as all the rest.
    check(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    pip = (sys.executable, "-m", "pip", "--python", folder / "venv/bin/python")
    check(*pip, "install", "--quiet", "setuptools", "wheel")
    check(folder / "venv/bin/python", "-c", BUILD, source, folder)
    (sdist,) = folder.glob("bpferry-*.tar.gz")
    check(
        *pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, sdist
    )
    (wheel,) = folder.glob("bpferry-*.whl")
    check(*pip, "install", "--quiet", f"{wheel}[client]")
    return folder / "venv/bin"


def test_client_checks_a_description(commands: Path, tmp_path: Path) -> None:
    """All that it imports is there: it shows the command line of a VM."""
    description = tmp_path / "web.toml"
    description.write_text('name = "web"\nmemory = "64 MiB"\n')
    shown = check(commands / "bpferry", "convert", "--to", "xml", description)

    assert "<name>web</name>" in shown


@pytest.mark.privileged
def test_client_says_what_installs_the_helpers(commands: Path) -> None:
    """It cannot install them itself: they are services of the system."""
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", WITHOUT_HELPERS, "sh", commands / "bpferry", "doctor"],
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    words = " ".join(done.stdout.split())

    assert "bpferry's helpers are not installed on this host" in words, done.stdout + done.stderr
    assert "sudo tools/install" in words
    assert "bpferry-helper.deb" in words
