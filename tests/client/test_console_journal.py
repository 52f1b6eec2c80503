# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guest's console under systemd."""

import os
from pathlib import Path

import pytest

from bpferry.machine.control.running import connect, find_running
from tests.client.running import BASE, DISK, start
from tests.client.support import wait_until

pytestmark = pytest.mark.qemu

HELLO = "hello from the boot sector"


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))


def console_has(text: str) -> bool:
    """Wait until the console of the VM has *text*."""
    with connect("t") as control, control.ask_for_fds("console").fds as fds:
        stream = fds[0].borrow()
        shown = b""
        while text.encode() not in shown and (data := os.read(stream, 4096)):
            shown += data
    return text.encode() in shown


@pytest.mark.parametrize("option", [(), ("--json",)])
def test_a_guest_does_not_write_into_the_journal(
    option: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could fill it; whoever wants to see the console asks for it."""
    stream = tmp_path / ("err" if option else "out")
    stream.touch()
    found = stream.stat()
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    with start(tmp_path, BASE + DISK, *option) as run:
        assert run.says("the guest's console is at: bpferry console t")
        assert wait_until(lambda: bool(find_running()))
        assert console_has(HELLO)
        assert HELLO not in run.out() + run.err()


def test_a_guest_writes_into_another_stream_under_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a file that the unit names."""
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    with start(tmp_path, BASE + DISK) as run:
        assert run.says(HELLO)
        assert "the guest's console is at" not in run.err()
