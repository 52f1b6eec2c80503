# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reasons about the VM as a whole."""

from typing import Final

from bpferry.domain.reasons.words import (
    CONTAINERS,
    IBM_Z,
    OTHERS,
    POWER,
    REMOVE,
    XEN,
    Reason,
    for_words,
)

ONE_UNIT: Final = "a unit of your systemd is one for all of QEMU"

PER_VCPU: Final = (
    f"it is for each vCPU alone, which takes a control group for each; {ONE_UNIT}",
    "write in its place, which is as much for all vCPUs together: {global quota}",
)
"""With a hint that is filled in (``global_quota``)."""

ONE_KIND: Final = (
    f"it is for some threads of QEMU, which take a control group of their own; {ONE_UNIT}",
    "remove it, or limit QEMU as a whole with <global_quota>",
)
"""For limits of some threads of QEMU."""

RESCTRL: Final = (
    "caches and memory bandwidth are partitioned through resctrl, which needs root",
    "remove it here, and ask the administrator to set it up",
)

KEEP_FILE: Final = (
    "UEFI variables are kept in a local file only",
    "remove 'type' and <source>, or write type='file' and the path of a file",
)

SYSTEM: Final[dict[str, Reason]] = {
    "/domain/@type": (
        "bpferry runs QEMU with KVM or TCG only",
        "write 'kvm', or 'qemu' for TCG",
    ),
    "/domain/os/type": ("QEMU guests are full virtual machines", "write 'hvm'"),
    "/domain/os/type/@arch": (
        "machines of this architecture are not supported",
        "use an image for one of the supported architectures",
    ),
    "/domain/bootloader": (
        "it is Xen's way to start a kernel",
        "name <kernel> and <initrd> in <os>, or boot from a disk",
    ),
    "/domain/bootloader_args": XEN,
    "/domain/os/init": CONTAINERS,
    "/domain/os/init*": CONTAINERS,
    "/domain/os/root": (
        "it is Xen's way to name the root file system",
        "write root=... in <cmdline>",
    ),
    "/domain/os/smbios[@mode='host']": (
        "only root may read the host's SMBIOS tables",
        "write mode='sysinfo', and describe what the guest should see in <sysinfo type='smbios'>",
    ),
    "/domain/os/acpi/table[@type='rawset']": (
        "files with several tables are for Xen",
        "name each table separately, with type='raw'",
    ),
    "/domain/os/nvram/@type": KEEP_FILE,
    "/domain/os/nvram/source/*": KEEP_FILE,
    "/domain/on_poweroff": (
        "bpferry ends when QEMU does, and does not start it again",
        "write 'destroy', and run bpferry in a systemd user service with Restart=always",
    ),
    "/domain/on_reboot": (
        "QEMU either resets the guest or exits",
        "write 'restart' or 'destroy'",
    ),
    "/domain/on_crash": (
        "bpferry neither dumps a guest's memory nor renames a VM",
        "write 'preserve', which stops the guest so that it can be examined, or 'destroy'",
    ),
    **{
        f"/domain/cputune/{of}{what}": reason
        for of, reason in (
            ("", PER_VCPU),
            ("emulator_", ONE_KIND),
            ("iothread_", ONE_KIND),
        )
        for what in ("period", "quota")
    },
    "/domain/cputune/cachetune": RESCTRL,
    "/domain/cputune/memorytune": RESCTRL,
    "/domain/memtune/min_guarantee": OTHERS,
    "/domain/resource/fibrechannel": (
        "it is set through a control group that only root may write",
        REMOVE,
    ),
    "/domain/perf": (
        "these events feed libvirt's own statistics",
        "remove it; the administrator can count them with 'perf kvm' on the host",
    ),
    "/domain/keywrap": IBM_Z,
    "/domain/launchSecurity": (
        "guests with encrypted memory (SEV, TDX) are not supported",
        "remove it if the guest may run unprotected",
    ),
    "/domain/cpu/@deprecated_features": IBM_Z,
    "/domain/cpu[@match='minimum']": (
        "libvirt computes the extra features from its own CPU tables, which bpferry does not have",
        "write <cpu mode='host-model'/>, or match='exact'",
    ),
    **for_words(
        "/domain/cpu/cache",
        "level",
        ("QEMU can emulate only the level 3 cache", "write level='3', or remove it"),
        "1",
        "2",
    ),
    "/domain/clock/timer[@name='platform']": XEN,
    "/domain/clock/timer[@track='boot']": (
        "QEMU has no timer that tracks the time since boot",
        "write 'guest', or 'wall'",
    ),
    "/domain/features/aia": ("it is for RISC-V machines, which bpferry does not support", REMOVE),
    "/domain/features/ras": ("it is for Arm machines, which cannot have it with bpferry", REMOVE),
    **{
        f"/domain/features/{name}": POWER
        for name in ("ccf-assist", "cfpc", "hpt", "htm", "ibs", "nested-hv", "sbbc")
    },
    "/domain/commandline": OTHERS,
    "/domain/namespace": OTHERS,
    "/domain/datacenterpath": OTHERS,
}
