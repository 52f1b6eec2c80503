# SPDX-License-Identifier: LGPL-2.1-or-later
"""tools/install --uninstall where something is still in use, and what it keeps."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.support.debian_folder import BUILD_SECONDS
from tests.systemd.conftest import AS_ON_A_MACHINE
from tests.systemd.container import CLONE, Container
from tests.systemd.helper_unit import POLICY, PYTHON
from tests.systemd.installation import INSTALL, install

pytestmark = [
    pytest.mark.system,
    pytest.mark.privileged,
    pytest.mark.slow,
    # The first test of a release may have to wait for its root to be made.
    pytest.mark.timeout(BUILD_SECONDS + 300),
]

ALICES: Final = """\
[users.alice]
bridges = ["br0"]
"""

TEMPLATE: Final = Path(__file__).parents[2] / "tools/prepare/policy.toml"

STATE: Final = "/var/lib/private/bpferry-bpf"


@pytest.fixture(scope="module")
def machine(bare_system: Container) -> Container:
    """Return the system with what the helpers need of a machine."""
    bare_system.check("sh", "-c", AS_ON_A_MACHINE)
    return bare_system


@pytest.fixture
def system(machine: Container) -> Iterator[Container]:
    """Return a system with an installation, alice in its group, and a bridge; none is left."""
    install(machine)
    machine.check("useradd", "--groups", "bpferry", "alice")
    machine.check("ip", "link", "add", "br0", "type", "bridge")
    machine.check("ip", "link", "set", "br0", "up")
    yield machine
    machine.run(INSTALL, "--uninstall", "--force")
    machine.check("sh", "-c", "rm -rf /etc/bpferry; ip link delete br0; userdel alice")
    machine.run("groupdel", "bpferry")


def uninstall(system: Container, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run tools/install --uninstall."""
    return system.run(INSTALL, "--uninstall", *arguments)


def exists(system: Container, path: str) -> bool:
    """Say whether *path* is there."""
    return system.run("test", "-e", path).returncode == 0


@contextmanager
def held(system: Container, script: str, *words: str) -> Iterator[dict[str, object]]:
    """Let alice hold what she asks for with *script*; yield the answer."""
    command = (PYTHON, f"{CLONE}/tests/systemd/{script}", *words)
    with system.running(*command, user="alice") as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())


def create_tap(system: Container) -> str:
    """Let alice create a tap that stays; return its name."""
    script = f"{CLONE}/tests/systemd/ask_tap.py"
    answer = json.loads(system.check(PYTHON, script, "create", "br0", "1", user="alice"))
    name: str = answer["interface"]
    return name


# -- the policy


def test_a_changed_policy_is_kept(system: Container) -> None:
    """It lies beside, which is said, and the folder too; an earlier copy is not overwritten."""
    for times in (1, 2):
        system.write(POLICY, f"# {times}\n{ALICES}")
        said = uninstall(system).stderr
        installed = install(system)
        kept = system.check("sh", "-c", f"cat {POLICY}.bak*")

        assert f"the policy was changed: it is kept as {POLICY}.bak" in said
        assert "'/etc/bpferry' stays" in said
        assert times == kept.count("[users.alice]"), kept
        assert f"to use it: mv {POLICY}.bak {POLICY}" in installed


def test_the_policy_that_was_installed_is_removed(system: Container) -> None:
    """There is nothing in it that somebody wrote, not even if a later clone brings another one."""
    system.check("sed", "-i", "/^policy /d", "/usr/local/lib/bpferry/made")
    other = f"# of another version\n{TEMPLATE.read_text(encoding='utf-8')}"
    system.write(POLICY, other)
    digest = system.check("sh", "-c", f"sha256sum <{POLICY}").strip()
    system.check("sh", "-c", f"echo 'policy {digest}' >>/usr/local/lib/bpferry/made")
    said = uninstall(system).stderr

    assert "kept" not in said
    assert not exists(system, "/etc/bpferry")


# -- what is in use


