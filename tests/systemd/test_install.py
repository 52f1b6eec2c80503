# SPDX-License-Identifier: LGPL-2.1-or-later
"""tools/install on a booted system: what it makes, and that it can be taken back."""

from typing import Final

import pytest

from tests.support.debian_folder import BUILD_SECONDS
from tests.systemd.conftest import INSTALL, INSTALL_SECONDS
from tests.systemd.container import Container

pytestmark = [
    pytest.mark.system,
    pytest.mark.privileged,
    pytest.mark.slow,
    # The first test of a release may have to wait for its root to be made.
    pytest.mark.timeout(BUILD_SECONDS + 300),
]

NOT_OURS: Final = ("/tmp", "/run", "/var/log", "/var/lib/systemd", "/var/lib/dbus")
"""Where a running system writes by itself. /run/bpferry is looked at on its own."""

BACKUPS: Final = ("/etc/passwd-", "/etc/shadow-", "/etc/group-", "/etc/gshadow-")
"""What the tools leave that make users, and take them away again."""

ACCOUNTS: Final = ("cat", "/etc/passwd", "/etc/group")

SERVICES: Final = ("bpferry-bpf.service", "bpferry-tap.service")

SOCKETS: Final = ("bpferry-bpf.socket", "bpferry-tap.socket")

TAP_USER: Final = "bpferry-tap"


def files(system: Container) -> set[str]:
    """Return every file with its kind, mode and owner, but for what the system itself changes."""
    skipped = [word for path in NOT_OURS + BACKUPS for word in ("-path", path, "-prune", "-o")]
    listing = system.check("find", "/", "-xdev", *skipped, "-printf", "%y %m %u %g %p\\n")
    return set(listing.splitlines())


def install(system: Container, *arguments: str) -> str:
    """Run tools/install and return what it said."""
    done = system.run(INSTALL, *arguments, timeout=INSTALL_SECONDS, fetches=True)
    assert 0 == done.returncode, done.stderr
    return done.stderr


def test_uninstall_leaves_nothing(bare_system: Container) -> None:
    """After a use and --uninstall, the file system is as it was before the installation."""
    before = files(bare_system)
    accounts = bare_system.check(*ACCOUNTS)
    install(bare_system)
    bare_system.check("systemctl", "start", *SERVICES)
    during = files(bare_system)
    install(bare_system, "--uninstall")

    assert during - before
    assert accounts == bare_system.check(*ACCOUNTS)
    assert (set(), set()) == (files(bare_system) - before, before - files(bare_system))


@pytest.mark.parametrize("what", ["/run/bpferry", "/var/lib/private/bpferry-bpf"])
def test_uninstall_removes_what_systemd_made(what: str, bare_system: Container) -> None:
    """The sockets' folder and the state folder go too."""
    install(bare_system)
    bare_system.check("systemctl", "start", *SERVICES)
    bare_system.check("test", "-e", what)
    install(bare_system, "--uninstall")

    assert 1 == bare_system.run("test", "-e", what).returncode


def test_both_sockets_listen_now_and_after_a_boot(bare_system: Container) -> None:
    """The installation enables and starts them, and neither helper."""
    install(bare_system)
    states = [bare_system.check("systemctl", ask, *SOCKETS) for ask in ("is-enabled", "is-active")]
    services = bare_system.run("systemctl", "is-active", *SERVICES).stdout.split()

    assert ["enabled\nenabled", "active\nactive"] == states
    assert ["inactive", "inactive"] == services


def test_uninstall_forgets_the_units(bare_system: Container) -> None:
    """After --uninstall, systemd no longer knows any of the units."""
    install(bare_system)
    install(bare_system, "--uninstall")
    states = {bare_system.show(unit, "LoadState") for unit in (*SERVICES, *SOCKETS)}

    assert {"not-found"} == states


def test_second_installation_does_nothing(bare_system: Container) -> None:
    """Where all is in place, only the first and the last line are said."""
    install(bare_system)
    said = install(bare_system)

    assert 2 == len(said.splitlines()), said


def test_installed_code_is_roots(bare_system: Container) -> None:
    """Nothing that was installed may be written by anybody but root."""
    install(bare_system)
    bad = bare_system.check(
        "find", "/usr/local", "!", "-type", "l", "(", "!", "-uid", "0", "-o", "-perm", "/022", ")"
    )

    assert "" == bad


def test_folder_that_others_may_write_is_refused(bare_system: Container) -> None:
    """A helper is not put where somebody else could replace it."""
    install(bare_system, "--uninstall")
    bare_system.check("chmod", "g+w", "/usr/local/lib")
    done = bare_system.run(INSTALL, timeout=INSTALL_SECONDS, fetches=True)
    bare_system.check("chmod", "g-w", "/usr/local/lib")

    assert (1, True) == (done.returncode, "'/usr/local/lib' can be written" in done.stderr)


def test_user_with_a_tap_stays(bare_system: Container) -> None:
    """Its number is not given to another user as long as a running VM's tap belongs to it."""
    install(bare_system)
    tap = ("mode", "tap", "name", "bft01234567")
    bare_system.check("ip", "tuntap", "add", *tap, "user", TAP_USER)
    said = install(bare_system, "--uninstall")
    kept = bare_system.run("id", TAP_USER).returncode
    bare_system.check("ip", "tuntap", "delete", *tap)
    install(bare_system, "--uninstall")

    assert (True, 0) == ("it owns taps of running VMs: bft01234567" in said, kept)
    assert 1 == bare_system.run("id", TAP_USER).returncode


def test_taps_that_stay_are_named(bare_system: Container) -> None:
    """A tap that a user created is left alone by --uninstall, which says how to delete it."""
    install(bare_system)
    tap = ("mode", "tap", "name", "bfp01234567")
    bare_system.check("ip", "tuntap", "add", *tap, "user", "nobody")
    said = install(bare_system, "--uninstall")
    bare_system.check("ip", "tuntap", "delete", *tap)

    assert "a user's tap stays: ip link delete dev bfp01234567" in said


def test_group_with_members_stays(bare_system: Container) -> None:
    """The group that the installation made is kept when somebody is in it by then."""
    install(bare_system)
    bare_system.check("useradd", "--groups", "kvm", "dora")
    install(bare_system, "--uninstall")

    assert bare_system.check("getent", "group", "kvm").endswith(":dora")
