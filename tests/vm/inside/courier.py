# SPDX-License-Identifier: LGPL-2.1-or-later
"""Run commands for the tests, which are at the other end of a virtio serial port; runs in the VM.

One line of JSON is one message, and one command runs at a time:

    there    {"id": NUMBER, "argv": [...], "user": NAME, "input": TEXT, "timeout": SECONDS}
    back     {"id": NUMBER, "status": NUMBER, "output": TEXT, "errors": TEXT}

A command that outlives its time is killed with all its children; its status is -9 then. The first
message is unasked and has the id 0. When the other end is gone, this host goes down.
"""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any, Final

PORT: Final = Path("/dev/virtio-ports/courier")
READ_BYTES: Final = 64 << 10
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"


def main() -> None:
    """Serve until the other end is gone."""
    port = os.open(PORT, os.O_RDWR | os.O_CLOEXEC)
    send(port, {"id": 0, "status": 0, "output": "", "errors": ""})
    pending = b""
    while received := os.read(port, READ_BYTES):
        *lines, pending = (pending + received).split(b"\n")
        for line in lines:
            answer(port, json.loads(line))
    subprocess.run(["systemctl", "poweroff", "--force", "--force"], check=True)


def send(port: int, message: dict[str, Any]) -> None:
    """Send one message whole."""
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(port, data) :]


def answer(port: int, request: dict[str, Any]) -> None:
    """Run the command of *request*, and say what came of it."""
    with subprocess.Popen(
        become(request["user"], request["argv"]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        cwd="/",
        env={"PATH": PATH, "HOME": home(request["user"]), "LANG": "C.UTF-8"},
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(request["input"], request["timeout"])
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, errors = process.communicate()
    result = {"status": process.returncode, "output": output, "errors": errors}
    send(port, {"id": request["id"], **result})


def become(user: str, argv: list[str]) -> list[str]:
    """Return *argv* so that it runs as *user*, in all of their groups and without any privilege."""
    if user == "root":
        return argv
    drop = ["--inh-caps=-all", "--bounding-set=-all", "--"]
    return ["setpriv", "--reuid", user, "--regid", user, "--init-groups", *drop, *argv]


def home(user: str) -> str:
    """Return where *user* is at home."""
    return "/root" if user == "root" else f"/home/{user}"


if __name__ == "__main__":
    main()
