# SPDX-License-Identifier: LGPL-2.1-or-later
"""The disks of the hosts, with their kernels: made by mmdebstrap, kept in the cache.

Nothing of this project is in them but what tools/install would fetch from a package index. So they
are made again when that list changes, or this module, and not when the project's code does.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.client_environment import CLONE, client_environment
from tests.support.debian_folder import FOLDER, find_or_build, mirror
from tests.support.old_qemu import old_qemu_binary

OWN_QEMU: Final = "/usr/bin/qemu-system-x86_64"
"""The release's own: 10.0.13."""

NEWER_FOLDER: Final = "/opt/qemu-11.1.3"
NEWER_QEMU: Final = f"{NEWER_FOLDER}/usr/bin/qemu-system-x86_64"
"""A script that starts the one from the backports, which lies beside it."""

PACKAGES: Final = (
    "systemd",
    "systemd-sysv",  # /sbin/init
    "udev",  # owners and modes of devices
    "dbus",  # systemctl --wait
    "libpam-systemd",  # gives the systemd of a user its folder
    "libnss-systemd",  # names of dynamic users
    "kmod",
    "linux-image-cloud-amd64",
    "busybox-static",  # starts it, see initrd.py
    "qemu-system-x86",
    "qemu-utils",
    "python3",
    "python3-venv",
    "python3-msgpack",
    "python3-pyroute2",
    "libbpf1",
    "apparmor",  # Debian has it on every machine
    "iproute2",
)
"""What tools/install would install, a kernel, and what boots it."""

SLURM: Final = ("munge", "slurmctld", "slurmd")
"""Packages, and services of the same names, which have no settings when the host boots."""

OF_QEMU: Final = ("qemu-system-x86", "qemu-utils")

IMPORTED: Final = ("python3-msgpack", "python3-pyroute2", "libbpf1")
"""What the helpers import, which apt finds by itself."""

FRESH: Final = tuple(name for name in PACKAGES if name not in {*OF_QEMU, *IMPORTED, "python3-venv"})
"""What a host has that never heard of bpferry, but for a QEMU, which is added."""

FETCHED: Final = (*IMPORTED, "python3-defusedxml", "python3-pycdlib", "python3-tomli-w")
"""What apt fetches for bpferry's packages. It lies in apt's cache: the host has no network."""

OF_RELEASE: Final = {
    "trixie": ("trixie", ("python3-msgspec",)),
    "bookworm": ("bookworm-backports", ()),
}
"""Where QEMU is from, and what else is fetched, as that release has it."""

UNIT: Final = """\
[Unit]
Description=carries the commands of the tests into this host
Requires=dev-vdb.device
After=dev-vdb.device

[Service]
ExecStartPre=/usr/bin/tar --extract --file=/dev/vdb --directory=/srv
ExecStart=/usr/bin/python3 -I -B /srv/bpferry/tests/vm/inside/courier.py

[Install]
WantedBy=multi-user.target
"""

ADD_COURIER: Final = f"""\
cat >"$1/etc/systemd/system/courier.service" <<'END'
{UNIT}END
chroot "$1" systemctl --quiet enable courier.service
"""

# The booted system must not think that it is booted for the first time, and ask.
SET_UP: Final = 'chroot "$1" systemd-firstboot --root=/ --locale=C.UTF-8 --timezone=UTC'

ASLEEP: Final = f'chroot "$1" systemctl --quiet disable {" ".join(SLURM)}'

ADD_QEMU: Final = f"""\
mkdir -p "$1{NEWER_FOLDER}/usr"
cd '%s'
cp -a --parents bin/qemu-system-x86_64 share/qemu share/seabios lib/x86_64-linux-gnu/qemu \\
    "$1{NEWER_FOLDER}/usr"
chown -R root:root "$1{NEWER_FOLDER}"
mv "$1{NEWER_QEMU}" "$1{NEWER_QEMU}.bin"
cat >"$1{NEWER_QEMU}" <<'END'
#!/bin/sh
# Modules are looked for in /usr/lib, and those of another release there would make it abort.
export QEMU_MODULE_DIR={NEWER_FOLDER}/usr/lib/x86_64-linux-gnu/qemu
exec {NEWER_QEMU}.bin "$@"
END
chmod 0755 "$1{NEWER_QEMU}"
"""
"""Its libraries are the release's own: the backports have none that it needs."""

BUILD: Final = """\
cd "$1"
shift
# initrd.py makes one.
INITRD=No mmdebstrap --variant=minbase "$@"
cp root/boot/vmlinuz-* kernel
mkdir first
cp root/usr/bin/busybox first
cp -a root/usr/lib/modules/* first/modules
mke2fs -q -t ext4 -O ^has_journal -d root disk 3G
rm -rf root
"""
"""The disk is sparse: what it costs is what is on it, half a gigabyte."""


@dataclass(frozen=True, slots=True)
class Image:
    """What QEMU needs to boot the host. Shared by all runs: boot it with a snapshot."""

    kernel: Path
    first: Path | None
    """What its first file system is made of; None for a kernel that needs none."""
    disk: Path


ADD_FROM: Final = """\
chroot "$1" apt-get --yes -t %s install %s
chroot "$1" apt-get clean
chroot "$1" apt-get --yes --no-install-recommends --download-only install %s
"""


def fresh_image(release: str) -> Image:
    """Return the image of a host of *release* without bpferry: apt can install its packages."""
    target, more = OF_RELEASE[release]
    hooks = (
        SET_UP,
        ADD_COURIER,
        ADD_FROM % (target, " ".join(OF_QEMU), " ".join((*FETCHED, *more))),
    )
    suites = dict.fromkeys((release, target))
    sources = [f"deb {mirror()} {suite} main" for suite in suites]
    options = [
        f"--include={','.join(FRESH)}",
        # What apt knows and has fetched stays.
        "--skip=cleanup/apt",
    ]
    return _image(f"vm-fresh-{release}", _build(options, hooks, release, sources))


def host_image() -> Image:
    """Return the image, made if there is none."""
    newer = old_qemu_binary("11.1.3").parents[1]
    hooks = (SET_UP, ADD_COURIER, ASLEEP, ADD_QEMU % newer, client_environment())
    options = [f"--include={','.join((*PACKAGES, *SLURM, 'slurm-client'))}"]
    return _image("vm-trixie", _build(options, hooks, "trixie", [f"deb {mirror()} trixie main"]))


def _image(name: str, command: list[str]) -> Image:
    folder = find_or_build(name, command, CLONE)
    return Image(folder / "kernel", folder / "first", folder / "disk")


def _build(
    options: list[str], hooks: tuple[str, ...], release: str, sources: list[str]
) -> list[str]:
    return [
        "sh", "-ec", BUILD, "sh", FOLDER,
        *options,
        "--aptopt=APT::Install-Recommends false",
        *(f"--customize-hook={hook}" for hook in hooks),
        release, "root", *sources,
    ]  # fmt: skip
