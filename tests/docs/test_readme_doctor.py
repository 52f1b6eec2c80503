# SPDX-License-Identifier: LGPL-2.1-or-later
"""The README's sessions with bpferry doctor, held against both real helpers and a real kernel."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.helper_process import running_helper
from tests.support.people import ALICE, SOCKET_GID
from tests.support.tap_process import TapProcess, running_tap_helper

pytestmark = [pytest.mark.privileged, pytest.mark.kernel, pytest.mark.qemu]

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")

POLICY = f"[users.{ALICE.uid}]\nbridges = ['br0']\nqueues-per-tap = 4\ntaps = 4\n"

FINDING = re.compile(r"^  (?:ok|warning|fault) .*(?:\n {11}.*)*", re.MULTILINE)
"""One finding with all of its lines."""


def shown(words: str) -> list[str]:
    """Return the findings of the README's session with the heading *words*, each as one line."""
    [block] = re.findall(rf"<!-- {words} -->\n```text\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return [" ".join(found.split()) for found in FINDING.findall(block)]


@contextmanager
def two_helpers() -> Iterator[tuple[TapProcess, dict[str, str]]]:
    """Run both helpers on a host with br0; yield the host, and where the sockets are."""
    with running_tap_helper(POLICY) as taps, running_helper(None) as sets:
        yield (
            taps,
            {"BPFERRY_TAP_SOCKET": str(taps.path), "BPFERRY_BPF_SOCKET": str(sets.path)},
        )


def findings_of(
    host: TapProcess, sockets: dict[str, str], folder: Path, group: int, *words: str
) -> tuple[int, str]:
    """Run bpferry doctor with *words* as Alice in *group*; return its status and what it finds.

    What the README has in the place of the tests' own names is put in, each finding in one line.
    """
    names = [f"{name}={value}" for name, value in sockets.items()]
    done = subprocess.run(
        host.command(
            "setpriv", f"--reuid={ALICE.uid}", f"--regid={group}", "--clear-groups",
            "env", "-i", "-C", str(folder), "PATH=/usr/bin:/bin", f"HOME={folder}", *names,
            f"PYTHONPATH={REPOSITORY / 'client'}:{REPOSITORY / 'shared'}",
            sys.executable, "-B", "-m", "bpferry", "doctor", *words,
        ),
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    text = "\n".join(" ".join(found.split()) for found in FINDING.findall(done.stdout))
    for name, value in sockets.items():
        text = text.replace(value, f"/run/bpferry/{name.split('_')[1].lower()}.sock")
    text = re.sub(rf"(?:person)?{ALICE.uid}", "alice", text)
    return done.returncode, text.replace(str(SOCKET_GID), "bpferry")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a folder of Alice's with the README's VM and its image.

    It is not pytest's own: each pytest that starts closes the one above those to other users.
    """
    [vm] = re.findall(r'^```toml\n(name = "web".*?)^```', README, re.MULTILINE | re.DOTALL)
    with TemporaryDirectory(prefix="bpferry-test-") as name:
        made = Path(name)
        (made / "web.toml").write_text(vm, encoding="utf-8")
        image = made / "web.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "1M"], check=True)
        for path in (made, *made.iterdir()):
            os.chown(path, ALICE.uid, ALICE.gid)
        yield made


def test_whoever_is_not_in_the_group_is_told_so(folder: Path) -> None:
    """The sentence and the command of the README are what such a user sees."""
    with two_helpers() as (host, sockets):
        status, found = findings_of(host, sockets, folder, 1000)

    assert status == 1
    assert [] == [
        one
        for one in shown("bpferry doctor, as a user who is not in the group")
        if one not in found
    ]


def test_whoever_is_in_the_group_sees_a_host_that_is_ready(folder: Path) -> None:
    """Each finding of the README is there, the proof in the kernel too, and there is no fault."""
    with two_helpers() as (host, sockets):
        status, found = findings_of(host, sockets, folder, SOCKET_GID, "--deep", "web.toml")

    words = "bpferry doctor --deep web.toml, as a user who is in the group"
    assert status == 0, found
    assert [] == [one for one in shown(words) if one not in found]
