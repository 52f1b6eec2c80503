# SPDX-License-Identifier: LGPL-2.1-or-later
"""A stop goes through the guest, whoever asks for it, and is never without an end."""

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.client import guest
from tests.client.running import BASE, DISK, Run, start
from tests.client.support import PATIENCE_S, is_gone, wait_until

pytestmark = pytest.mark.qemu

IMPATIENT = "stop-timeout = 1\n"
ASKED = "asked the guest to power down"
AGAIN = "another SIGTERM, 1 s later or more, stops QEMU"


def blocked_in(pid: int) -> set[signal.Signals]:
    """Return which of the signals that end a process are blocked in all threads of *pid*."""
    masks = [
        int(line.split()[1], 16)
        for path in Path(f"/proc/{pid}/task").glob("*/status")
        for line in path.read_text(encoding="ascii").splitlines()
        if line.startswith("SigBlk:")
    ]
    ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    return {number for number in ends if all(mask >> (number - 1) & 1 for mask in masks)}


def test_qemu_does_not_hear_what_ends_a_service(tmp_path: Path) -> None:
    """SIGTERM to each process of a control group leaves the guest its power."""
    with start(tmp_path, BASE + DISK) as run:
        assert run.says("hello")
        qemu = run.qemu()
        assert blocked_in(qemu) == {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            os.kill(qemu, number)
        time.sleep(0.5)

        assert not is_gone(qemu)
        assert "has stopped" not in run.err()


def test_bpferry_itself_still_hears_signals(tmp_path: Path) -> None:
    """They are blocked only while QEMU is started."""
    with start(tmp_path, BASE + DISK) as run:
        assert run.says("hello")

        assert blocked_in(run.process.pid) == set()


@pytest.mark.parametrize(
    ("key", "option"),
    [(IMPATIENT, ()), ("", ("--stop-timeout", "1")), ("stop-timeout = 0\n", ("--stop-timeout=1",))],
)
def test_guest_that_ignores_its_power_button_is_ended_after_a_time(
    key: str, option: tuple[str, ...], tmp_path: Path
) -> None:
    """One SIGTERM is enough; the user is told how long it takes, and that it was too long."""
    with start(tmp_path, BASE + key + DISK, *option) as run:
        assert run.says("hello")
        qemu = run.qemu()
        run.signal(signal.SIGTERM)
        assert run.says(f"{ASKED}, within 1 s; {AGAIN}")

        assert run.status() == 0
        assert is_gone(qemu)
        assert "the guest did not power down within 1 s: stopping QEMU\n" in run.err()
        assert run.err().endswith("bpferry: the VM has stopped\n")


def test_guest_that_still_boots_is_asked_again(tmp_path: Path) -> None:
    """It has not noticed its power button while its firmware ran."""
    with start(tmp_path, BASE + DISK) as run:
        guest.write_obedient_disk(tmp_path / "disk.img")
        assert wait_until(lambda: "t: running" in command("status", "t").stdout)
        run.signal(signal.SIGTERM)
        assert run.says(ASKED)

        assert run.status() == 0
        assert "powering down" in run.out()
        assert "stopping QEMU" not in run.err()


def test_without_a_limit_the_guest_has_all_the_time_that_it_needs(tmp_path: Path) -> None:
    """A stop-timeout of 0 is no limit, and none is named."""
    with start(tmp_path, BASE + "stop-timeout = 0\n" + DISK) as run:
        assert run.says("hello")
        run.signal(signal.SIGTERM)

        assert run.says(f"{ASKED}; {AGAIN}")


def survives(run: Run, *numbers: signal.Signals) -> bool:
    """Send *numbers* at once, and say whether that has asked the guest and not stopped QEMU."""
    for number in numbers:
        run.signal(number)
        time.sleep(0.1)
    assert run.says(ASKED)
    time.sleep(0.3)
    return "stopping QEMU" not in run.err() and not is_gone(run.qemu())


@pytest.mark.parametrize(
    "numbers",
    [
        (signal.SIGTERM, signal.SIGHUP),
        (signal.SIGHUP, signal.SIGHUP),
        (signal.SIGHUP, signal.SIGTERM, signal.SIGHUP),
        (signal.SIGTERM, signal.SIGTERM),
    ],
    ids=["session", "terminal", "terminal-and-session", "timeout"],
)
def test_end_of_a_session_is_one_wish(numbers: tuple[signal.Signals, ...], tmp_path: Path) -> None:
    """The signals that systemd, a terminal and timeout(1) send ask the guest once."""
    with start(tmp_path, BASE + DISK) as run:
        assert run.says("hello")

        assert survives(run, *numbers)


def test_who_waits_a_second_with_the_next_sigterm_stops_qemu(tmp_path: Path) -> None:
    """As the first one said; one that comes at once is for the same wish."""
    with start(tmp_path, BASE + DISK) as run:
        assert run.says("hello")
        assert survives(run, signal.SIGTERM, signal.SIGTERM)
        assert run.says(AGAIN)
        time.sleep(1.1)
        run.signal(signal.SIGTERM)

        assert run.status() == 0
        assert "bpferry: stopping QEMU\n" in run.err()


def test_who_insists_after_a_hang_up_is_heard(tmp_path: Path) -> None:
    """SIGHUP never counts; the next signal is told what another one does, and that one does it."""
    with start(tmp_path, BASE + DISK) as run:
        assert run.says("hello")
        run.signal(signal.SIGHUP)
        assert run.says(f"{ASKED}, within 90 s; 'bpferry stop --force' ends it at once")
        run.signal(signal.SIGINT)
        assert run.says(f"have already {ASKED}, within 90 s; press Ctrl-C again to stop QEMU")
        run.signal(signal.SIGINT)

        assert run.status() == 0


def test_stop_by_timeout_1_asks_the_guest_once(tmp_path: Path) -> None:
    """It sends SIGTERM to its child and to its group, when it is told to end."""
    with start(tmp_path, BASE + IMPATIENT + DISK, prefix=("timeout", "60")) as run:
        assert run.says("hello")
        run.signal(signal.SIGTERM)

        assert run.status() == 0
        assert "the guest did not power down within 1 s: stopping QEMU\n" in run.err()


@pytest.mark.parametrize("value", ["-1", "86401", "1.5", "soon"])
def test_time_limit_that_is_none_is_wrong_usage(value: str, tmp_path: Path) -> None:
    """It is a number of seconds up to a day."""
    with start(tmp_path, BASE + DISK, f"--stop-timeout={value}") as run:
        assert run.status() == 2
        assert f"'{value}' is not a number from 0 to 86400" in run.err()


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """Run another bpferry as the same user."""
    return subprocess.run(
        [sys.executable, "-m", "bpferry", *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_command_may_set_another_time_limit(tmp_path: Path) -> None:
    """`bpferry stop --timeout` goes before the VM's own limit, also if the guest was asked."""
    with start(tmp_path, BASE + "stop-timeout = 0\n" + DISK) as run:
        assert run.says("hello")
        run.signal(signal.SIGTERM)
        assert run.says(ASKED)
        stopped = command("stop", "--timeout", "1", "t")

        assert stopped.returncode == 0, stopped.stderr
        assert run.status() == 0
        assert f"have already {ASKED}, within 1 s" in run.err()
        assert "the guest did not power down within 1 s: stopping QEMU\n" in run.err()


def test_paused_guest_can_power_down(tmp_path: Path) -> None:
    """A stop lets it continue, since a paused guest does not notice its power button."""
    with start(tmp_path, BASE + DISK) as run:
        assert run.says("hello")
        assert command("pause", "t").returncode == 0
        assert run.says("the VM is paused")
        run.signal(signal.SIGTERM)

        assert run.says("the VM continues")


def test_closed_terminal_changes_no_exit_status(tmp_path: Path) -> None:
    """A VM that powers down after its terminal was closed has ended well."""
    main_end, terminal = pty.openpty()
    guest.write_obedient_disk(tmp_path / "disk.img")
    (tmp_path / "vm.toml").write_text(BASE + DISK, encoding="utf-8")
    argv = ["setsid", "--ctty", sys.executable, "-m", "bpferry", "run", str(tmp_path / "vm.toml")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        argv, stdin=terminal, stdout=terminal, stderr=terminal, env=environment
    )
    os.close(terminal)
    try:
        seen = b""
        while b"hello" not in seen:
            seen += os.read(main_end, 4096)
        os.close(main_end)

        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
