# SPDX-License-Identifier: LGPL-2.1-or-later
"""The disk of the host, with its kernel: made by mmdebstrap, kept in the cache.

Nothing of this project is in it but what tools/install would fetch from a package index. So it is
made again when that list changes, or this module, and not when the project's code does.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.debian_folder import FOLDER, find_or_build, mirror
from tests.support.old_qemu import old_qemu_binary

REPOSITORY: Final = Path(__file__).parents[2]

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
    "initramfs-tools",
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

ADD_VENV: Final = """\
mkdir -p "$1/etc/ssl/certs" "$1/srv/bpferry"
unshare --mount sh -ec '
    mount --bind /etc/ssl/certs "$1/etc/ssl/certs"
    mount --bind "$CLONE" "$1/srv/bpferry"
    chroot "$1" sh -ec "
        repository=/srv/bpferry
        . /srv/bpferry/tools/prepare/packages.sh
        make_venv /usr/local/lib/bpferry/venv client"
' sh "$1"
# %s
"""
"""As tools/install makes it; there it finds that nothing is missing. The comment is the list."""

BUILD: Final = """\
cd "$1"
shift
mmdebstrap --variant=minbase "$@"
cp root/boot/vmlinuz-* kernel
cp root/boot/initrd.img-* initrd
mke2fs -q -t ext4 -O ^has_journal -d root disk 3G
rm -rf root
"""
"""The disk is sparse: what it costs is what is on it, half a gigabyte."""


@dataclass(frozen=True, slots=True)
class Image:
    """What QEMU needs to boot the host. Shared by all runs: boot it with a snapshot."""

    kernel: Path
    initrd: Path
    disk: Path


def host_image() -> Image:
    """Return the image, made if there is none."""
    # Passed aside, so that where the clone lies does not make another image.
    folder = find_or_build("vm-trixie", _command(mirror()), {"CLONE": str(REPOSITORY)})
    return Image(folder / "kernel", folder / "initrd", folder / "disk")


def _command(mirror: str) -> list[str]:
    newer = old_qemu_binary("11.1.3").parents[1]
    hooks = (SET_UP, ADD_COURIER, ADD_QEMU % newer, ADD_VENV % _requirements())
    return [
        "sh", "-ec", BUILD, "sh", FOLDER,
        f"--include={','.join(PACKAGES)}",
        "--aptopt=APT::Install-Recommends false",
        *(f"--customize-hook={hook}" for hook in hooks),
        "trixie", "root", f"deb {mirror} trixie main",
    ]  # fmt: skip


def _requirements() -> str:
    """Return the packages of the client that are fetched, in one line."""
    lines = (REPOSITORY / "tools/prepare/client.txt").read_text().splitlines()
    return " ".join(line for line in lines if line[:1] not in {"", "#"})
