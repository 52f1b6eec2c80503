# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long a program takes until it says that it is ready, as sd_notify(3) has it."""

import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.command import BenchError

READY_WITHIN_S: Final = 60.0


@contextmanager
def ready(
    command: Sequence[str], notify: Path, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[int, int]]:
    """Run *command* until it is ready; yield its process id, and how many ns that took.

    It is killed at the end. It has to be told of the socket *notify*, which is made here, and to
    which every user may write.

    Raises:
        BenchError: it was not ready in time.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(notify))
        notify.chmod(0o666)
        told.settimeout(READY_WITHIN_S)
        try:
            before = time.perf_counter_ns()
            with subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
            ) as process:
                try:
                    _wait(told, command)
                    yield process.pid, time.perf_counter_ns() - before
                finally:
                    process.send_signal(signal.SIGKILL)
        finally:
            notify.unlink()


def _wait(told: socket.socket, command: Sequence[str]) -> None:
    try:
        while b"READY=1" not in told.recv(4096).split(b"\n"):
            pass
    except TimeoutError as error:
        words = " ".join(command)
        raise BenchError(f"not ready after {READY_WITHIN_S:g} s: {words}") from error
