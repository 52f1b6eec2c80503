# SPDX-License-Identifier: LGPL-2.1-or-later
"""tools/package, and its packages on a booted Debian: installed, used, upgraded, removed, purged.

The tests of a release are steps of one story, in the order in which they are here.
"""

import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests import requires
from tests.support.debian_folder import BUILD_SECONDS
from tests.systemd.conftest import AS_ON_A_MACHINE
from tests.systemd.conftest import INSTALL as INSTALL_TOOL
from tests.systemd.container import Container
from tests.systemd.test_install import ACCOUNTS, SERVICES, SOCKETS, files

pytestmark = [
    pytest.mark.system,
    pytest.mark.privileged,
    pytest.mark.kernel,
    pytest.mark.slow,
    # The first test of a release may have to wait for two roots to be made, and for the build.
    pytest.mark.timeout(3 * BUILD_SECONDS),
]

TOOL: Final = Path(__file__).parents[2] / "tools/package"

NAMES: Final = ("bpferry", "bpferry-helper", "python3-bpferry-wire")

BUILT: Final = "/root/built"
NEWER: Final = "/root/newer"

APTS: Final = ("/var/lib/dpkg", "/var/lib/apt", "/var/cache", "/root/")
"""Where apt and dpkg keep what they know, and where this test has its packages."""

INSTALL: Final = "DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends"

IMPORTS: Final = """
apt-get update
packages='python3-defusedxml python3-pycdlib python3-tomli-w'
! apt-cache show python3-msgspec >/dev/null 2>&1 || packages="$packages python3-msgspec"
"""
"""Debian's own packages, which stay when ours are purged."""

AS_NEWER: Final = f"""
set -e
mkdir {NEWER}
cd {BUILT}
for package in *.deb; do
    dpkg-deb --raw-extract $package /root/tree
    version=$(sed -n 's/^Version: //p' /root/tree/DEBIAN/control)
    sed -i "s/$version/$version.1/" /root/tree/DEBIAN/control
    dpkg-deb --build -Zgzip /root/tree {NEWER}/$package
    rm -r /root/tree
done
"""

POLICY: Final = '[users.alice]\nbridges = ["br0"]\n'

FOREIGN: Final = (
    f"dpkg -L {' '.join(NAMES)} | grep -v ^/usr/share/doc/ | xargs grep -sIlE -d skip "
    "'/usr/local/(bin|sbin|libexec|lib/bpferry|share)' || :"
)
"""Prints the installed files that name a path of the other installation."""

