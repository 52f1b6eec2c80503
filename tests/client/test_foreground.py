# SPDX-License-Identifier: LGPL-2.1-or-later
"""Signals that come while a VM is started on a terminal."""

import os
import signal
import subprocess
import sys

FORK = """
import os, signal, time
from bpferry.machine.console import foreground

# nohup would have it ignored, and it might come before the child has a handler.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
real = os.fork
def fork():
    pid = real()
    if pid:
        os.kill(os.getpid(), signal.SIG{name})
    return pid
os.fork = fork
forked = foreground.fork_supervisor("t")
if isinstance(forked, foreground.Leash):
    signal.signal(signal.SIG{name}, lambda *_: os._exit(7))
    while True:
        time.sleep(0.1)
with forked, forked.passing_signals_on():
    os._exit(10 + forked.status())
"""
"""Its child may get the signal before it has a handler: then it ends by it, which is no less."""


def status_after(name: str) -> int:
    """Return the exit status of a process that gets a signal right after its fork."""
    done = subprocess.run(
        [sys.executable, "-c", FORK.format(name=name)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
        timeout=120,
        stderr=subprocess.DEVNULL,
    )
    return done.returncode


def test_a_signal_right_after_the_fork_is_passed_on() -> None:
    """Otherwise the process at the terminal ends, and the VM has no terminal from the start."""
    for name in ("INT", "TERM", "HUP"):
        number = signal.Signals[f"SIG{name}"]
        ended_by_it = {17, 10 + 128 + number, 10 + 1, 10 + 130}
        assert status_after(name) in ended_by_it, name
