# SPDX-License-Identifier: LGPL-2.1-or-later
"""VMs under the systemd of an ordinary user: started, ready, stopped, and after a restart."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.debian_folder import BUILD_SECONDS
from tests.systemd.container import Container
from tests.systemd.helper_unit import POLICY
from tests.systemd.user_session import DEAF, LOGINCTL, POLITE, User, user_with_vms, wait_until

pytestmark = [
    pytest.mark.system,
    pytest.mark.privileged,
    pytest.mark.slow,
    # The first test of a release may have to wait for its root to be made.
    pytest.mark.timeout(BUILD_SECONDS + 300),
]

README: Final = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")

WHERE: Final = re.compile(r"^\S+ \S+ bpferry\[[0-9]+\]: ")
"""When and by whom a line of the journal was said."""

UNIT: Final = f"bpferry@{POLITE}.service"

GREETING: Final = "hello from the boot sector"

POWERED_DOWN: Final = "powering down"
"""The guest's own words, after it has seen its power button."""

CUT_OFF: Final = "stopping QEMU"
"""Ours, if a guest does not power down."""

TERMINAL: Final = """
import os, pty, signal, sys, time
pid, terminal = pty.fork()
if not pid:
    os.execvp("bpferry", ["bpferry", "run", "web"])
seen = b""
while b"hello" not in seen:
    seen += os.read(terminal, 4096)
os.close(terminal)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
"""Start a VM on a terminal, and close that, as a window or a connection is closed."""


GROWS: Final = """\
name = "grows"
memory = "32 MiB"
current-memory = "64 MiB"
accelerator = "tcg"
"""
"""It cannot have more than its memory, which is a warning."""


@pytest.fixture(scope="module")
def erin(installed_system: Container) -> Iterator[User]:
    """Return a user whose systemd runs without a session."""
    with user_with_vms(installed_system, "erin", lingers=True) as user:
        yield user


@pytest.fixture(autouse=True)
def nothing_stays(erin: User) -> Iterator[None]:
    """End what a test has left running."""
    yield
    names = (POLITE, DEAF)
    # Many end with none, which bpferry would need longer to find out.
    if erin.has_guest():
        for name in names:
            erin.run("bpferry", "stop", "--force", name)
    units = [f"bpferry@{name}.service" for name in names]
    erin.run("systemctl", "--user", "stop", *units)
    erin.run("systemctl", "--user", "reset-failed", *units)


def since(erin: User, before: str, unit: str = UNIT) -> str:
    """Return what a unit has said after it had said *before*."""
    return erin.said(unit).removeprefix(before)


def greeted(erin: User, before: str) -> bool:
    """Wait until the guest has greeted after it had written *before*."""
    return wait_until(lambda: GREETING in erin.wrote().removeprefix(before))


def powered_down(erin: User, before: str) -> bool:
    """Say whether the guest has powered down after it had written *before*."""
    return POWERED_DOWN in erin.wrote().removeprefix(before)


def test_start_returns_when_the_guest_runs_and_systemd_says_what_it_does(erin: User) -> None:
    """The unit is active, its status is in words, and `bpferry list` has the VM."""
    said = erin.check("bpferry", "start", POLITE)

    assert f"'{POLITE}' runs" == said
    assert ("active", "the VM runs") == (
        erin.show(POLITE, "ActiveState"),
        erin.show(POLITE, "StatusText"),
    )
    assert erin.runs()


def test_start_says_what_the_run_has_warned_of(erin: User) -> None:
    """What is less than was asked for is not in the journal alone."""
    file = "~/.config/bpferry/vms/grows.toml"
    erin.check("sh", "-c", f"echo '{GROWS}' >{file}")
    started = erin.run("bpferry", "start", "grows")
    erin.check("bpferry", "stop", "--force", "grows")
    erin.check("sh", "-c", f"rm {file}")

    assert ("'grows' runs\n", 0) == (started.stdout, started.returncode)
    assert "warning: " in started.stderr
    assert "current-memory" in started.stderr


def test_pause_is_seen_by_systemd(erin: User) -> None:
    """What another command does to the VM is in the status of its unit."""
    erin.check("bpferry", "start", POLITE)
    erin.check("bpferry", "pause", POLITE)

    assert wait_until(lambda: erin.show(POLITE, "StatusText") == "the VM is paused")


def test_stop_by_systemd_powers_the_guest_down(erin: User) -> None:
    """The guest itself has seen its power button; the unit has not failed."""
    before, written = erin.said(), erin.wrote()
    erin.check("bpferry", "start", POLITE)
    assert greeted(erin, written)
    erin.check("systemctl", "--user", "stop", UNIT)

    assert powered_down(erin, written)
    assert GREETING not in since(erin, before)
    assert CUT_OFF not in since(erin, before)
    assert ("inactive", "success") == (
        erin.show(POLITE, "ActiveState"),
        erin.show(POLITE, "Result"),
    )


def test_stop_by_bpferry_leaves_the_unit_clean(erin: User) -> None:
    """It is inactive, not failed, and not started again."""
    written = erin.wrote()
    erin.check("bpferry", "start", POLITE)
    assert greeted(erin, written)
    erin.check("bpferry", "stop", POLITE)
    erin.wait_for_state(POLITE, "inactive")

    assert ("success", "0", "0") == tuple(
        erin.show(POLITE, prop) for prop in ("Result", "ExecMainStatus", "NRestarts")
    )


def test_vm_that_is_ended_by_force_is_not_started_again(erin: User) -> None:
    """`bpferry stop --force` is no failure either."""
    erin.check("bpferry", "start", DEAF)
    erin.check("bpferry", "stop", "--force", DEAF)
    erin.wait_for_state(DEAF, "inactive")

    assert "success" == erin.show(DEAF, "Result")


def test_guest_that_ignores_its_power_button_has_its_own_time_limit(erin: User) -> None:
    """Systemd waits as long as the description says, also if its own limit is shorter."""
    folder = f"/home/erin/.config/systemd/user/bpferry@{DEAF}.service.d"
    erin.check("mkdir", "-p", folder)
    short = "[Service]\\nTimeoutStopSec=2s\\n"
    erin.check("sh", "-c", f"printf '{short}' > {folder}/short.conf")
    erin.check("bpferry", "start", DEAF)
    started = time.monotonic()
    erin.check("systemctl", "--user", "stop", f"bpferry@{DEAF}.service")
    took = time.monotonic() - started
    erin.check("rm", "-r", folder)

    assert 4.5 < took
    assert "the guest did not power down within 5 s" in erin.said(f"bpferry@{DEAF}.service")
    assert "success" == erin.show(DEAF, "Result")


def test_restart_powers_the_guest_down_and_starts_it_again(erin: User) -> None:
    """Another process runs it afterwards."""
    written = erin.wrote()
    erin.check("bpferry", "start", POLITE)
    first = erin.show(POLITE, "MainPID")
    assert greeted(erin, written)
    erin.check("bpferry", "restart", POLITE)

    assert first != erin.show(POLITE, "MainPID")
    assert powered_down(erin, written)
    assert erin.runs()


def test_vm_in_a_unit_of_somebody_else_powers_down(erin: User) -> None:
    """`systemd-run --user bpferry run` sends SIGTERM to QEMU too, which does not hear it."""
    written = erin.wrote()
    run = ("systemd-run", "--user", "--collect", "--unit=foreign", "--quiet")
    erin.check(*run, "bpferry", "run", POLITE)
    assert greeted(erin, written)
    erin.check("systemctl", "--user", "stop", "foreign")

    assert powered_down(erin, written)
    assert CUT_OFF not in erin.said("foreign.service")


def test_vm_that_runs_elsewhere_is_not_started_a_second_time(erin: User) -> None:
    """It is said where it runs, and how to stop it."""
    run = ("systemd-run", "--user", "--collect", "--unit=elsewhere", "--quiet")
    written = erin.wrote()
    erin.check(*run, "bpferry", "run", POLITE)
    # A guest that does not see its power button yet is asked again later.
    assert greeted(erin, written)
    done = erin.run("bpferry", "start", POLITE)
    erin.check("systemctl", "--user", "stop", "elsewhere")

    assert 1 == done.returncode
    assert "'web' runs already, by a 'bpferry run' that your systemd did not start" in done.stderr


def test_killed_session_powers_the_guest_down(erin: User, installed_system: Container) -> None:
    """`loginctl terminate-session` sends SIGTERM and SIGHUP to each process of the session."""
    installed_system.check(
        "systemd-run", "--quiet", "--collect", "--unit=login", "-p", "User=erin",
        "-p", "PAMName=login", "-p", "WorkingDirectory=/home/erin",
        "sh", "-c", "exec bpferry run web > /home/erin/session.out 2>&1",
    )  # fmt: skip
    assert wait_until(lambda: GREETING in erin.run("cat", "session.out").stdout)
    groups = installed_system.check(
        "sh", "-c", "cat /proc/$(systemctl show -p MainPID --value login)/cgroup"
    )
    [session] = re.findall(r"/session-(\w+)\.scope$", groups, re.MULTILINE)
    installed_system.check(*LOGINCTL, "terminate-session", session)
    assert wait_until(lambda: "has stopped" in erin.check("cat", "session.out"))
    said = erin.check("cat", "session.out")

    assert POWERED_DOWN in said
    assert CUT_OFF not in said


def test_closed_terminal_powers_the_guest_down(erin: User) -> None:
    """The kernel sends SIGHUP when a window or an ssh connection is closed."""
    assert "0" == erin.check("python3", "-c", TERMINAL)
    assert POWERED_DOWN not in erin.check("bpferry", "log", POLITE)
    assert erin.check("bpferry", "log", POLITE).endswith("the VM has stopped")


def test_enabled_vm_runs_again_after_the_users_systemd_has_restarted(
    erin: User, installed_system: Container
) -> None:
    """As at a shutdown and a start of the host: the guest powers down, and starts by itself."""
    said = erin.check("bpferry", "enable", POLITE)
    assert f"'{POLITE}' is started when this host starts" == said
    written = erin.wrote()
    erin.check("bpferry", "start", POLITE)
    assert greeted(erin, written)
    before = erin.said()
    installed_system.check("systemctl", "stop", f"user@{erin.uid}.service", timeout=120)
    assert powered_down(erin, written)
    assert CUT_OFF not in since(erin, before)
    assert not erin.has_guest()
    installed_system.check("systemctl", "start", f"user@{erin.uid}.service")
    assert wait_until(erin.runs)
    assert "it runs until it is stopped" in erin.check("bpferry", "disable", POLITE)

    assert "disabled" == erin.show(POLITE, "UnitFileState")


def test_vm_whose_qemu_is_killed_is_started_again(erin: User) -> None:
    """Such as by the kernel, for want of memory."""
    erin.check("bpferry", "start", POLITE)
    killing = "kill -KILL $(grep -ls qemu-system /proc/[0-9]*/comm | cut -d / -f 3)"
    erin.check("sh", "-c", killing)

    assert wait_until(lambda: erin.show(POLITE, "NRestarts") == "1")
    erin.wait_for_state(POLITE, "active")
    assert erin.runs()


def test_refused_vm_is_not_tried_again(erin: User, installed_system: Container) -> None:
    """The policy's answer is the status of `bpferry start`, with the words of the helper."""
    installed_system.check("rm", "-f", POLICY)
    vms = "/home/erin/.config/bpferry/vms"
    text = 'name = "net"\\nmemory = "32 MiB"\\n[[cards]]\\nbridge = "br0"\\n'
    erin.check("sh", "-c", f"printf '{text}' > {vms}/net.toml")
    done = erin.run("bpferry", "start", "net")
    erin.check("rm", f"{vms}/net.toml")

    assert 4 == done.returncode, done.stderr
    assert "'net' did not start: " in done.stderr
    assert "br0" in done.stderr
    assert "0" == erin.show("net", "NRestarts")


