# SPDX-License-Identifier: LGPL-2.1-or-later
"""A command that is ``bpferry`` in a process of its own, without the time that imports take.

A server imports the client once, and forks for each call. What calls it is a small program, which
passes on its arguments and its standard streams, and ends with the status of the forked process.
Each call has the whole run of ``bpferry`` from its arguments on, in a process that did nothing yet.
"""

import gc
import importlib
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn

ROOT: Final = Path(__file__).parents[2]

STREAMS: Final = 3
MOST_BYTES: Final = 65_536

CALLER: Final = """
import _socket, sys
sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
sock.connect({path!r})
words = "\\0".join(sys.argv[1:]).encode()
streams = b"".join(fd.to_bytes(4, sys.byteorder) for fd in (0, 1, 2))
sock.sendmsg([words], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
status = sock.recv(1)
# An end without a status is a crash, as 255 is.
sys.exit(status[0] if status else 255)
"""
"""Not by Python's own socket and json: they take twice as long as the rest of such a process."""


@contextmanager
def forked_bpferry(folder: Path, environment: dict[str, str]) -> Iterator[list[str]]:
    """Yield a command that does what ``bpferry`` does in this *environment*."""
    path = str(folder / "bpferry.sock")
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "shared", ROOT / "client")))
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener,
        subprocess.Popen(
            [sys.executable, "-m", "tests.conformance.forked"],
            stdin=_listening(listener, path), env={**environment, "PYTHONPATH": paths},
        ) as server,
    ):  # fmt: skip
        try:
            yield [sys.executable, "-I", "-S", "-c", CALLER.format(path=path)]
        finally:
            server.terminate()


def _listening(listener: socket.socket, path: str) -> int:
    listener.bind(path)
    listener.listen()
    return listener.fileno()


def serve(listener: socket.socket) -> None:
    """Fork for each call, until this process is ended."""
    # Imported here, once for all of them, with what a run imports when it needs it. The caller's
    # process needs none of it.
    import bpferry  # noqa: PLC0415
    from bpferry.cli import main  # noqa: PLC0415

    for _, name, _ in pkgutil.walk_packages(bpferry.__path__, "bpferry."):
        if name != "bpferry.__main__":
            importlib.import_module(name)
    gc.freeze()

    # The kernel reaps the forked processes.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        call, _ = listener.accept()
        with call:
            if os.fork() == 0:
                # Which wait for processes of their own.
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                listener.close()
                _answer(call, main.main)


def _answer(call: socket.socket, main: Callable[[list[str]], int]) -> NoReturn:
    raw, streams, _, _ = socket.recv_fds(call, MOST_BYTES, STREAMS)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    status = 255
    try:
        status = main(raw.decode().split("\0"))
    except SystemExit as ending:
        status = ending.code if isinstance(ending.code, int) else 1
    except BaseException:  # noqa: BLE001 - the process ends here, whatever it is
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    call.send(bytes([status]))
    os._exit(status)


if __name__ == "__main__":
    serve(socket.socket(fileno=0))
