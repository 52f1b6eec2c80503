# SPDX-License-Identifier: LGPL-2.1-or-later
"""What stands in for ssh: it starts the command as "the other host", and passes bytes on in pipes.

That is what sshd does too. The other host is another folder for everything of a user. What happens
on the way is told by the variables

    STAND_IN_FOLDER   the other host
    STAND_IN_STATUS   end at once with this status, as an ssh that cannot log in
    STAND_IN_HOLD     pass on what has these bytes, make "held" and wait for "go"
    STAND_IN_CUT      end the connection when these bytes come, without passing them on

The bytes are looked for on both ways.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

CHUNK = 65536


def _main() -> int:
    folder = Path(os.environ["STAND_IN_FOLDER"])
    if "STAND_IN_STATUS" in os.environ:
        return int(os.environ["STAND_IN_STATUS"])
    words = sys.argv[sys.argv.index("bpferry") :]
    places = dict.fromkeys(("HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"), str(folder))
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **places},
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    ways = (0, process.stdin.fileno(), folder)
    threading.Thread(target=_pass_on, args=ways, daemon=True).start()
    _pass_on(process.stdout.fileno(), 1, folder)
    return process.wait()


def _pass_on(source: int, target: int, folder: Path) -> None:
    """Pass on what comes, until the source is closed."""
    hold, cut = (os.environ.get(f"STAND_IN_{name}", "").encode() for name in ("HOLD", "CUT"))
    while data := os.read(source, CHUNK):
        if cut and cut in data:
            os.kill(os.getpid(), signal.SIGKILL)
        held = hold and hold in data
        while data:
            data = data[os.write(target, data) :]
        if held:
            (folder / "held").touch()
            while not (folder / "go").exists():
                time.sleep(0.02)
    os.close(target)


if __name__ == "__main__":
    sys.exit(_main())
