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


def files(system: Container) -> set[str]:
    """Return every file with its kind, mode and owner, but for what the system itself changes."""
    skipped = [word for path in NOT_OURS for word in ("-path", path, "-prune", "-o")]
    listing = system.check("find", "/", "-xdev", *skipped, "-printf", "%y %m %u %g %p\\n")
    return set(listing.splitlines())


def install(system: Container, *arguments: str) -> str:
    """Run tools/install and return what it said."""
    done = system.run(INSTALL, *arguments, timeout=INSTALL_SECONDS)
    assert 0 == done.returncode, done.stderr
    return done.stderr


def test_uninstall_leaves_nothing(bare_system: Container) -> None:
    """After a use and --uninstall, the file system is as it was before the installation."""
    before = files(bare_system)
    install(bare_system)
    bare_system.check("systemctl", "start", "bpferry-bpf.service")
    during = files(bare_system)
    install(bare_system, "--uninstall")

    assert during - before
    assert (set(), set()) == (files(bare_system) - before, before - files(bare_system))


@pytest.mark.parametrize("what", ["/run/bpferry", "/var/lib/private/bpferry-bpf"])
def test_uninstall_removes_what_systemd_made(what: str, bare_system: Container) -> None:
    """The socket's folder and the state folder go too."""
    install(bare_system)
    bare_system.check("systemctl", "start", "bpferry-bpf.service")
    bare_system.check("test", "-e", what)
    install(bare_system, "--uninstall")

    assert 1 == bare_system.run("test", "-e", what).returncode


def test_uninstall_forgets_the_units(bare_system: Container) -> None:
    """After --uninstall, systemd no longer knows the socket."""
    install(bare_system)
    install(bare_system, "--uninstall")

    assert "not-found" == bare_system.show("bpferry-bpf.socket", "LoadState")


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
    done = bare_system.run(INSTALL, timeout=INSTALL_SECONDS)
    bare_system.check("chmod", "g-w", "/usr/local/lib")

    assert (1, True) == (done.returncode, "'/usr/local/lib' can be written" in done.stderr)


def test_group_with_members_stays(bare_system: Container) -> None:
    """The group that the installation made is kept when somebody is in it by then."""
    install(bare_system)
    bare_system.check("useradd", "--groups", "kvm", "dora")
    install(bare_system, "--uninstall")

    assert bare_system.check("getent", "group", "kvm").endswith(":dora")
