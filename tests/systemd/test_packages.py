# SPDX-License-Identifier: LGPL-2.1-or-later
"""tools/package, and its packages on a booted Debian: installed, used, upgraded, removed, purged.

The tests of a release are steps of one story, in the order in which they are here.
"""

import hashlib
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests import requires
from tests.support.debian_folder import BUILD_SECONDS
from tests.support.debian_packages import TOOL, build, sweep
from tests.support.elf import fake_object
from tests.systemd.conftest import AS_ON_A_MACHINE
from tests.systemd.container import Container
from tests.systemd.installation import INSTALL as INSTALL_TOOL
from tests.systemd.packaged_vm import AS_ALICE, bring_guest, running_vm
from tests.systemd.test_install import ACCOUNTS, SERVICES, SOCKETS, files

pytestmark = [
    pytest.mark.system,
    pytest.mark.privileged,
    pytest.mark.kernel,
    pytest.mark.slow,
    # The first test of a release may have to wait for two roots to be made, and for the build.
    pytest.mark.timeout(5 * BUILD_SECONDS),
]

NAMES: Final = ("bpferry", "bpferry-helper", "python3-bpferry-wire")

KEEPER: Final = "bpferry-keep.service"

BUILT: Final = "/root/built"
NEWER: Final = "/root/newer"

APTS: Final = ("/var/lib/dpkg", "/var/lib/apt", "/var/cache", "/root/")
"""Where apt and dpkg keep what they know, and where this test has its packages."""

INSTALL: Final = "DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends"

IMPORTS: Final = """
apt-get -o Acquire::Languages=none update
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

FAKE_QEMU: Final = "/root/qemu-fake"
FAKE_CONTROL: Final = """\
Package: qemu-fake
Version: 1
Architecture: all
Maintainer: Nobody <nobody@example.invalid>
Description: an eBPF object where a QEMU is trusted
"""

IMAGE: Final = "/tmp/image"

STATE: Final = "/var/lib/private/bpferry-bpf"

POLICY: Final = '[users.alice]\nbridges = ["br0"]\n'

FOREIGN: Final = (
    f"dpkg -L {' '.join(NAMES)} | grep -v ^/usr/share/doc/ | xargs grep -sIlE -d skip "
    "'/usr/local/((bin|sbin|libexec|lib)/bpferry|share)' || :"
)
"""Prints the installed files that name a path of the other installation."""


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


@pytest.fixture(scope="module")
def packaged(bare_system: Container) -> Packaged:
    """Return a system with the packages, as built from this clone; alice is in the group."""
    requires.program("mmdebstrap")
    system = bare_system
    release = system.check("sh", "-c", ". /etc/os-release && echo $VERSION_CODENAME")
    sweep()
    system.check("mkdir", BUILT)
    for path in build(release).iterdir():
        shutil.copy(path, Path(f"/proc/{system.pid}/root{BUILT}"))
    system.check("sh", "-c", AS_NEWER, timeout=BUILD_SECONDS)
    system.check("sh", "-c", AS_ON_A_MACHINE)
    system.check("useradd", "alice")
    bring_guest(system)
    apt(system, f"{IMPORTS} {INSTALL} $packages")
    found = Packaged(system, our_view(system), system.check(*ACCOUNTS))
    apt(system, f"{INSTALL} {BUILT}/*.deb")
    system.check("gpasswd", "--add", "alice", "bpferry")
    return found


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
    units = [*SERVICES, *SOCKETS, KEEPER]
    done = packaged.system.run("systemd-analyze", "verify", "--man=no", *units)

    # A key of a newer systemd is ignored by an older one.
    found = [line for line in done.stderr.splitlines() if "Unknown key" not in line]

    assert [] == [line for line in found if "bpferry" in line]


@pytest.mark.qemu
@pytest.mark.guest
def test_vms_keep_all_they_have_over_an_upgrade(packaged: Packaged) -> None:
    """An ordinary user's VM on a bridge, steered by eBPF, has the same tap, set and traffic after.

    It needs no more than the group and a line in the policy, which the upgrade does not touch.
    """
    system = packaged.system
    system.write("/etc/bpferry/policy.toml", POLICY)
    with running_vm(system) as vm:
        before = (grants(system), vm.is_steered(), vm.datagram_comes_back())
        apt(system, f"{INSTALL} {NEWER}/*.deb </dev/null")
        versions = system.check("dpkg-query", "-W", "-f", "${Version}\n", *NAMES).split()
        after = (grants(system), vm.is_steered(), vm.datagram_comes_back())

    assert before == after
    names = [line.split()[1] for line in before[0]]
    assert (True, True) == (names[0].startswith("bft"), names[1] == "rss"), names
    assert (True, True) == before[1:]
    assert all(version.endswith(".1") for version in versions), versions
    assert POLICY.strip() == system.check("cat", "/etc/bpferry/policy.toml")
    assert [] == grants(system)


@pytest.mark.qemu
def test_a_qemu_has_its_name_for_launchers(packaged: Packaged) -> None:
    """For a launcher that takes one program. It is asked what it is, and has no cards."""
    said = packaged.system.check("bpferry-qemu-system-x86_64", "--version", user="alice")

    assert said.startswith("QEMU emulator version")


@pytest.mark.qemu
def test_first_vm_of_the_readme_is_made(packaged: Packaged) -> None:
    """An ordinary user makes it from an image; what that imports and starts came with apt."""
    system = packaged.system
    system.check("qemu-img", "create", "-q", "-f", "qcow2", IMAGE, "1G")
    system.write(f"{IMAGE}.pub", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA== alice\n")
    source = ("--image", IMAGE, "--bridge", "br0", "--ssh-key", f"{IMAGE}.pub")
    said = system.check(*AS_ALICE, "create", "first", *source, user="alice")
    shown = json.loads(system.check(*AS_ALICE, "run", "--dry-run=json", "first", user="alice"))

    assert "made the VM 'first'" in said
    assert "seed.iso" in " ".join(shown["argv"])
    assert ["ebpf"] == [nic["steering"] for nic in shown["nics"]]


def test_objects_of_a_qemu_are_kept_when_it_is_installed(packaged: Packaged) -> None:
    """By dpkg's trigger, before a client asks; and they are when that QEMU is gone."""
    system = packaged.system
    carried = fake_object(b"of a QEMU that nobody runs")
    tree = Path(f"/proc/{system.pid}/root{FAKE_QEMU}")
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(FAKE_CONTROL)
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/bin/qemu-system-s390x").write_bytes(carried)
    (tree / "usr/bin/qemu-system-s390x").chmod(0o755)
    system.check("dpkg-deb", "--build", FAKE_QEMU, f"{FAKE_QEMU}.deb")
    kept = f"{STATE}/object-{hashlib.sha256(carried).hexdigest()}"
    before = system.run("test", "-e", kept).returncode
    system.check("dpkg", "--install", f"{FAKE_QEMU}.deb", timeout=BUILD_SECONDS)
    system.check("dpkg", "--purge", "qemu-fake", timeout=BUILD_SECONDS)

    assert 1 == before
    assert carried == Path(f"/proc/{system.pid}/root{kept}").read_bytes()
    assert "success" == system.show(KEEPER, "Result")


def test_removal_keeps_the_policy(packaged: Packaged) -> None:
    """As dpkg does with what an administrator has written; the units are forgotten."""
    system = packaged.system
    apt(system, f"apt-get remove --yes {' '.join(NAMES)}")
    states = {system.show(unit, "LoadState") for unit in (*SERVICES, *SOCKETS, KEEPER)}

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
