# SPDX-License-Identifier: LGPL-2.1-or-later
"""The README's example of bpferry exec, tried."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from tests import requires
from tests.docs.test_readme import README, REPOSITORY


@pytest.mark.qemu
def test_the_dry_run_prints_what_the_readme_shows() -> None:
    """Line by line; only the version of QEMU may be another one."""
    requires.qemu()
    found = re.search(
        r"^(bpferry exec --dry-run .*)\n```\n\n```text\n(.*?)^```", README, re.MULTILINE | re.DOTALL
    )
    assert found is not None
    _, *words = shlex.split(found[1])
    path = os.pathsep.join(str(REPOSITORY / part) for part in ("client", "shared"))
    done = subprocess.run(
        [sys.executable, "-m", "bpferry", *words],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True,
    )  # fmt: skip

    version = r"QEMU [\d.]+"
    assert re.sub(version, "", found[2]) == re.sub(version, "", done.stdout)
