# SPDX-License-Identifier: LGPL-2.1-or-later
"""The seed of a new VM, read by the kernel that Debian's cloud images have."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from guest.build import CACHE, KERNEL_ARGUMENTS, build_guest, only, pack
from guest.cpio import Archive
from guest.modules import Modules
from guest.packages import cloud_kernel, fetch, unpack
from tests import requires
from tests.client.guest import write_disk

MODULES: Final = ("virtio_pci", "virtio_blk", "isofs")
"""What such a kernel loads by itself, as udev and mount ask for it."""

INIT: Final = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do
    insmod "/modules/$module.ko"
done </modules/order
dmesg -n 1
mkdir /seed
for disk in /sys/block/vd*; do
    device=/dev/${disk##*/}
    # The label of ISO 9660, where blkid looks, which this busybox does not have.
    [ "$(dd if=$device bs=1 skip=32808 count=6 2>/dev/null)" != cidata ] ||
        mount -t iso9660 -o ro $device /seed
done
for name in meta-data user-data network-config; do
    echo "== $name"
    cat /seed/$name
done
echo "== end"
poweroff -f
"""

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.qemu,
    pytest.mark.guest,
    pytest.mark.slow,
]


def build_initrd(folder: Path) -> Path:
    """Return an initrd that finds the seed by its label, as cloud-init does, and prints it."""
    archives = fetch([cloud_kernel(), "busybox-static"], CACHE / "packages")
    unpack(archives, folder / "unpacked")
    modules = Modules(only(folder / "unpacked", "usr/lib/modules/*", "lib/modules/*"))
    for name in MODULES:
        modules.choose(name)
    root = folder / "root"
    for name, content in modules.chosen.items():
        path = root / "modules" / f"{name}.ko"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (root / "modules" / "order").write_text("".join(f"{name}\n" for name in modules.chosen))
    (root / "bin").mkdir()
    busybox = only(folder / "unpacked", "usr/bin/busybox", "bin/busybox")
    (root / "bin" / "busybox").write_bytes(busybox.read_bytes())
    (root / "init").write_text(INIT)
    with (folder / "initrd").open("wb") as out:
        pack(root, Archive(out))
    return folder / "initrd"


def bpferry(folder: Path, *words: str) -> str:
    """Run bpferry with all of the user's folders below *folder*, and return what it prints."""
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "HOME": str(folder),
        **{f"XDG_{name}_HOME": str(folder / name.lower()) for name in ("CONFIG", "DATA", "STATE")},
        "XDG_RUNTIME_DIR": str(folder / "run"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "bpferry", *words],
        check=False, capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_guest_mounts_the_seed_by_its_label(tmp_path: Path) -> None:
    """It finds it on a virtio disk, without a driver for CD drives, with the files as written."""
    requires.program("qemu-img")
    kernel = build_guest(CACHE, lambda _: None).kernel
    initrd = build_initrd(tmp_path)
    write_disk(tmp_path / "base.img")
    words = ["create", "web", "--json", "--image", str(tmp_path / "base.img"), "--user", "alice"]
    told = json.loads(bpferry(tmp_path, *words))
    path = Path(told["description"])
    boot = f'kernel = "{kernel}"\ninitrd = "{initrd}"\ncommand-line = "{KERNEL_ARGUMENTS}"\n'
    text = path.read_text().replace("vcpus = 2", "vcpus = 1")  # One is emulated with fewer faults.
    path.write_text(f'accelerator = "tcg"\n{boot}{text}')

    said = bpferry(tmp_path, "run", str(path)).replace("\r", "")
    meta, user, network = (
        said.partition(f"== {name}\n")[2].partition("== ")[0]
        for name in ("meta-data", "user-data", "network-config")
    )
    assert json.loads(meta)["local-hostname"] == "web"
    assert user.startswith("#cloud-config\n")
    (account,) = json.loads(user.partition("\n")[2])["users"]
    assert (account["name"], account["plain_text_passwd"]) == ("alice", told["password"])
    card = json.loads(network)["ethernets"]["net0"]
    assert card["match"]["macaddress"] == told["card"]["mac"]
