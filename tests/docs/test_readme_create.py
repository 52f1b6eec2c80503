# SPDX-License-Identifier: LGPL-2.1-or-later
"""The README's first VM, made as it is written there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests import requires
from tests.client import fake_helper as fake
from tests.client.images import write_qcow2
from tests.client.test_create import KEY

README: Final = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")

COMMAND: Final = re.compile(r"^(bpferry create web .*)$", re.MULTILINE)

SHOWN: Final = re.compile(r"<!-- bpferry create -->\n```text\n(.*?)```", re.DOTALL)

MADE: Final = {
    r"MAC [0-9a-f:]{17}": "MAC 62:90:0c:3f:71:d4",
    r"user  .*, password for the console: .*": "user  SOMEBODY",
    r"ssh --user \S+": "ssh --user SOMEBODY",
    r"    +#": "    #",
}
"""What differs from host to host and each time, and from name to name."""


def plain(text: str) -> str:
    """Return *text* as it would be on every host."""
    for pattern, replacement in MADE.items():
        text = re.sub(pattern, replacement, text)
    return text


def test_the_first_vm_is_made_as_shown(tmp_path: Path) -> None:
    """The command's own words are in the README; only addresses, names and passwords differ."""
    requires.program("qemu-img")
    command, shown = COMMAND.search(README), SHOWN.search(README)
    assert command is not None
    assert shown is not None
    words = shlex.split(command[1].replace("~", str(tmp_path)))
    write_qcow2(tmp_path / words[words.index("--image") + 1])
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_ed25519.pub").write_text(KEY)
    env = {name: text for name, text in os.environ.items() if not name.startswith("XDG_")}
    with fake.helper(tmp_path / "tap.sock", fake.permits(fake.hangs_up)):
        done = subprocess.run(
            [sys.executable, "-m", *words],
            env={
                **env,
                "PYTHONPATH": os.pathsep.join(sys.path),
                "HOME": str(tmp_path),
                "BPFERRY_TAP_SOCKET": str(tmp_path / "tap.sock"),
            },
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert plain(shown[1]) == plain(done.stdout)


@pytest.mark.parametrize("word", ["SHA512SUMS", "https://cloud.debian.org/images/cloud/", "kernel"])
def test_a_new_user_reads_where_an_image_comes_from(word: str) -> None:
    """With its checksum, and that no kernel is needed."""
    section = README.partition("## Your first VM\n")[2].partition("\n## ")[0]

    assert word in section
