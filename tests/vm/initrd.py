# SPDX-License-Identifier: LGPL-2.1-or-later
"""The first file system of a host: it loads what its disk needs, and starts the system there.

Debian's own has modules for all disks there are, compressed, and a udev that looks for them: an
emulated processor works on it for fifteen seconds.
"""

from pathlib import Path
from typing import Final

from guest.cpio import Archive
from guest.modules import Modules

MODULES: Final = ("virtio_pci", "virtio_blk", "ext4")

INIT: Final = """\
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs devtmpfs /dev
while read -r module; do
    /bin/busybox insmod "/modules/$module.ko"
done </modules/order
/bin/busybox mount -t ext4 /dev/vda /root
# The system finds it mounted already, as Debian's would leave it.
/bin/busybox mount --move /dev /root/dev
exec /bin/busybox switch_root /root /sbin/init
"""


def write_initrd(path: Path, parts: Path) -> None:
    """Write it to *path*; in *parts* are a kernel's modules and a busybox without libraries."""
    chosen = Modules(parts / "modules")
    for name in MODULES:
        chosen.choose(name)
    with path.open("wb") as out:
        archive = Archive(out)
        # Mount points.
        archive.folder("dev")
        archive.folder("root")
        archive.file("bin/busybox", (parts / "busybox").read_bytes(), executable=True)
        archive.file("init", INIT.encode(), executable=True)
        for name, content in chosen.chosen.items():
            archive.file(f"modules/{name}.ko", content)
        archive.file("modules/order", "".join(f"{name}\n" for name in chosen.chosen).encode())
        archive.finish()
