# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a guest does to itself, and what the description wants to happen then."""

import signal
from pathlib import Path

import pytest

from bpferry.cli.main import main
from tests.client import guest
from tests.client.running import BASE, DISK, Run, start, state, type_in
from tests.client.support import is_gone, wait_until

pytestmark = pytest.mark.qemu

PANIC = '[[panics]]\nmodel = "isa"\n'
IB700 = '[[watchdogs]]\nmodel = "ib700"\naction = "{}"\n'
CRASHED = "warning: the guest has crashed: its kernel reports a panic"


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))


def greetings(run: Run) -> int:
    """Return how often the guest has started."""
    return run.out().count("hello from the boot sector")


def wait_for(run: Run, times: int) -> bool:
    """Wait until the guest has started so often."""
    return wait_until(lambda: greetings(run) == times)


def do(run: Run, what: bytes) -> None:
    """Let the guest do *what*, as soon as it runs."""
    assert run.says("hello from the boot sector"), run.err()
    type_in(run, what)


def test_a_guest_that_resets_starts_again(tmp_path: Path) -> None:
    """That is what a description without a word about it means."""
    with start(tmp_path, BASE + DISK) as run:
        do(run, guest.RESET)
        assert wait_for(run, 2)
        assert run.says("bpferry: the VM restarts")
        type_in(run, b"q")
        assert run.status() == 0


def test_a_restart_is_told_once(tmp_path: Path) -> None:
    """Its firmware resets the machine once more, which is no wish of anybody."""
    with start(tmp_path, BASE + DISK) as run:
        assert run.says("hello from the boot sector")
        assert main(["reset", "t"]) == 0
        assert wait_for(run, 2)
        assert wait_until(lambda: run.err().count("the VM restarts") == 1)
        assert main(["reset", "t"]) == 0
        assert wait_for(run, 3)
        type_in(run, b"q")
        assert run.status() == 0
        assert run.err().count("the VM restarts") == 2


def test_a_reset_ends_a_vm_that_is_to_end_with_it(tmp_path: Path) -> None:
    """The user is told why it ends."""
    with start(tmp_path, BASE + 'on-reboot = "destroy"\n' + DISK) as run:
        do(run, guest.RESET)
        assert run.status() == 0
        assert "bpferry: the guest has restarted, which ends the VM" in run.err()
        assert greetings(run) == 1


def test_reset_says_that_it_has_ended_such_a_vm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command does what the description says of a restart."""
    with start(tmp_path, BASE + 'on-reboot = "destroy"\n' + DISK) as run:
        assert run.says("hello from the boot sector")
        assert wait_until(lambda: state() == "running")
        assert main(["reset", "t"]) == 0
        assert capsys.readouterr().out == "'t' ends, as 'on-reboot' of its description says\n"
        assert run.status() == 0


def test_a_panic_ends_the_vm(tmp_path: Path) -> None:
    """With status 1, so that a service manager can tell it from a power-down."""
    with start(tmp_path, BASE + DISK + PANIC) as run:
        do(run, guest.PANIC)
        assert run.status() == 1
        assert CRASHED in run.err()
        assert 'hint: to keep such a VM for a look, write on-crash = "preserve"' in run.err()
        assert "bpferry: the VM ends since its guest has crashed" in run.err()
        assert "paused" not in run.err()


def test_a_panic_restarts_the_vm(tmp_path: Path) -> None:
    """Each time; this QEMU cannot do that by itself."""
    with start(tmp_path, BASE + 'on-crash = "restart"\n' + DISK + PANIC) as run:
        for times in (2, 3):
            do(run, guest.PANIC)
            assert wait_for(run, times), run.err()
        assert wait_until(lambda: state() == "running")
        type_in(run, b"q")
        assert run.status() == 0
        assert run.err().count(f"{CRASHED}, and the VM restarts") == 2


def test_a_vm_is_kept_after_a_panic_until_it_is_reset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It shows as crashed, and after its reset it runs."""
    with start(tmp_path, BASE + 'on-crash = "preserve"\n' + DISK + PANIC) as run:
        do(run, guest.PANIC)
        assert run.says("kept as it is"), run.err()
        assert "hint: restart it: bpferry reset t; end it: bpferry stop t" in run.err()
        assert state() == "crashed"
        assert main(["reset", "t"]) == 0
        assert capsys.readouterr().out == "'t' restarts\n"
        assert wait_for(run, 2)
        assert wait_until(lambda: state() == "running")
        type_in(run, b"q")
        assert run.status() == 0


def test_a_crashed_guest_is_not_waited_for(tmp_path: Path) -> None:
    """It would never notice its power button."""
    with start(tmp_path, BASE + 'on-crash = "preserve"\n' + DISK + PANIC) as run:
        do(run, guest.PANIC)
        assert run.says("kept as it is"), run.err()
        run.signal(signal.SIGTERM)
        assert run.status() == 0
        assert "the guest has crashed and cannot power down: stopping QEMU" in run.err()


def test_a_crash_kernel_is_told_once(tmp_path: Path) -> None:
    """However often the guest says it: the log is the user's."""
    with start(tmp_path, BASE + DISK + PANIC) as run:
        do(run, guest.CRASH_LOADED * 5)
        assert run.says("its crash kernel takes over")
        type_in(run, b"q")
        assert run.status() == 0
        assert run.err().count("its crash kernel takes over") == 1


@pytest.mark.parametrize(
    ("action", "said"),
    [("reset", "the VM restarts"), ("pause", "the VM is paused"), ("none", "nothing follows")],
)
def test_a_watchdog_does_what_the_description_says(tmp_path: Path, action: str, said: str) -> None:
    """The user is told that it ran out, and what follows."""
    text = BASE + 'machine-type = "pc"\n' + DISK + IB700.format(action)
    with start(tmp_path, text) as run:
        do(run, guest.START_WATCHDOG)
        assert run.says(f"the guest has not reset its watchdog in time: {said}"), run.err()
        if action == "reset":
            assert wait_for(run, 2)
        if action == "pause":
            assert wait_until(lambda: state() == "paused")
            assert main(["resume", "t"]) == 0
            assert wait_until(lambda: state() == "running")
        type_in(run, b"q")
        assert run.status() == 0


def test_a_watchdog_can_end_the_vm(tmp_path: Path) -> None:
    """As if its plug was pulled."""
    text = BASE + 'machine-type = "pc"\n' + DISK + IB700.format("poweroff")
    with start(tmp_path, text) as run:
        qemu = run.qemu()
        do(run, guest.START_WATCHDOG)
        assert run.status() == 0
        assert is_gone(qemu)
        assert "in time: the VM ends" in run.err()


def test_a_full_disk_pauses_the_vm_and_is_named() -> None:
    """What QEMU says of a disk that it could not write to, in words."""
    from bpferry.machine.control.events import _disk_error  # noqa: PLC0415

    data = {"device": "", "node-name": "disk0", "nospace": True, "operation": "write"}
    assert _disk_error(data, "t") == (
        "'disk0' is full on the host, and the VM is paused",
        "make room, and let it continue: bpferry resume t",
    )
