# SPDX-License-Identifier: LGPL-2.1-or-later
"""How QEMU ended is said in one line, with what to do about it."""

import signal
import sys
from pathlib import Path

import pytest

from bpferry.machine.ending import describe_end, hint_of, report_end
from tests.client.running import BASE, start
from tests.client.support import QEMU, Record, script


@pytest.mark.parametrize(
    ("status", "killed", "said"),
    [
        (0, False, ("note", "the VM has stopped")),
        (0, True, ("note", "the VM has stopped")),
        (33, False, ("note", "the VM has stopped: QEMU ended with exit status 33")),
        (-signal.SIGKILL, True, ("note", "QEMU was killed, and the VM has stopped")),
    ],
)
def test_end_that_nobody_is_surprised_by_is_a_note(
    status: int, *, killed: bool, said: tuple[str, str]
) -> None:
    """A guest may choose QEMU's exit status, and a user may have had QEMU killed."""
    record = Record()

    report_end(record, status, 1234, killed=killed)

    assert [said] == record.all


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (signal.SIGKILL, "'Killed process 1234'"),
        (signal.SIGSEGV, "a bug in QEMU"),
        (signal.SIGABRT, "a bug in QEMU"),
        (signal.SIGBUS, "no page left for the guest's memory"),
        (signal.SIGSYS, "a system call that QEMU made"),
        (signal.SIGUSR1, ""),
    ],
)
@pytest.mark.parametrize("killed", [False, True])
def test_signal_that_nobody_sent_is_a_warning_that_says_what_it_means(
    number: signal.Signals, hint: str, *, killed: bool
) -> None:
    """So it is where we were about to kill QEMU; but for our own signal."""
    record = Record()

    report_end(record, -number, 1234, killed=killed)

    if number == signal.SIGKILL and killed:
        assert [] == record.texts("warning")
        return
    (warning,) = record.texts("warning")
    said, _, told = warning.partition(" | ")
    assert f"the VM has stopped: QEMU was killed by {number.name}" == said
    assert hint in told
    assert bool(hint) == bool(told)


def test_exit_status_has_no_hint() -> None:
    """Its cause is in QEMU's own lines."""
    assert "" == hint_of(1, 1234)
    assert "QEMU ended with exit status 1" == describe_end(1)


@pytest.mark.qemu
def test_qemu_that_is_killed_before_the_vm_runs(tmp_path: Path) -> None:
    """The error says which signal it was, and what it means."""
    body = f'case "$*" in *"guest=t"*) kill -ABRT $$;; esac; exec {QEMU} "$@"'
    with start(tmp_path, f'{BASE}qemu = "{script(tmp_path, body)}"\n') as run:
        assert run.status() == 1
        assert "error: QEMU was killed by SIGABRT before it could run the VM\n" in run.err()
        assert "hint: that is a bug in QEMU" in run.err()


DYING = """
import json, os, re, signal, socket, sys
fd = int(re.search(r"id=qmp,fd=(\\d+)", " ".join(sys.argv))[1])
monitor = socket.socket(fileno=fd)
version = {"qemu": {"major": 10, "minor": 0, "micro": 2}, "package": ""}
monitor.sendall(json.dumps({"QMP": {"version": version, "capabilities": []}}).encode() + b"\\n")
while True:
    asked = json.loads(monitor.recv(4096))
    if asked["execute"] != "qmp_capabilities":
        os.kill(os.getpid(), signal.SIGSEGV)
    monitor.sendall(json.dumps({**asked, "return": {}}).encode() + b"\\n")
"""
"""A QEMU that answers at its monitor, and dies of the first question."""


def dying_qemu(folder: Path) -> str:
    """Return a QEMU that can be asked what it can do, and dies when it has the VM 't'."""
    (folder / "dying.py").write_text(DYING, encoding="utf-8")
    start_it = f'exec {sys.executable} {folder}/dying.py "$@"'
    return script(folder, f'case "$*" in *"guest=t"*) {start_it};; esac; exec {QEMU} "$@"')


@pytest.mark.qemu
def test_qemu_that_dies_when_the_guest_runs_already(tmp_path: Path) -> None:
    """How it ended is told, also if bpferry was just asking it something."""
    text = f'{BASE}qemu = "{dying_qemu(tmp_path)}"\n[[graphics]]\ntype = "vnc"\n'
    with start(tmp_path, text) as run:
        assert run.status() == 128 + signal.SIGSEGV
        assert "warning: the VM has stopped: QEMU was killed by SIGSEGV (hint: " in run.err()
        assert "error: " not in run.err()


@pytest.mark.qemu
def test_qemu_that_dies_before_the_guest_is_let_run(tmp_path: Path) -> None:
    """Then there was no VM yet, and that is the error."""
    vcpus = (
        "vcpus = 2\n[[vcpu-list]]\nid = 0\nenabled = true\nhotpluggable = false\n"
        "[[vcpu-list]]\nid = 1\nenabled = true\nhotpluggable = true\n"
    )
    with start(tmp_path, f'{BASE}qemu = "{dying_qemu(tmp_path)}"\n{vcpus}') as run:
        assert run.status() == 1
        assert "error: QEMU was killed by SIGSEGV before it could run the VM\n" in run.err()
