# SPDX-License-Identifier: LGPL-2.1-or-later
"""Build the guest: the distribution's kernel, and an initrd made here.

Everything is downloaded, unpacked and put together in one cache folder:

    packages/       what apt-get downloaded
    KEY/kernel      the release's cloud kernel
    KEY/initrd      busybox, ethtool, Python, the agent, and the modules of a virtio network card
    building-*/     in progress; renamed to KEY when complete, deleted if left behind

KEY is a hash of the packages' checksums and the files of this folder, so a changed package or agent
makes a new guest. A new Python on the host does not, which does no harm: the guest has its own
copy. Old guests stay until somebody deletes the cache folder.
"""

import argparse
import fcntl
import functools
import hashlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from guest.command import GuestError
from guest.cpio import Archive
from guest.interpreter import lay_interpreter, lay_libraries
from guest.modules import Modules
from guest.packages import cloud_kernel, fetch, identities, unpack

HERE = Path(__file__).resolve().parent
CACHE = Path("/var/cache/bpferry/guest")
TOOLS = ("busybox-static", "ethtool", "libmnl0")

MODULES = ("virtio_pci", "virtio_net", "button", "evdev")
"""The card, and the power button that QEMU presses for system_powerdown."""

KERNEL_ARGUMENTS = "console=ttyS0 quiet cryptomgr.notests"
"""Without KVM, Linux's tests of its own cryptography take a third of the time until it is up."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Guest:
    """The two files that QEMU needs, readable for everybody."""

    kernel: Path
    initrd: Path


def build_guest(cache: Path, say: Say) -> Guest:
    """Return the guest in *cache*; build it first if there is none with this key."""
    names, name = wanted()
    place = cache / name
    guest = Guest(place / "kernel", place / "initrd")
    if not place.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with locked(cache / "lock"):
            if not place.exists():
                sweep(cache)
                make(names, place, say)
    return guest


@functools.cache
def wanted() -> tuple[tuple[str, ...], str]:
    """Return the packages, and the key of the guest they make; to ask apt takes two seconds."""
    names = (cloud_kernel(), *TOOLS)
    return names, key(identities(names))


def key(packages: Sequence[str]) -> str:
    """Return the name of the guest made of these packages and the files of this folder."""
    digest = hashlib.sha256("\n".join(packages).encode())
    for path in sorted(path for path in HERE.iterdir() if path.is_file()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time build; the lock is released however its holder ends."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def sweep(cache: Path) -> None:
    """Delete what a killed build left behind."""
    for left in cache.glob("building-*"):
        shutil.rmtree(left)


def make(names: Sequence[str], place: Path, say: Say) -> None:
    """Build the guest from the packages *names*, and move it to *place* when it is complete."""
    say(f"downloading {names[0]} and {len(names) - 1} small packages")
    archives = fetch(names, place.parent / "packages")
    with tempfile.TemporaryDirectory(prefix="building-", dir=place.parent) as folder:
        work = Path(folder)
        say("unpacking them, without installing")
        unpack(archives, work / "unpacked")
        say("building the guest's file system")
        whole = work / "whole"
        whole.mkdir()
        put_together(work / "unpacked", work / "root", whole)
        # QEMU runs as an ordinary user; do not depend on the umask.
        for path, mode in ((whole, 0o755), (whole / "kernel", 0o644), (whole / "initrd", 0o644)):
            path.chmod(mode)
        whole.rename(place)
    say(f"built the guest in '{place}'")


def put_together(unpacked: Path, root: Path, whole: Path) -> None:
    """Make kernel and initrd in *whole*; *root* becomes the guest's file system."""
    kernel = only(unpacked, "boot/vmlinuz-*")
    shutil.copyfile(kernel, whole / "kernel")
    programs = lay_interpreter(HERE.parent, root)
    for name, pattern in (("bin/busybox", "*bin/busybox"), ("bin/ethtool", "*sbin/ethtool")):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(only(unpacked, f"usr/{pattern}", pattern), root / name)
    mnl = only(unpacked, "usr/lib/*/libmnl.so.0", "lib/*/libmnl.so.0")
    lay_libraries([*programs, root / "bin/ethtool"], mnl.parent, root)
    lay_modules(MODULES, only(unpacked, "usr/lib/modules/*", "lib/modules/*"), root / "modules")
    shutil.copyfile(HERE / "init", root / "init")
    with (whole / "initrd").open("wb") as out:
        pack(root, Archive(out))


def only(folder: Path, *patterns: str) -> Path:
    """Return the one file in *folder* that matches any of *patterns*."""
    found = [path for pattern in patterns for path in folder.glob(pattern)]
    if len(found) != 1:
        raise GuestError(f"cannot find '{patterns[0]}' in the packages: {len(found)} files match")
    return found[0]


def lay_modules(names: Sequence[str], folder: Path, target: Path) -> None:
    """Put kernel modules of *folder* into *target*, and the order to load them into its "order"."""
    modules = Modules(folder)
    for name in names:
        modules.choose(name)
    target.mkdir()
    for name, content in modules.chosen.items():
        (target / f"{name}.ko").write_bytes(content)
    (target / "order").write_text("".join(f"{name}\n" for name in modules.chosen))


def pack(root: Path, archive: Archive) -> None:
    """Write the files below *root* to *archive*, all of them as executable files."""
    # Mount points for init.
    for name in ("dev", "proc", "sys"):
        archive.folder(name)
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_dir():
            archive.folder(name)
        else:
            archive.file(name, path.read_bytes(), executable=True)
    archive.finish()


def main() -> int:
    """Build the guest and print its two files."""
    parser = argparse.ArgumentParser(prog="guest.build", description=main.__doc__)
    help_text = "where to build (default: %(default)s)"
    parser.add_argument("--cache", metavar="DIR", type=Path, default=CACHE, help=help_text)
    options = parser.parse_args()
    try:
        guest = build_guest(options.cache, lambda line: print(line, file=sys.stderr))
    except GuestError as error:
        print(f"guest.build: {error}", file=sys.stderr)
        return 1
    print(guest.kernel, guest.initrd, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
