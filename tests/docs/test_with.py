# SPDX-License-Identifier: LGPL-2.1-or-later
"""The pages about other launchers: their commands, tried."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import requires

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "with" / "scripts.md").read_text(encoding="utf-8")

STANDS_IN = """#!/bin/sh
shift
exec {python} -m bpferry exec --dry-run=json "$@"
"""


@pytest.mark.qemu
def test_the_script_of_the_page_gets_four_queues(tmp_path: Path) -> None:
    """As it is there, but for a dry run in place of a start."""
    requires.qemu()
    (block,) = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    bpferry = tmp_path / "bpferry"
    bpferry.write_text(STANDS_IN.format(python=sys.executable), encoding="utf-8")
    bpferry.chmod(0o755)
    paths = os.pathsep.join(str(REPOSITORY / part) for part in ("client", "shared"))
    done = subprocess.run(
        ["sh", "-c", block],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": paths},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    said = json.loads(done.stdout)

    assert [("nic0", 4)] == [(nic["id"], nic["queues"]) for nic in said["nics"]]
    assert said["requests"][0]["mac"] == "52:54:00:12:34:56"
