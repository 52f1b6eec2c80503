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

GROUP: Final = "it needs a control group, and libvirt's session mode has none either"

SHARES: Final = (GROUP, "run bpferry in a scope: systemd-run --user --scope -p CPUWeight=200")
QUOTA: Final = (GROUP, "run bpferry in a scope: systemd-run --user --scope -p CPUQuota=150%")
RESCTRL: Final = (
    "caches and memory bandwidth are shared out by the host's resctrl, which is root's",
    "have the administrator set it up, and leave it out here",
)

KEEP_FILE: Final = (
    "the firmware keeps its variables in a file",
    "leave type and source out, or write type='file' and the path of a file",
)

SYSTEM: Final[dict[str, Reason]] = {
    "/domain/@type": (
        "bpferry starts QEMU and no other hypervisor",
        "write 'kvm', or 'qemu' for a VM that needs no KVM",
    ),
    "/domain/os/type": ("a guest of QEMU is a whole machine", "write 'hvm'"),
    "/domain/os/type/@arch": (
        "bpferry does not know how such machines are laid out",
        "use an image for one of those that are possible",
    ),
    "/domain/bootloader": (
        "it is Xen's way to start a kernel",
        "name kernel and initrd in <os>, or boot from a disk",
    ),
    "/domain/bootloader_args": XEN,
    "/domain/os/init": CONTAINERS,
    "/domain/os/init*": CONTAINERS,
    "/domain/os/root": (
        "it is Xen's word for the file system that the kernel starts from",
        "write root=... in <cmdline>",
    ),
    "/domain/os/smbios[@mode='host']": (
        "the host's own tables are for root to read",
        "write mode='sysinfo', and what the guest is to see in <sysinfo type='smbios'>",
    ),
    "/domain/os/acpi/table[@type='rawset']": (
        "a file with several tables is for Xen",
        "name each table by itself, with type='raw'",
    ),
    "/domain/os/nvram/@type": KEEP_FILE,
    "/domain/os/nvram/source/*": KEEP_FILE,
    "/domain/on_poweroff": (
        "bpferry ends with its QEMU, and starts no second one",
        "write 'destroy'; a service of your own systemd with Restart=always starts it again",
    ),
    "/domain/on_reboot": (
        "QEMU starts the guest again, or ends",
        "write 'restart' or 'destroy'",
    ),
    "/domain/on_crash": (
        "bpferry writes no dump of a guest's memory, and renames no VM",
        "write 'preserve', which keeps the guest stopped as it is, or 'destroy'",
    ),
    "/domain/cputune/shares": SHARES,
    **{
        f"/domain/cputune/{of}{what}": QUOTA
        for of in ("", "global_", "emulator_", "iothread_")
        for what in ("period", "quota")
    },
    "/domain/cputune/cachetune": RESCTRL,
    "/domain/cputune/memorytune": RESCTRL,
    "/domain/blkiotune": (
        GROUP,
        "limit disks by <iotune>, or use a scope: systemd-run --user --scope -p IOWeight=50",
    ),
    "/domain/memtune/min_guarantee": OTHERS,
    "/domain/resource/fibrechannel": (
        "a name for the host's storage network is set in a control group of root's",
        REMOVE,
    ),
    "/domain/perf": (
        "libvirt counts these events for its own statistics",
        "have the administrator count them with 'perf kvm' on the host",
    ),
    "/domain/keywrap": IBM_Z,
    "/domain/launchSecurity": (
        "bpferry starts no guests with encrypted memory (SEV, TDX)",
        "remove it if the guest may run without",
    ),
    "/domain/cpu/@deprecated_features": IBM_Z,
    "/domain/cpu[@match='minimum']": (
        "libvirt finds out from a table of its own what else the host's processor can do",
        "write <cpu mode='host-model'/>, or match='exact'",
    ),
    **for_words(
        "/domain/cpu/cache",
        "level",
        ("QEMU tells the guest of the third level only", "write level='3', or leave it out"),
        "1",
        "2",
    ),
    "/domain/clock/timer[@name='platform']": XEN,
    "/domain/clock/timer[@track='boot']": (
        "it is for other timers than QEMU's",
        "write 'guest', or 'wall'",
    ),
    "/domain/features/aia": ("it is for RISC-V, and bpferry passes it on to no machine", REMOVE),
    "/domain/features/ras": ("it is for Arm, and bpferry passes it on to no machine", REMOVE),
    **{
        f"/domain/features/{name}": POWER
        for name in ("ccf-assist", "cfpc", "hpt", "htm", "ibs", "nested-hv", "sbbc")
    },
    "/domain/commandline": OTHERS,
    "/domain/namespace": OTHERS,
    "/domain/datacenterpath": OTHERS,
}
