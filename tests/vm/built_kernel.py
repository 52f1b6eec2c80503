# SPDX-License-Identifier: LGPL-2.1-or-later
"""A kernel without BTF, built from Debian 13's source and kept in the cache.

Debian's kernels have BTF, and no parameter takes it away: a file that hides it from programs leaves
the kernel with its own. This one is built without, and with no more than a host of the tests needs,
all of it in the kernel itself: there is no initrd, and there are no modules.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.support.debian_folder import FOLDER, find_or_build, mirror
from tests.vm.host import Host
from tests.vm.image import Image, host_image

CONFIG: Final = Path(__file__).with_name("without_btf.config")

BUILD_SECONDS: Final = 7200
"""It takes ten minutes on two processors that nobody else wants."""

PACKAGES: Final = (
    "linux-source",
    "gcc",
    "libc6-dev",
    "make",
    "bc",
    "perl",
    "bison",
    "flex",
    "libelf-dev",  # objtool
    "xz-utils",  # the source
    "kmod",
)

COMPILE: Final = """\
cat >"$1/usr/src/config" <<'END'
%s
END
chroot "$1" sh -ec '
    cd /usr/src
    tar -xf linux-source-*.tar.xz --one-top-level=linux --strip-components=1
    cd linux
    make -s allnoconfig KCONFIG_ALLCONFIG=../config
    make -s -j2 bzImage
    cp arch/x86/boot/bzImage modules.builtin /srv
'
"""

MAKE: Final = """\
cd "$1"
shift
mmdebstrap --variant=minbase "$@"
cp root/srv/bzImage kernel
cp root/srv/modules.builtin .
rm -rf root
"""


@dataclass(frozen=True, slots=True)
class BuiltKernel:
    """Where it is."""

    folder: Path

    @property
    def image(self) -> Image:
        """The host of the other tests, which boots with this kernel."""
        return replace(host_image(), kernel=self.folder / "kernel", first=None)

    def introduce(self, host: Host) -> None:
        """Let modprobe in *host*, which runs this kernel, know what is built in."""
        folder = f"/lib/modules/{host.check('uname', '-r')}"
        host.check("mkdir", "-p", folder)
        host.write(f"{folder}/modules.builtin", (self.folder / "modules.builtin").read_text())
        host.write(f"{folder}/modules.order", "")
        host.check("depmod")


def kernel_without_btf() -> BuiltKernel:
    """Return it, built if there is none."""
    command = [
        "sh", "-ec", MAKE, "sh", FOLDER,
        f"--include={','.join(PACKAGES)}",
        "--aptopt=APT::Install-Recommends false",
        f"--customize-hook={COMPILE % CONFIG.read_text()}",
        "trixie", "root", f"deb {mirror()} trixie main",
    ]  # fmt: skip
    return BuiltKernel(find_or_build("kernel-without-btf", command, seconds=BUILD_SECONDS))
