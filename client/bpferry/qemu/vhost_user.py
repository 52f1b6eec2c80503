# SPDX-License-Identifier: LGPL-2.1-or-later
"""The programs that implement devices outside QEMU, from descriptors that packages install.

Each is a JSON file (docs/interop/vhost-user.json in QEMU).
"""

import os
from collections.abc import Mapping

import msgspec

from bpferry.qemu.defaults import GPU_PROGRAM
from bpferry.qemu.package_files import read_files


class Program(msgspec.Struct, frozen=True):
    """One program."""

    type: str
    """The device that it implements, such as gpu."""
    binary: str


def find_gpu_program(environment: Mapping[str, str] = os.environ) -> str:
    """Return the path of the program that implements graphics cards, or the name of QEMU's own.

    As with firmware, a descriptor that cannot be read is skipped.
    """
    for _, raw in read_files("vhost-user", environment):
        try:
            program = msgspec.json.decode(raw, type=Program)
        except msgspec.DecodeError:
            continue
        if program.type == "gpu" and program.binary.startswith("/"):
            return program.binary
    return GPU_PROGRAM