def test_a_tap_that_stays_is_listed_and_nothing_is_removed(system: Container) -> None:
    """Without --force; the message names the tap, its user and both ways out."""
    system.write(POLICY, ALICES)
    name = create_tap(system)
    done = uninstall(system)

    assert 1 == done.returncode
    assert f"tap {name}: open in no process" in done.stderr
    assert [True] == ["alice" in line for line in done.stderr.splitlines() if f" {name} " in line]
    assert "ip link delete dev NAME" in done.stderr
    assert "--uninstall --force" in done.stderr
    assert all(exists(system, path) for path in ("/usr/local/bin/bpferry", POLICY))
    assert "active" == system.show("bpferry-tap.socket", "ActiveState")


def test_force_deletes_a_tap_that_nobody_has_open(system: Container) -> None:
    """It was made to stay, and its user could not delete it any more. Others' taps are left."""
    system.write(POLICY, ALICES)
    name = create_tap(system)
    system.check("ip", "tuntap", "add", "mode", "tap", "name", "bfp01234567")
    done = uninstall(system, "--force")
    taps = system.check("sh", "-c", "ls /sys/class/net | grep ^bfp")
    system.check("ip", "link", "delete", "dev", "bfp01234567")

    assert (0, "bfp01234567") == (done.returncode, taps.strip())
    assert f"deleted the tap {name}" in done.stderr


def test_a_tap_in_use_survives_force(system: Container) -> None:
    """Its process is named, keeps it, and it goes away with that."""
    system.write(POLICY, ALICES)
    with held(system, "ask_tap.py", "hold", "br0", "2") as answer:
        refused = uninstall(system)
        done = uninstall(system, "--force")
        there = exists(system, f"/sys/class/net/{answer['interface']}")

    line = next(
        line for line in refused.stderr.splitlines() if f"tap {answer['interface']}:" in line
    )
    assert (1, 0, True) == (refused.returncode, done.returncode, there)
    assert line.endswith("(python3) of alice"), line


def test_after_a_new_installation_status_knows_the_sets(system: Container) -> None:
    """The list of sets is kept while one is alive, which is said, and removed otherwise."""
    with held(system, "ask.py", "hold"):
        refused = uninstall(system)
        done = uninstall(system, "--force")
        install(system)
        status = system.check("bpferry-helper", "status")
    last = uninstall(system)

    assert (1, 0, 0) == (refused.returncode, done.returncode, last.returncode)
    assert f"{STATE} stays: it says whose sets are in use" in done.stderr
    assert "alice" in status
    assert " rss " in status
    assert not exists(system, STATE)


# -- the rest


def test_the_cache_is_removed(system: Container) -> None:
    """What tools/demo and tools/test fetched goes too."""
    system.check("mkdir", "-p", "/var/cache/bpferry/guest")
    uninstall(system)

    assert not exists(system, "/var/cache/bpferry")


def test_what_stays_is_said(system: Container) -> None:
    """An administrator's drop-in and users' files are left alone."""
    drop_in = "/etc/systemd/system/bpferry-tap.service.d"
    system.check("mkdir", "-p", drop_in)
    said = uninstall(system).stderr
    system.check("rmdir", drop_in)

    assert f"'{drop_in}' stays" in said
    assert "in users' folders ~/.cache/bpferry" in said


def test_a_masked_socket_leaves_its_mask_alone(system: Container) -> None:
    """Which is the administrator's, and is named; it is not enabled any more."""
    mask = "/etc/systemd/system/bpferry-tap.socket"
    enabled = "/etc/systemd/system/sockets.target.wants/bpferry-tap.socket"
    system.check("systemctl", "mask", "--now", "bpferry-tap.socket")
    done = uninstall(system, "--force")
    left = system.run("find", mask, enabled).stdout.split()
    system.check("rm", "-f", mask, enabled)

    assert f"'{mask}' stays" in done.stderr
    assert [mask] == left


def test_nothing_is_installed_over_a_masked_unit(system: Container) -> None:
    """It could not be started; the command that unmasks it is named."""
    system.check("systemctl", "mask", "bpferry-tap.service")
    done = system.run(INSTALL)
    system.check("systemctl", "unmask", "bpferry-tap.service")

    assert 1 == done.returncode
    assert "'bpferry-tap.service' is masked: nothing was installed" in done.stderr
    assert "hint: systemctl unmask bpferry-tap.service" in done.stderr


def test_force_alone_is_a_mistake(system: Container) -> None:
    """Only --uninstall takes it."""
    done = system.run(INSTALL, "--force")

    assert 1 == done.returncode
    assert "unknown arguments '--force'" in done.stderr
