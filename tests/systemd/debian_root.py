# SPDX-License-Identifier: LGPL-2.1-or-later
"""A Debian with systemd and QEMU in a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.support.client_environment import CLONE, client_environment
from tests.support.debian_folder import FOLDER, find_or_build, mirror

PACKAGES: Final = (
    "systemd",
    "systemd-sysv",  # /sbin/init
    "dbus",  # systemctl --wait
    "libpam-systemd",  # sessions, and a systemd for each user
    "libnss-systemd",  # names of dynamic users
    "python3",
    "python3-venv",
    "python3-msgpack",
    "python3-pyroute2",
    "libbpf1",
    "iproute2",  # makes taps and bridges
)
"""What tools/install would install, so that no test waits for it, and what it does not."""

OF_QEMU: Final = ("qemu-system-x86", "qemu-utils")
"""The same, of QEMU's own release."""

FETCHED: Final = "/opt/bpferry-venv"
"""Where a root keeps the Python packages that tools/install would fetch: installed, but aside."""

SET_ASIDE: Final = f"""\
chroot "$1" sh -ec "
    mv /usr/local/lib/bpferry/venv {FETCHED}
    rmdir /usr/local/lib/bpferry
"
"""


def debian_root(release: str, more: Sequence[str] = (), asleep: Sequence[str] = ()) -> Path:
    """Return the root of *release*, "bookworm" or "trixie": boot it with an overlay above.

    With the packages *more* it is another root; their services *asleep* do not start with it.
    """
    command = _command(release, mirror(), more)
    if asleep:
        hook = f'--customize-hook=chroot "$1" systemctl disable {" ".join(asleep)}'
        command.insert(command.index(release), hook)
    return find_or_build(f"systemd-{release}", command, CLONE)


def _command(release: str, mirror: str, more: Sequence[str]) -> list[str]:
    sources = [f"deb {mirror} {release} main"]
    target = release
    if release == "bookworm":
        # QEMU takes eBPF fds since 9.0, and Debian 12 itself has 7.2.
        target = "bookworm-backports"
        sources.append(f"deb {mirror} {target} main")
    return [
        "mmdebstrap",
        "--variant=minbase",
        f"--include={','.join((*PACKAGES, *more))}",
        "--aptopt=APT::Install-Recommends false",
        f'--customize-hook=chroot "$1" apt-get --yes -t {target} install {" ".join(OF_QEMU)}',
        # The booted system must not think that it is booted for the first time, and ask.
        '--customize-hook=chroot "$1" systemd-firstboot --root=/ --locale=C.UTF-8 --timezone=UTC',
        f"--customize-hook={client_environment()}",
        f"--customize-hook={SET_ASIDE}",
        release,
        FOLDER,
        *sources,
    ]