def test_start_that_fails_ends_soon_and_is_over(erin: User) -> None:
    """A missing disk is status 1, which systemd would try again at a start of the host."""
    erin.check("mv", f"{POLITE}.img", "away.img")
    done = erin.run("bpferry", "start", POLITE)
    erin.check("mv", "away.img", f"{POLITE}.img")

    assert 1 == done.returncode
    assert f"cannot read '/home/erin/{POLITE}.img'" in done.stderr
    assert erin.show(POLITE, "ActiveState") in {"inactive", "failed"}


def test_log_of_a_unit_is_its_journal(erin: User) -> None:
    """The user reads their own part of it."""
    written = erin.wrote()
    erin.check("bpferry", "start", POLITE)
    assert greeted(erin, written)
    erin.check("bpferry", "stop", POLITE)

    assert wait_until(lambda: "bpferry: the VM has stopped" in erin.check("bpferry", "log", POLITE))


def test_end_of_the_last_session_powers_the_guest_down(installed_system: Container) -> None:
    """A user who may not stay is told so, and the VM ends with them, in order."""
    with user_with_vms(installed_system, "frank", lingers=False) as frank:
        installed_system.check(
            "systemd-run", "--quiet", "--collect", "--unit=visit", "-p", "User=frank",
            "-p", "PAMName=login", "sleep", "600",
        )  # fmt: skip
        status = ("systemctl", "--user", "status")
        assert wait_until(lambda: frank.run(*status).returncode == 0)
        started = frank.run("bpferry", "start", POLITE)
        assert 0 == started.returncode, started.stderr
        assert "the VM ends with your last session" in started.stderr
        assert "sudo loginctl enable-linger frank" in started.stderr
        assert greeted(frank, "")
        installed_system.check("systemctl", "stop", "visit")

        assert wait_until(lambda: not frank.has_guest(), 60)
        assert powered_down(frank, "")
        assert CUT_OFF not in frank.said()


