# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a new user does on a booted system with bpferry installed; this runs inside it, as root.

    first_vm.py USER

Gives USER a tap in a network namespace of its own, lets them start a VM that demands eBPF, looks at
what the administrator sees meanwhile, and stops the VM. Prints one JSON object.
"""

import json
import pwd
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

sys.path.append("/srv/bpferry/tools")

from guest.netns import Namespace, namespace

TAP: Final = "tap-first"
DESCRIPTION: Final = f"""
name = "first"
memory = "64 MiB"
vcpus = 4
accelerator = "tcg"

[[cards]]
tap = "{TAP}"
queues = 4
rss = true
"""
PATIENCE_S: Final = 20.0


def status() -> str:
    """Return what the administrator sees."""
    done = subprocess.run(
        ["bpferry-helper", "status"], check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def status_with_a_grant() -> str:
    """Return what the administrator sees as soon as there is a grant, or at last."""
    deadline = time.monotonic() + PATIENCE_S
    while "rss" not in (seen := status()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return seen


def start(space: Namespace, user: str, description: Path) -> "subprocess.Popen[str]":
    """Start the VM as *user* with all of their groups, in *space*."""
    enter = ["nsenter", f"--target={space.holder}", "--net", "--mount", "--"]
    become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--inh-caps=-all"]
    run = ["bpferry", "run", "--json", "--require-ebpf", str(description)]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [*enter, *become, "--", *run],
        stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, cwd="/",
    )  # fmt: skip


def main(user: str) -> None:
    """Do it, and print what was seen."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        description = Path(folder, "first.toml")
        description.write_text(DESCRIPTION)
        with namespace(pwd.getpwnam(user).pw_uid, ["10.84.0.1/24"], TAP) as space:
            process = start(space, user, description)
            meanwhile = status_with_a_grant()
            # The firmware ignores the power button; the second signal ends QEMU.
            for _ in range(2):
                process.send_signal(signal.SIGTERM)
                # Two within a second are for the same wish.
                time.sleep(1.5)
            output, said = process.communicate(timeout=PATIENCE_S)
    print(json.dumps({"run": output, "said": said, "meanwhile": meanwhile, "after": status()}))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
