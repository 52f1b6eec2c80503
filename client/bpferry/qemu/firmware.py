# SPDX-License-Identifier: LGPL-2.1-or-later
"""The firmware that this host has, from the descriptors that its packages install.

Each is a JSON file (docs/interop/firmware.json in QEMU).
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from bpferry.qemu.package_files import read_files


class FlashFile(msgspec.Struct, frozen=True):
    """An image for flash."""

    filename: str
    format: str = "raw"


class Mapping_(msgspec.Struct, frozen=True, rename="kebab"):  # noqa: N801 - Mapping is Python's
    """How QEMU loads a firmware."""

    device: str
    mode: str = "split"
    executable: FlashFile | None = None
    nvram_template: FlashFile | None = None
    filename: str | None = None


class Target(msgspec.Struct, frozen=True):
    """What a firmware runs on."""

    architecture: str
    machines: tuple[str, ...] = ()
    """Patterns of machine types, such as ``pc-q35-*``."""


class Descriptor(msgspec.Struct, frozen=True, rename="kebab"):
    """One firmware."""

    interface_types: tuple[str, ...]
    mapping: Mapping_
    targets: tuple[Target, ...]
    features: frozenset[str] = frozenset()
    description: str = ""
    path: str = ""
    """The path of the descriptor."""


SEABIOS: Final = ("/usr/share/seabios/bios-256k.bin", "/usr/share/qemu/bios-256k.bin")
"""Where distributions keep the BIOS that QEMU loads by default."""


def firmware_of_host(
    environment: Mapping[str, str] = os.environ, seabios: Sequence[str] = SEABIOS
) -> tuple[Descriptor, ...]:
    """Return all firmware of this host, in order: those with descriptors, and then SeaBIOS.

    Debian has no descriptor for SeaBIOS, though QEMU depends on it.
    """
    found = read_descriptors(environment)
    known = [one.mapping.filename for one in found]
    more = (_bios(path) for path in seabios if path not in known and Path(path).is_file())
    return (*found, *more)


def _bios(path: str) -> Descriptor:
    machines = ("pc", "pc-i440fx-*", "q35", "pc-q35-*", "isapc")
    return Descriptor(
        interface_types=("bios",),
        mapping=Mapping_(device="memory", filename=path),
        targets=(Target("x86_64", machines), Target("i386", machines)),
        features=frozenset({"acpi-s3", "acpi-s4"}),
        description="SeaBIOS",
    )


def read_descriptors(environment: Mapping[str, str] = os.environ) -> tuple[Descriptor, ...]:
    """Return all firmware of this host, in order; descriptors that cannot be read are skipped.

    A descriptor is a hint; a broken one, or one of a newer kind, must not keep unrelated VMs from
    starting.
    """
    return tuple(_decode_all(environment))


def _decode_all(environment: Mapping[str, str]) -> Iterator[Descriptor]:
    for path, raw in read_files("firmware", environment):
        try:
            descriptor = msgspec.json.decode(raw, type=Descriptor)
        except msgspec.DecodeError:
            continue
        yield msgspec.structs.replace(descriptor, path=str(path))