def test_readme_shows_what_is_said(erin: User) -> None:
    """Each command of the session under systemd, with its output as it is there."""
    [block] = re.findall(
        r"^<!-- bpferry start -->\n```text\n(.*?)^```", README, re.MULTILINE | re.DOTALL
    )
    written = erin.wrote()
    for session in block.removeprefix("$ ").split("\n$ "):
        command, _, shown = session.partition("\n")
        said = erin.check("sh", "-c", command)
        if command.startswith("bpferry start"):
            assert greeted(erin, written)
        if command.startswith("bpferry stop"):
            erin.wait_for_state(POLITE, "inactive")

        assert [WHERE.sub("", line) for line in shown.splitlines()] == [
            WHERE.sub("", line) for line in said.splitlines()
        ]
    erin.check("bpferry", "disable", POLITE)


def test_users_see_only_their_own_vms(erin: User, installed_system: Container) -> None:
    """Nor can they stop that of another one, or connect to any of its sockets."""
    erin.check("bpferry", "start", POLITE)
    with user_with_vms(installed_system, "grace", lingers=True) as grace:
        assert not grace.runs()
        assert 1 == grace.run("bpferry", "stop", POLITE).returncode
        grace.check("bpferry", "start", POLITE)
        reached = [
            asker.reaches(owner, name)
            for owner in (erin, grace)
            for asker in (erin, grace)
            for name in ("control.sock", "qmp.sock")
        ]
        grace.check("bpferry", "stop", POLITE)

        assert [True, True, False, False, False, False, True, True] == reached
        assert [[POLITE], []] == [own_vms(user) for user in (erin, grace)]


def own_vms(user: User) -> list[str]:
    """Return the names of the VMs that *user* is shown."""
    return [vm["name"] for vm in json.loads(user.check("bpferry", "list", "--json"))["vms"]]


def test_without_a_session_it_is_said_what_is_missing(installed_system: Container) -> None:
    """A user without a systemd of their own, such as in a cron job."""
    with user_with_vms(installed_system, "heidi", lingers=False) as heidi:
        done = heidi.run("bpferry", "start", POLITE)

    assert 1 == done.returncode
    assert "there is no systemd of yours running: 'heidi' has no login session" in done.stderr
    assert "sudo loginctl enable-linger heidi" in done.stderr
