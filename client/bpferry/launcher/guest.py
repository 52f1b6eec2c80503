# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a command line says about its VM as a whole: name, processors, accelerator, origin.

What is in a file of ``-readconfig`` is not seen, and counts as not said.
"""

import contextlib
import os
from collections.abc import Iterable, Sequence
from typing import Final

from bpferry.launcher.properties import NotUnderstoodError, Properties, read_properties
from bpferry.launcher.words import Option

LEVELS: Final = (
    "drawers", "books", "sockets", "dies", "clusters", "modules", "cores", "threads",
)  # fmt: skip
"""The levels of a topology (qapi/machine.json, SMPConfiguration)."""

MACHINE: Final = ("machine", "M")


def name_of(options: Iterable[Option]) -> str:
    """Return what the VM is called; empty if nothing says so. Of several names the last counts."""
    name = ""
    for option in options:
        if option.name == "name" and option.value is not None:
            with contextlib.suppress(NotUnderstoodError):
                name = read_properties(option.value, "guest").text_of("guest") or name
    return name


def vcpus_of(options: Iterable[Option]) -> int:
    """Return with how many virtual processors the VM starts.

    Without a number of processors QEMU takes the largest possible one, and that, if it is not given
    either, is the product of the levels (machine_parse_smp_config in hw/core/machine-smp.c).
    """
    said: dict[str, int] = {}
    for option in options:
        if option.value is None:
            continue
        try:
            if option.name == "smp":
                said |= _numbers(read_properties(option.value, "cpus"), "")
            elif option.name in MACHINE:
                said |= _numbers(read_properties(option.value, "type"), "smp.")
        except NotUnderstoodError:
            continue
    product = 1
    for level in LEVELS:
        product *= said.get(level) or 1
    return said.get("cpus") or said.get("maxcpus") or product


def _numbers(properties: Properties, prefix: str) -> dict[str, int]:
    keys = ("cpus", "maxcpus", *LEVELS)
    found = {key: properties.number(prefix + key) for key in keys}
    return {key: number for key, number in found.items() if number is not None}


def uses_kvm(program: str, options: Sequence[Option]) -> bool:
    """Say whether KVM is the first accelerator that QEMU will try.

    If none is named, that depends on the name of the program (configure_accelerators in
    system/vl.c).
    """
    first = next(filter(None, map(_accelerator, options)), "")
    return first == "kvm" if first else os.path.basename(program).endswith("kvm")  # noqa: PTH119


def _accelerator(option: Option) -> str:
    """Return the accelerator that *option* names first; empty if it names none."""
    if option.name == "enable-kvm":
        return "kvm"
    if option.value is None or option.name not in ("accel", *MACHINE):
        return ""
    implied, key = ("accel", "accel") if option.name == "accel" else ("type", "accel")
    try:
        named = read_properties(option.value, implied).text_of(key) or ""
    except NotUnderstoodError:
        return ""
    return named.partition(":")[0]


def comes_from_elsewhere(options: Iterable[Option]) -> bool:
    """Say whether the guest goes on where another QEMU stopped."""
    return any(option.name in ("incoming", "loadvm") for option in options)
