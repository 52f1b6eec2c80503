# SPDX-License-Identifier: LGPL-2.1-or-later
"""The first file system of a host: it loads what its disk needs, and starts the system there.

Debian's own has modules for all disks there are, compressed, and a udev that looks for them: an
emulated processor works on it for fifteen seconds.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Final

from guest.build import lay_modules, pack
from guest.cpio import Archive

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
    with tempfile.TemporaryDirectory() as folder, path.open("wb") as out:
        root = Path(folder)
        lay_modules(MODULES, parts / "modules", root / "modules")
        for name in ("bin", "root"):
            (root / name).mkdir()
        shutil.copyfile(parts / "busybox", root / "bin/busybox")
        (root / "init").write_text(INIT)
        pack(root, Archive(out))
