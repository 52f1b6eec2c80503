# SPDX-License-Identifier: LGPL-2.1-or-later
"""Run a command that becomes a QEMU, and print what that has open; runs in the host, as a user.

    launched.py COMMAND...

QEMU's monitor is added, which answers when all of its devices are there. Prints one JSON object.
"""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path


def main(*command: str) -> None:
    """Do it, and end QEMU by its monitor."""
    with subprocess.Popen(
        [*command, "-monitor", "stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("info network\n")
        process.stdin.flush()
        if any("type=tap" in line for line in process.stdout):
            links = Path(f"/proc/{process.pid}/fd").iterdir()
            files = Counter(str(link.readlink()) for link in links)
            process.stdin.write("quit\n")
            process.stdin.flush()
            print(json.dumps(files))  # noqa: T201
    sys.exit(process.returncode)


if __name__ == "__main__":
    main(*sys.argv[1:])