HOLDS: Final = (
    "bpferry", "fds", "--object", "rss", "--bridge", "br0", "--queues", "2", "--exec", "cat",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Packaged:
    """A booted system with the packages, and what it was before."""

    system: Container
    files: set[str]
    accounts: str

    def files_now(self) -> set[str]:
        """Return all files but those that apt and dpkg keep."""
        return our_view(self.system)


def our_view(system: Container) -> set[str]:
    """Return the lines of files() that dpkg and apt do not change by themselves."""
    return {line for line in files(system) if not line.split(" ", 4)[4].startswith(APTS)}


def apt(system: Container, command: str) -> str:
    """Run *command* in a shell, with a mirror to reach; return what it said."""
    done = system.run("sh", "-ec", command, timeout=BUILD_SECONDS, fetches=True)
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout + done.stderr


def build(release: str, folder: Path, options: Sequence[str] = ()) -> list[Path]:
    """Build the packages for *release* and return their paths."""
    done = subprocess.run(
        [TOOL, "--release", release, *options, folder],
        check=False,
        capture_output=True,
        text=True,
        timeout=2 * BUILD_SECONDS,
    )
    assert 0 == done.returncode, done.stderr
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def packaged(bare_system: Container, tmp_path_factory: pytest.TempPathFactory) -> Packaged:
    """Return a system with the packages, as built from this clone; alice is in the group."""
    requires.program("mmdebstrap")
    system = bare_system
    release = system.check("sh", "-c", ". /etc/os-release && echo $VERSION_CODENAME")
    # Half of the time goes to lintian, which finds the same for both.
    options = ["--lintian"] if release == "trixie" else []
    system.check("mkdir", BUILT)
    for path in build(release, tmp_path_factory.mktemp(release), options):
        shutil.copy(path, Path(f"/proc/{system.pid}/root{BUILT}"))
    system.check("sh", "-c", AS_NEWER, timeout=BUILD_SECONDS)
    system.check("sh", "-c", AS_ON_A_MACHINE)
    system.check("useradd", "alice")
    system.check("ip", "link", "add", "br0", "type", "bridge")
    system.check("ip", "link", "set", "br0", "up")
    apt(system, f"{IMPORTS} {INSTALL} $packages")
    found = Packaged(system, our_view(system), system.check(*ACCOUNTS))
    apt(system, f"{INSTALL} {BUILT}/*.deb")
    system.check("gpasswd", "--add", "alice", "bpferry")
    return found


@contextmanager
def held(system: Container) -> Iterator[list[str]]:
    """Let alice hold a tap and a set meanwhile; yield what the administrator sees of them."""
    with system.running(*HOLDS, user="alice"):
        deadline = time.monotonic() + 120
        while len(seen := grants(system)) < 2:
            assert time.monotonic() < deadline, seen
            time.sleep(0.2)
        yield seen


def grants(system: Container) -> list[str]:
    """Return what bpferry-helper status says of alice's sets and taps, but for their age."""
    lines = system.check("bpferry-helper", "status").splitlines()
    rows = [line.split() for line in lines if " alice " in line]
    return sorted(f"{pid} {name}" for _, _, pid, name, *_ in rows)


def test_sockets_listen(packaged: Packaged) -> None:
    """Both are enabled and started, and no helper is."""
    system = packaged.system
    states = [system.check("systemctl", ask, *SOCKETS) for ask in ("is-enabled", "is-active")]
    services = system.run("systemctl", "is-active", *SERVICES).stdout.split()

    assert ["enabled\nenabled", "active\nactive"] == states
    assert ["inactive", "inactive"] == services


def test_tools_install_refuses_beside_the_packages(packaged: Packaged) -> None:
    """It names the packages and changes nothing."""
    done = packaged.system.run(INSTALL_TOOL)

    assert (1, True) == (done.returncode, "as Debian packages already" in done.stderr), done.stderr
    assert 1 == packaged.system.run("test", "-e", "/usr/local/lib/bpferry").returncode


def test_no_file_names_a_path_of_the_other_installation(packaged: Packaged) -> None:
    """tools/install puts the same files below /usr/local, where the packages have nothing."""
    assert "" == packaged.system.check("sh", "-c", FOREIGN)


def test_units_are_whole(packaged: Packaged) -> None:
    """systemd-analyze finds no mistake in them, and every program that they start."""
    units = [*SERVICES, *SOCKETS]
    done = packaged.system.run("systemd-analyze", "verify", "--man=no", *units)

    # A key of a newer systemd is ignored by an older one.
    found = [line for line in done.stderr.splitlines() if "Unknown key" not in line]

    assert [] == [line for line in found if "bpferry" in line]


def test_user_in_the_group_gets_a_tap_and_a_set(packaged: Packaged) -> None:
    """With a line in the policy, from the commands that the packages installed."""
    packaged.system.write("/etc/bpferry/policy.toml", POLICY)
    with held(packaged.system) as seen:
        names = [line.split()[1] for line in seen]

    assert 2 == len(names)
    assert "rss" in names
    assert any(name.startswith("bft") for name in names), names


def test_upgrade_leaves_users_what_they_hold(packaged: Packaged) -> None:
    """The same tap and the same set, while new code answers; and the policy is not touched."""
    system = packaged.system
    with held(system) as seen:
        apt(system, f"{INSTALL} {NEWER}/*.deb </dev/null")
        versions = system.check("dpkg-query", "-W", "-f", "${Version}\n", *NAMES).split()

        assert seen == grants(system)
    assert all(version.endswith(".1") for version in versions), versions
    assert POLICY.strip() == system.check("cat", "/etc/bpferry/policy.toml")


def test_removal_keeps_the_policy(packaged: Packaged) -> None:
    """As dpkg does with what an administrator has written; the units are forgotten."""
    system = packaged.system
    apt(system, f"apt-get remove --yes {' '.join(NAMES)}")
    states = {system.show(unit, "LoadState") for unit in (*SERVICES, *SOCKETS)}

    assert {"not-found"} == states
    assert POLICY.strip() == system.check("cat", "/etc/bpferry/policy.toml")
    assert 1 == system.run("test", "-e", "/run/bpferry/tap.sock").returncode


def test_both_ways_to_install_are_not_mixed(packaged: Packaged) -> None:
    """The package is refused beside tools/install's installation, with the way out."""
    system = packaged.system
    system.check("mkdir", "-p", "/usr/local/lib/bpferry/helper")
    done = system.run("sh", "-c", f"dpkg --install {BUILT}/bpferry-helper_*.deb")
    system.check("rm", "-r", "/usr/local/lib/bpferry")

    assert (1, True) == (done.returncode, "tools/install --uninstall" in done.stderr), done.stderr


def test_purge_leaves_nothing(packaged: Packaged) -> None:
    """Neither files nor the user nor the group, once alice is not in it."""
    system = packaged.system
    system.check("gpasswd", "--delete", "alice", "bpferry")
    system.check("dpkg", "--purge", *NAMES, timeout=BUILD_SECONDS)
    now = packaged.files_now()

    assert packaged.accounts == system.check(*ACCOUNTS)
    assert (set(), set()) == (now - packaged.files, packaged.files - now)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--release", "sid"], "cannot build for 'sid'"),
        (["--release"], "--release needs a value"),
        (["--fast"], "unknown option '--fast'"),
        (["a", "b"], "more than one folder: 'a' and 'b'"),
    ],
)
def test_wrong_arguments_are_refused(arguments: list[str], reason: str) -> None:
    """Before anything is made, with the usage."""
    done = subprocess.run([TOOL, *arguments], check=False, capture_output=True, text=True)

    assert (1, True) == (done.returncode, reason in done.stderr), done.stderr
    assert "tools/package [--release RELEASE]" in done.stderr
