# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each tool explains itself, and does nothing else when it is asked to."""

import subprocess
from pathlib import Path
from typing import Final

import pytest

TOOLS: Final = Path(__file__).parents[2] / "tools"


@pytest.mark.parametrize("tool", ["bench", "demo", "install", "package", "test"])
@pytest.mark.parametrize("word", ["-h", "--help"])
def test_a_tool_explains_itself(tool: str, word: str, tmp_path: Path) -> None:
    """The help names the tool and says how it is called; it needs no root and installs nothing."""
    # To the tool we are an ordinary user, whom it would not let further than this.
    nobody = tmp_path / "id"
    nobody.write_text("#!/bin/sh\necho 65534\n")
    nobody.chmod(0o755)
    done = subprocess.run(
        [TOOLS / tool, word],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=False,
        timeout=5,
    )  # fmt: skip

    assert (0, "") == (done.returncode, done.stderr)
    assert f"tools/{tool}" in done.stdout
