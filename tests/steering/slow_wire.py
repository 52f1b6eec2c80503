# SPDX-License-Identifier: LGPL-2.1-or-later
"""A ProxyCommand of ssh that stops in the middle: HOST PORT FOLDER.

It passes on what comes on both ways. While FOLDER has a file "hold", it passes on HOLD_BYTES to the
other host, makes the file "held", and goes on when "hold" is gone.
"""

import os
import socket
import sys
import threading
import time
from pathlib import Path

CHUNK = 16_384

HOLD_BYTES = 131_072
"""More than ssh and the two supervisors say to each other, and less than QEMU's stream."""


def _main(host: str, port: int, folder: Path) -> None:
    with socket.create_connection((host, port)) as sock:
        threading.Thread(target=_hear, args=(sock,), daemon=True).start()
        passed = 0
        while data := os.read(0, CHUNK):
            sock.sendall(data)
            passed += len(data)
            if passed > HOLD_BYTES and (folder / "hold").exists():
                (folder / "held").touch()
                while (folder / "hold").exists():
                    time.sleep(0.02)


def _hear(sock: socket.socket) -> None:
    while data := sock.recv(CHUNK):
        while data:
            data = data[os.write(1, data) :]
    os.close(1)


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
