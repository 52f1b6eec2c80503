# SPDX-License-Identifier: LGPL-2.1-or-later
"""The firmware that guests can boot with."""

from collections.abc import Iterator, Sequence

from bpferry.machine.doctor.finding import Feature, Finding
from bpferry.qemu.firmware import Descriptor


def check_firmware(found: Sequence[Descriptor], arch: str) -> Iterator[Finding]:
    """Yield whether there is UEFI firmware among *found* for guests of *arch*."""
    name, of = "firmware.uefi", (Feature.UEFI,)
    fitting = [
        one
        for one in found
        if "uefi" in one.interface_types
        and any(target.architecture == arch for target in one.targets)
    ]
    if not fitting:
        yield Finding(
            name,
            "fault",
            f"no UEFI firmware for {arch} guests is installed; guests that boot with a BIOS or "
            "their own kernel need none",
            of,
            fix="in Debian, it is the package 'ovmf' for x86, 'qemu-efi-aarch64' for ARM",
            command=_install(arch),
        )
        return
    secure = any("secure-boot" in one.features for one in fitting)
    boot = "with" if secure else "without"
    yield Finding(name, "ok", f"there is UEFI firmware for {arch} guests, {boot} secure boot", of)


def _install(arch: str) -> str:
    return "sudo apt install " + ("qemu-efi-aarch64" if arch == "aarch64" else "ovmf")
