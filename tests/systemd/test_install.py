# SPDX-License-Identifier: LGPL-2.1-or-later
"""tools/install on a booted system: what it makes, and that it can be taken back."""

import json
from collections.abc import Iterator
from typing import Final

import pytest

from tests.support.debian_folder import BUILD_SECONDS
from tests.systemd.container import CLONE, Container
from tests.systemd.installation import INSTALL, INSTALL_SECONDS, fetch_and_install, install

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

GROUP: Final = "bpferry"


def files(system: Container) -> set[str]:
    """Return every file with its kind, mode and owner, but for what the system itself changes."""
    skipped = [word for path in NOT_OURS + BACKUPS for word in ("-path", path, "-prune", "-o")]
    listing = system.check("find", "/", "-xdev", *skipped, "-printf", "%y %m %u %g %p\\n")
    return set(listing.splitlines())


def uninstall(system: Container, *arguments: str) -> str:
    """Run tools/install --uninstall in the system's own network and return what it said."""
    done = system.run(INSTALL, "--uninstall", *arguments)
    assert 0 == done.returncode, done.stderr
    return done.stderr


def test_uninstall_leaves_nothing(bare_system: Container) -> None:
    """After a use and --uninstall, the file system is as it was before the installation."""
    before = files(bare_system)
    accounts = bare_system.check(*ACCOUNTS)
    fetch_and_install(bare_system)
    bare_system.check("systemctl", "start", *SERVICES)
    during = files(bare_system)
    uninstall(bare_system)

    assert during - before
    assert accounts == bare_system.check(*ACCOUNTS)
    assert (set(), set()) == (files(bare_system) - before, before - files(bare_system))


@pytest.mark.parametrize("what", ["/run/bpferry", "/var/lib/private/bpferry-bpf"])
def test_uninstall_removes_what_systemd_made(what: str, bare_system: Container) -> None:
    """The sockets' folder and the state folder go too."""
    install(bare_system)
    bare_system.check("systemctl", "start", *SERVICES)
    bare_system.check("test", "-e", what)
    uninstall(bare_system)

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
    uninstall(bare_system)
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


def install_anew(system: Container, *, clone: str = CLONE, cwd: str = "/") -> tuple[int, str]:
    """Run the clone's tools/install where nothing is installed; return its status and words."""
    uninstall(system)
    command = f"cd {cwd} && {clone}/tools/install"
    done = system.run("sh", "-c", command, timeout=INSTALL_SECONDS, fetches=True)
    return done.returncode, done.stderr


@pytest.mark.parametrize("pins", ["changed", "as they are"])
def test_package_with_another_hash_is_not_installed(pins: str, bare_system: Container) -> None:
    """One digit of one hash is enough. The control: the same copy of the clone, unchanged."""
    bare_system.check("cp", "-r", CLONE, "/root/clone")
    changed = pins == "changed"
    if changed:
        path = "/root/clone/tools/prepare/client.txt"
        bare_system.check("sed", "-i", "/qmp==/{n;s/sha256:./sha256:f/}", path)
    status, said = install_anew(bare_system, clone="/root/clone")
    bare_system.check("rm", "-r", "/root/clone")
    started = bare_system.run("bpferry", "--version").returncode == 0

    assert (int(changed), not changed) == (status, started), said
    assert changed == ("DO NOT MATCH THE HASHES" in said)


def test_modules_in_the_current_folder_are_not_run(bare_system: Container) -> None:
    """An administrator may start the installation in a folder that others can write to."""
    bare_system.check("mkdir", "/tmp/planted")
    for module in ("pip", "venv", "compileall", "ensurepip"):
        bare_system.write(f"/tmp/planted/{module}.py", "open('/tmp/planted/run', 'x')\n")
    status, said = install_anew(bare_system, cwd="/tmp/planted")
    was_run = [
        bare_system.run("test", "-e", "/tmp/planted/run").returncode,
        # The control: with -m alone they are.
        bare_system.run("sh", "-c", "cd /tmp/planted && python3 -m pip").returncode,
        bare_system.run("test", "-e", "/tmp/planted/run").returncode,
    ]
    bare_system.check("rm", "-r", "/tmp/planted")

    assert 0 == status, said
    assert [1, 0, 0] == was_run


def test_folder_that_others_may_write_is_refused(bare_system: Container) -> None:
    """A helper is not put where somebody else could replace it."""
    uninstall(bare_system)
    bare_system.check("chmod", "g+w", "/usr/local/lib")
    done = bare_system.run(INSTALL, timeout=INSTALL_SECONDS, fetches=True)
    bare_system.check("chmod", "g-w", "/usr/local/lib")

    assert (1, True) == (done.returncode, "'/usr/local/lib' can be written" in done.stderr)


def test_user_with_a_tap_stays(bare_system: Container) -> None:
    """Its number is not given to another user as long as a running VM's tap belongs to it."""
    install(bare_system)
    tap = ("mode", "tap", "name", "bft01234567")
    bare_system.check("ip", "tuntap", "add", *tap, "user", TAP_USER)
    said = uninstall(bare_system)
    kept = bare_system.run("id", TAP_USER).returncode
    bare_system.check("ip", "tuntap", "delete", *tap)
    uninstall(bare_system)

    assert (True, 0) == ("it owns taps of running VMs: bft01234567" in said, kept)
    assert 1 == bare_system.run("id", TAP_USER).returncode


