# SPDX-License-Identifier: LGPL-2.1-or-later
"""How QEMU ended is said in one line, with what to do about it."""

import signal
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
        (signal.SIGSEGV, "a fault of QEMU"),
        (signal.SIGABRT, "a fault of QEMU"),
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
        assert "hint: that is a fault of QEMU" in run.err()
