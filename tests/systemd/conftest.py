# SPDX-License-Identifier: LGPL-2.1-or-later
"""Booted systems: one with the project installed for all tests of a release, one without."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests import requires
from tests.systemd.container import Container, boot
from tests.systemd.debian_root import debian_root
from tests.systemd.installation import install

REPOSITORY: Final = Path(__file__).parents[2]

RELEASES: Final = ("bookworm", "trixie")
"""systemd 252 with libbpf 1.1, and systemd 257 with libbpf 1.5."""

AS_ON_A_MACHINE: Final = """
set -e
chmod 0666 /dev/net/tun
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
"""
"""nspawn makes /dev/net/tun as it is outside; udev lets everybody open it. And nspawn's /sys is put
together from parts, over which systemd 257 cannot mount another, as it does on a machine."""


@contextmanager
def booted(release: str, scratch: Path) -> Iterator[Container]:
    """Boot *release*, with the console's log in the folder *scratch*, and halt it."""
    for name in ("systemd-nspawn", "mmdebstrap", "nsenter"):
        requires.program(name)
    with boot(debian_root(release), REPOSITORY, scratch / "console.log") as container:
        yield container


@pytest.fixture(scope="module", params=RELEASES)
def bare_system(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Container]:
    """Return a booted system in which nothing is installed; each module of tests gets its own."""
    release: str = request.param
    with booted(release, tmp_path_factory.mktemp(f"bare-{release}")) as container:
        yield container


@pytest.fixture(scope="session", params=RELEASES)
def installed_system(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Container]:
    """Return a booted system with the project installed: alice and carol are in bpferry.

    bob is in no group but his own, and dave in kvm, as libvirt's QEMU is on Debian.

    It has the bridges br0 and br1. All modules of tests share it.
    """
    release: str = request.param
    with booted(release, tmp_path_factory.mktemp(f"installed-{release}")) as container:
        container.check("sh", "-c", AS_ON_A_MACHINE)
        install(container)
        container.check("useradd", "--groups", "bpferry", "alice")
        container.check("useradd", "bob")
        container.check("useradd", "--groups", "bpferry", "carol")
        # Debian's udev makes the group, and is not installed here.
        container.check("groupadd", "--force", "--system", "kvm")
        container.check("useradd", "--groups", "kvm", "dave")
        for bridge in ("br0", "br1"):
            container.check("ip", "link", "add", bridge, "type", "bridge")
            container.check("ip", "link", "set", bridge, "up")
        yield container
