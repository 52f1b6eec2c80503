# SPDX-License-Identifier: LGPL-2.1-or-later
"""Classes of the model that are imported when a document has what they describe.

An annotation has the name of such a class in place of the class. To make all of them takes a fifth
of the time in which a VM is started, and most VMs need few of them.
"""

import importlib
from collections.abc import Mapping
from functools import cache
from typing import Final

from bpferry.domain.binding import Table

MODULES: Final[Mapping[str, tuple[str, ...]]] = {
    "balloon": ("Balloon",),
    "cards": ("Card",),
    "characters": (
        "Channel",
        "Console",
        "Parallel",
        "RedirectedDevice",
        "RedirectionRule",
        "Serial",
        "SmartCard",
    ),
    "controllers": ("Controller",),
    "disks": ("Disk", "ThrottleGroup"),
    "extras": (
        "Crypto",
        "Iommu",
        "Panic",
        "Pstore",
        "SharedMemory",
        "Vsock",
        "Watchdog",
    ),
    "filesystems": ("Filesystem",),
    "firmware": ("AcpiTable", "BootMenu", "FirmwareFeature", "Loader", "Nvram", "Sysinfo"),
    "graphics": ("Graphics",),
    "host_devices": ("HostDevice",),
    "images": ("BackingImage",),
    "inputs": ("Hub", "Input"),
    "iothreads": ("IoThread", "ThreadPool"),
    "memory": ("MaxMemory", "MemoryBacking", "MemoryDevice", "MemoryLimits"),
    "rngs": ("Rng",),
    "secrets": ("SecretFile",),
    "security": ("Tpm",),
    "sounds": ("Audio", "Sound"),
    "system": ("GenerationId", "Override", "Variable"),
    "tuning": ("CpuTune", "IoTune"),
    "videos": ("Video",),
}
"""Their names, by the module of the model that has them."""


@cache
def find_class(name: str) -> type[Table]:
    """Return the class *name*."""
    module = next(module for module, names in MODULES.items() if name in names)
    found: type[Table] = getattr(importlib.import_module(f"bpferry.domain.model.{module}"), name)
    return found
