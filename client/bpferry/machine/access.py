# SPDX-License-Identifier: LGPL-2.1-or-later
"""What QEMU has to write to, and what may not be written to by this user.

Nothing is opened for writing to find out: that alone would wake up anything that watches the file.
"""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bpferry.commandline.build import Built
from bpferry.commandline.extras.vsock import MODULE_HINT
from bpferry.commandline.parts import OpenDevice, OpenVsock, OutputFile
from bpferry.domain.forms import either
from bpferry.domain.model.machine import Machine
from bpferry.errors import BpferryError, NotReady
from bpferry.machine.making import why_no_file
from bpferry.machine.paths import exists, explain_closed
from bpferry.network.groups import explain_device, user_name

if TYPE_CHECKING:
    from bpferry.machine.images import Image

READ_ONLY: Final = either("read-only = true", "<readonly/>")
"""How a description says that a disk is not written to."""

UNCHANGEABLE: Final = ("ide", "sata")
"""Buses on which a guest cannot be kept from writing, so that no disk there is read-only."""


def find_unwritable(machine: Machine, built: Built) -> Iterator[BpferryError]:
    """Yield images, logs and device nodes that this user may not write to.

    Each error's element is a key of the model. What does not exist is reported elsewhere, except
    images that only the header of another one names.
    """
    if machine.disks:
        yield from find_unwritable_images(machine)
    for output in built.of(OutputFile):
        yield from _output(output)
    nodes: tuple[OpenDevice | OpenVsock, ...] = (*built.of(OpenDevice), *built.of(OpenVsock))
    for node in nodes:
        # Nodes of the host's own devices have rules of their own (host_devices).
        if not node.key.startswith("host-devices"):
            yield from _node(node)


def find_unwritable_images(machine: Machine, read_only: str = READ_ONLY) -> Iterator[NotReady]:
    """Yield the images among these; *read_only* is how to say that a disk is not written to."""
    from bpferry.machine.images import images_of  # noqa: PLC0415 - where there are any

    for image in images_of(machine):
        yield from _image(image, read_only)


def _image(image: "Image", read_only: str) -> Iterator[NotReady]:
    if not exists(image.path):
        if image.above:
            yield _missing_below(image)
    elif not os.access(image.path, os.R_OK):
        # What the document names itself is among the files that cannot be read (files).
        if image.above:
            yield _unreadable_below(image)
    elif image.writable:
        cause = why_not_writable(image.path)
        if cause:
            message = f"cannot write to '{image.path}': {cause}"
            yield NotReady(message, _fix(image, read_only), image.key)


def _unreadable_below(image: "Image") -> NotReady:
    return NotReady(
        f"cannot read '{image.path}', the backing image of '{image.above}': "
        f"{os.strerror(errno.EACCES)}",
        "ask its owner to let you read it",
        image.key,
    )


def _missing_below(image: "Image") -> NotReady:
    cause, fix = explain_closed(image.path)
    return NotReady(
        f"cannot read '{image.path}', the backing image of '{image.above}': "
        f"{cause or os.strerror(errno.ENOENT)}",
        fix
        or "put it back, or tell the image above where it is now: "
        f"qemu-img rebase -u -F FORMAT -b PATH '{image.above}'",
        image.key,
    )


def why_not_writable(path: str) -> str:
    """Return why this user may not write to *path*, which exists; empty if he may."""
    if os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        return ""
    try:
        found = Path(path).stat()
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            return "its file system is mounted read-only"
    except OSError as error:
        return error.strerror or str(error)
    owner = user_name(found.st_uid)
    return f"it belongs to '{owner}' and has the mode {stat.S_IMODE(found.st_mode):04o}"


def _fix(image: "Image", read_only: str) -> str:
    try:
        ours = Path(image.path).stat().st_uid == os.geteuid()
    except OSError:
        ours = False
    make = f"run: chmod u+w '{image.path}'" if ours else "ask its owner to let you write to it"
    if image.disk.bus in UNCHANGEABLE:
        return make
    return f"{make}; or say that the disk is not written to: {read_only}"


def _output(output: OutputFile) -> Iterator[NotReady]:
    path = Path(output.path)
    if exists(output.path):
        cause, hint = why_not_writable(output.path), "make it writable, or choose another path"
    else:
        cause, hint = why_no_file(path.parent)
    if cause:
        yield NotReady(f"cannot write into '{path}': {cause}", hint, output.key)


def _node(node: OpenDevice | OpenVsock) -> Iterator[NotReady]:
    if not exists(node.path):
        sentence = f"this host has no '{node.path}', which the device needs"
        yield NotReady(sentence, MODULE_HINT, node.key)
    elif not os.access(node.path, os.R_OK | os.W_OK):
        cause, hint = explain_device(node.path, MODULE_HINT)
        yield NotReady(f"cannot open '{node.path}': {cause}", hint, node.key)
