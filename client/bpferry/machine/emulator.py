# SPDX-License-Identifier: LGPL-2.1-or-later
"""The QEMU of a VM: what it can do, or why it cannot be asked, with its place in the document."""

from pathlib import Path
from typing import Final

from bpferry.domain.document import Document
from bpferry.domain.forms import called
from bpferry.domain.model.machine import Machine
from bpferry.errors import QemuError
from bpferry.machine.paths import exists, explain_closed
from bpferry.machine.refusals import located
from bpferry.machine.reporter import Reporter
from bpferry.qemu.cache import find_or_probe
from bpferry.qemu.capabilities import Capabilities
from bpferry.qemu.defaults import default_qemu, qemu_of

PREFIX: Final = "qemu-system-"

PACKAGES: Final = {
    "x86_64": "qemu-system-x86",
    "i386": "qemu-system-x86",
    "aarch64": "qemu-system-arm",
    "arm": "qemu-system-arm",
    "loongarch64": "qemu-system-misc",
    "ppc64": "qemu-system-ppc",
    "riscv64": "qemu-system-riscv",
    "s390x": "qemu-system-s390x",
}
"""Those of Debian 13, by what follows the prefix in a program's name."""


def ask_emulator(document: Document, reporter: Reporter) -> Capabilities:
    """Return what the QEMU of *document* can do.

    Raises:
        QemuError: it is not there, or cannot be asked.
    """
    qemu = qemu_of(document.machine)
    reporter.progress(f"asking '{qemu}' what it can do")
    try:
        return find_or_probe(qemu, note=reporter.note)
    except QemuError as error:
        if not exists(qemu):
            _, closed = explain_closed(qemu)
            error.hint = closed or _way_out(document, qemu)
        key = "qemu" if document.machine.qemu else "arch"
        raise located(error, document, key) from error


def _way_out(document: Document, qemu: str) -> str:
    """Return what to do where there is no file *qemu*."""
    package = find_package(Path(qemu).name)
    key = called(Machine, "qemu")
    usual = default_qemu(document.machine.arch)
    if document.machine.qemu and exists(usual):
        return f"this host has '{usual}': write that into {key}, or leave {key} out"
    install = f"install it (in Debian, the package '{package}')" if package else "install it"
    return f"{install}, or write the path of another QEMU into {key}"


def find_package(name: str) -> str | None:
    """Return Debian's package of the program *name*; None if it is no QEMU that we know."""
    return PACKAGES.get(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else None
