# SPDX-License-Identifier: LGPL-2.1-or-later
"""What QEMUs can do, kept from one run to the next.

A probe takes half a second, reading its stored result a few milliseconds. The result counts as long
as the binary and its modules are the same files in the same state, and as long as it is stored in
the format that this module knows.

QEMU looks for its modules in $QEMU_MODULE_DIR, and then in a folder that was compiled in
(util/module.c, module_load_one). QEMU does not say which one that is, so all folders that
distributions use are watched: a package that adds or removes a module changes the folder's mtime.

What cannot be noticed: another QEMU behind the same script; other libraries that QEMU uses; modules
in an unusual folder. ``bpferry capabilities --refresh`` asks QEMU again.
"""

import os
from collections.abc import Callable
from typing import Final

import msgspec

from bpferry.domain.digest import sha256
from bpferry.qemu import store
from bpferry.qemu.capabilities import Capabilities

FORMAT: Final = 2
"""The version of the format. Any new question, field or meaning needs a new number."""

SUFFIX: Final = ".capabilities"

Note = Callable[[str], None]


class Identity(msgspec.Struct, frozen=True, array_like=True):
    """What identifies a QEMU. The path has no symbolic links."""

    path: str
    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    modules: tuple[tuple[str, int, int, int], ...]
    """Path, device, inode and mtime in ns of each folder that may hold modules."""


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    format: int
    identity: Identity
    capabilities: Capabilities


def find_or_probe(
    qemu: str, *, refresh: bool = False, note: Note = lambda _sentence: None
) -> Capabilities:
    """Return what the binary *qemu* can do, from the cache or from a new probe.

    Args:
        qemu: its absolute path.
        refresh: ask again, whatever was found before.
        note: is told, at most once, why the new result cannot be stored.

    Raises:
        QemuError: it cannot be asked, or ended while it was; nothing is kept then.
    """
    identity = identify(qemu)
    if identity is not None and not refresh:
        found = _find(identity)
        if found is not None:
            # The same binary may have been asked for by another name.
            return found if found.qemu == qemu else msgspec.structs.replace(found, qemu=qemu)
    from bpferry.qemu.probe import probe  # noqa: PLC0415 - brings asyncio and QMP

    capabilities = probe(qemu)
    # Only if it is still the binary that was asked.
    if identity is not None and identity == identify(qemu):
        _keep(_Kept(FORMAT, identity, capabilities), note)
    return capabilities


def identify(qemu: str) -> Identity | None:
    """Return what identifies the binary *qemu*; None if it does not exist."""
    try:
        path = os.path.realpath(qemu)
        status = os.stat(path)  # noqa: PTH116 - pathlib would cost more than the rest
    except (OSError, ValueError):
        return None
    return Identity(
        path=path,
        device=status.st_dev,
        inode=status.st_ino,
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
        modules=tuple(_modules(path)),
    )


def file_name(identity: Identity, suffix: str) -> str:
    """Return the name of the file that keeps something about this QEMU."""
    digest = sha256(os.fsencode(identity.path)).hex()[:16]
    return f"{os.path.basename(identity.path)[:40]}-{digest}{suffix}"  # noqa: PTH119 - as above


def clear() -> int:
    """Forget everything; return how many files that were.

    Raises:
        OSError: a file cannot be removed.
    """
    return store.clear()


def _modules(path: str) -> list[tuple[str, int, int, int]]:
    """Return what identifies each folder that may hold modules of the binary *path*."""
    prefix = os.path.dirname(os.path.dirname(path))  # noqa: PTH120 - as above
    names = ("lib64/qemu", "lib64/qemu-kvm", "lib/qemu", f"lib/{os.uname().machine}-linux-gnu/qemu")
    folders = [f"{prefix}/{name}" for name in names]
    if os.environ.get("QEMU_MODULE_DIR"):
        folders.append(os.environ["QEMU_MODULE_DIR"])
    found = []
    for folder in folders:
        try:
            status = os.stat(folder)  # noqa: PTH116 - as above
        except OSError:
            continue
        found.append((folder, status.st_dev, status.st_ino, status.st_mtime_ns))
    return found


def _find(identity: Identity) -> Capabilities | None:
    kept = store.load(file_name(identity, SUFFIX), _Kept)
    if kept is None:
        return None
    return kept.capabilities if (kept.format, kept.identity) == (FORMAT, identity) else None


def _keep(kept: _Kept, note: Note) -> None:
    try:
        store.write(file_name(kept.identity, SUFFIX), msgspec.msgpack.encode(kept))
    except OSError as error:
        note(
            f"warning: cannot save in '{store.folder()}' what '{kept.capabilities.qemu}' can do: "
            f"{error.strerror or error}; QEMU is asked again at each start, which takes longer"
        )