@pytest.fixture
def people(bare_system: Container) -> Iterator[None]:
    """Make the group kvm, in which dora and libvirt's QEMU are, as on a machine with libvirt."""
    bare_system.check("groupadd", "--force", "--system", "kvm")
    bare_system.check("useradd", "--groups", "kvm", "dora")
    bare_system.check("useradd", "--system", "--gid", "kvm", "libvirt-qemu")
    yield
    for user in ("dora", "libvirt-qemu"):
        bare_system.check("userdel", user)


def as_an_earlier_version(system: Container) -> None:
    """Turn the installation into one of a version whose sockets belonged to the group kvm."""
    uninstall(system)
    install(system)
    units = [f"/usr/local/lib/systemd/system/{socket}" for socket in SOCKETS]
    system.check("sed", "-i", "s/^SocketGroup=.*/SocketGroup=kvm/", *units)
    system.write("/usr/local/lib/sysusers.d/bpferry.conf", "g kvm -\nu bpferry-tap -\n")
    system.check("sed", "-i", "s/^group .*/group kvm/", "/usr/local/lib/bpferry/made")
    system.check("systemctl", "daemon-reload")
    system.check("systemctl", "restart", *SOCKETS)
    system.check("groupdel", GROUP)


def groups_of_sockets(system: Container) -> list[str]:
    """Return the mode and the group of each socket file."""
    paths = ("/run/bpferry/bpf.sock", "/run/bpferry/tap.sock")
    return system.check("stat", "--format=%a %G", *paths).splitlines()


@pytest.mark.usefixtures("people")
def test_sockets_move_from_the_group_kvm(bare_system: Container) -> None:
    """On an installation of an earlier version, the sockets move to the group of their own."""
    as_an_earlier_version(bare_system)
    before = groups_of_sockets(bare_system)
    install(bare_system)

    assert ["660 kvm"] * 2 == before
    assert ["660 bpferry"] * 2 == groups_of_sockets(bare_system)


@pytest.mark.usefixtures("people")
def test_those_who_lose_access_are_named(bare_system: Container) -> None:
    """The move says once who can no longer ask, how to change that, and what the policy names."""
    as_an_earlier_version(bare_system)
    policy = '[qemu]\ntrusted = ["/usr/bin/qemu-kvm"]\n[load]\ngroups = [\n"kvm"]\n[groups.kvm]\n'
    bare_system.write("/etc/bpferry/policy.toml", policy)
    said = install(bare_system)
    again = install(bare_system)

    assert "sockets move from the group kvm to the group bpferry" in said
    assert "'dora' loses access to the helpers; to give it back: usermod -aG bpferry dora" in said
    assert "the system user 'libvirt-qemu' loses access to the helpers\n" in said
    assert "policy.toml' still names the group kvm (line 5, 6): put bpferry there" in said
    assert 2 == len(again.splitlines()), again


@pytest.mark.usefixtures("people")
def test_group_kvm_is_not_removed(bare_system: Container) -> None:
    """Even if an earlier version made it: Debian's packages use it by now."""
    as_an_earlier_version(bare_system)
    install(bare_system)
    bare_system.check("gpasswd", "--delete", "dora", "kvm")
    uninstall(bare_system)

    assert 0 == bare_system.run("getent", "group", "kvm").returncode
    assert 2 == bare_system.run("getent", "group", GROUP).returncode


def test_group_that_was_there_before_stays(bare_system: Container) -> None:
    """A group that the installation did not make is kept, which is said."""
    uninstall(bare_system)
    bare_system.check("groupadd", "--system", GROUP)
    install(bare_system)
    said = uninstall(bare_system)
    bare_system.check("groupdel", GROUP)

    assert "it was there before; to remove it: groupdel bpferry" in said


def test_group_with_members_stays(bare_system: Container) -> None:
    """The group that the installation made is kept when somebody is in it by then."""
    install(bare_system)
    bare_system.check("useradd", "--groups", GROUP, "emma")
    said = uninstall(bare_system)

    assert bare_system.check("getent", "group", GROUP).endswith(":emma")
    assert "stays, since it has members (emma); to remove it: groupdel bpferry" in said


def test_varlinkctl_asks_the_helpers(bare_system: Container) -> None:
    """It starts bpferry-varlink, takes its interface for valid, and gets the helper's answer."""
    install(bare_system)
    address = "exec:/usr/local/bin/bpferry-varlink"
    if not bare_system.check("sh", "-c", "command -v varlinkctl || :"):
        assert bare_system.run("/usr/local/bin/bpferry-varlink").returncode == 2  # Debian 12.
        return
    text = bare_system.check("varlinkctl", "introspect", address, "io.bpferry.Tap")
    assert "method Make(" in text
    wanted = '{"bridge": "br9", "queues": 1}'
    told = bare_system.check("varlinkctl", "call", address, "io.bpferry.Tap.Can", wanted)
    assert json.loads(told)["code"] == "refused"
    uninstall(bare_system)
    for name in ("bpferry-varlink", "bpferry-bridge-helper"):
        assert not bare_system.check("sh", "-c", f"command -v {name} || :")


def test_each_qemu_has_a_second_name(bare_system: Container) -> None:
    """Under bpferry-qemu-system-*, it answers as under its own name; the name goes with bpferry."""
    install(bare_system)
    own = "/usr/local/bin/bpferry-qemu-system-x86_64"
    answers = [bare_system.check(name, "-version") for name in ("qemu-system-x86_64", own)]

    assert answers[0] == answers[1]
    uninstall(bare_system)
    assert 1 == bare_system.run("test", "-L", own).returncode
