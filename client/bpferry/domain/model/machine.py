# SPDX-License-Identifier: LGPL-2.1-or-later
"""The whole VM.

What not every VM has is named here by its class, which is imported when a document has it
(``later``).
"""

from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from bpferry.domain.binding import At, Form, Placed, Table
from bpferry.domain.model.base import Uuid
from bpferry.domain.model.clock import Clock
from bpferry.domain.model.cpu import MAX_VCPUS, Cpu, Vcpu
from bpferry.domain.model.features import Features
from bpferry.domain.model.numa import NumaTune, NumberSet
from bpferry.domain.stop_time import MAX_STOP_SECONDS, STOP_SECONDS

if TYPE_CHECKING:
    from bpferry.domain.model.balloon import Balloon
    from bpferry.domain.model.cards import Card
    from bpferry.domain.model.characters import (
        Channel,
        Console,
        Parallel,
        RedirectedDevice,
        RedirectionRule,
        Serial,
        SmartCard,
    )
    from bpferry.domain.model.controllers import Controller
    from bpferry.domain.model.disks import Disk, ThrottleGroup
    from bpferry.domain.model.extras import (
        Crypto,
        Iommu,
        Panic,
        Pstore,
        SharedMemory,
        Vsock,
        Watchdog,
    )
    from bpferry.domain.model.filesystems import Filesystem
    from bpferry.domain.model.firmware import (
        AcpiTable,
        BootMenu,
        FirmwareFeature,
        Loader,
        Nvram,
        Sysinfo,
    )
    from bpferry.domain.model.graphics import Graphics
    from bpferry.domain.model.host_devices import HostDevice
    from bpferry.domain.model.inputs import Hub, Input
    from bpferry.domain.model.iothreads import IoThread, ThreadPool
    from bpferry.domain.model.memory import MaxMemory, MemoryBacking, MemoryDevice, MemoryLimits
    from bpferry.domain.model.rngs import Rng
    from bpferry.domain.model.secrets import SecretFile
    from bpferry.domain.model.security import Tpm
    from bpferry.domain.model.sounds import Audio, Sound
    from bpferry.domain.model.system import GenerationId, Override, Variable
    from bpferry.domain.model.tuning import CpuTune, IoTune
    from bpferry.domain.model.videos import Video

MAX_COMMAND_LINE_BYTES: Final = 2047
"""COMMAND_LINE_SIZE of x86 and arm64 without its final zero byte (asm/setup.h)."""

VIRTUALIZATION: Final = (("kvm", "kvm"), ("qemu", "tcg"))
"""What libvirt calls a VM with each accelerator."""

MAX_IOTHREADS: Final = 4096
"""More than any host could run."""

Arch = Literal["x86_64", "i686", "aarch64", "riscv64", "loongarch64", "ppc64", "s390x"]

MachineName = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[a-zA-Z0-9_.-]+$", description="the name of a machine type, such as q35"
    ),
]

Vcpus = Annotated[int, msgspec.Meta(ge=1, le=MAX_VCPUS)]


class Machine(Table, frozen=True, kw_only=True):
    """One VM."""

    name: Placed[str, At("name")]
    memory: Placed[int, At("memory", Form.SIZE, absent=0)]
    """Bytes. If there are NUMA nodes, the sum of theirs counts instead, as in libvirt."""
    uuid: Placed[Uuid | None, At("uuid")] = None
    generation_id: Placed["GenerationId | None", At("genid")] = None
    title: Placed[str | None, At("title")] = None
    description: Placed[str | None, At("description", lines=True)] = None
    """For people."""
    accelerator: Placed[Literal["kvm", "tcg"], At("@type", words=VIRTUALIZATION, always=True)] = (
        "kvm"
    )
    tcg_fallback: Placed[
        bool, At("metadata/bpferry:vm/@tcg-fallback", Form.YES_NO, absent=False)
    ] = True
    """Run with TCG, and say so, if KVM does not work. False in a native description that asks for
    ``accelerator = "kvm"`` and has no such key."""
    require_ebpf: Placed[bool, At("metadata/bpferry:vm/@require-ebpf", Form.YES_NO)] = False
    """Start only if the host's kernel steers every card with RSS."""
    default_rss: Placed[bool, At("metadata/bpferry:vm/@default-rss", Form.YES_NO, absent=False)] = (
        True
    )
    """Offer RSS on each tap with several queues, unless its card decides, if it costs nothing."""
    stop_timeout: Placed[
        Annotated[int, msgspec.Meta(ge=0, le=MAX_STOP_SECONDS)],
        At("metadata/bpferry:vm/@stop-timeout"),
    ] = STOP_SECONDS
    """Seconds within which the guest has to power down when it is asked to; 0 for no limit."""
    qemu: Placed[str | None, At("devices/emulator")] = None
    arch: Placed[Arch | None, At("os/type/@arch")] = None
    machine_type: Placed[MachineName, At("os/type/@machine", absent="default")] = "q35"
    """``default`` is libvirt's default, which is pc for x86."""
    device_addresses: Placed[
        Literal["by-kind", "libvirt"],
        At("metadata/bpferry:vm/@device-addresses", absent="libvirt"),
    ] = "by-kind"
    """Where devices without an address go: each kind to places of its own, which no other kind
    moves, or all in libvirt's order."""
    kind: Placed[Literal["hvm"], At("os/type", always=True)] = "hvm"

    current_memory: Placed[int | None, At("currentMemory", Form.SIZE)] = None
    """Bytes that the balloon leaves to the guest; no effect if larger than the memory."""
    max_memory: Placed["MaxMemory | None", At("maxMemory")] = None
    memory_backing: Placed["MemoryBacking | None", At("memoryBacking")] = None
    memory_limits: Placed["MemoryLimits | None", At("memtune")] = None
    memory_in_dumps: Placed[bool, At("memory/@dumpCore", Form.ON_OFF)] = False
    """Whether a core dump of QEMU contains the guest's memory."""
    numa_tune: Placed[NumaTune | None, At("numatune")] = None

    vcpus: Placed[Vcpus, At("vcpu", always=True)] = 1
    vcpus_at_start: Placed[Vcpus | None, At("vcpu/@current")] = None
    """How many of ``vcpus`` are there when the guest starts; the others are plugged in later."""
    vcpu_placement: Placed[Literal["static", "auto"], At("vcpu/@placement")] = "static"
    """With ``auto``, the kernel chooses the processors."""
    vcpu_affinity: Placed[NumberSet | None, At("vcpu/@cpuset")] = None
    """The host's processors that QEMU runs on."""
    cpu_tune: Placed["CpuTune | None", At("cputune")] = None
    io_tune: Placed["IoTune | None", At("blkiotune")] = None
    vcpu_list: Placed[tuple[Vcpu, ...], At("vcpus/vcpu")] = ()
    cpu: Placed[Cpu, At("cpu", absent=Cpu(mode="default"), instead=Cpu())] = Cpu()
    iothreads: Placed[
        Annotated[int, msgspec.Meta(ge=0, le=MAX_IOTHREADS)] | None, At("iothreads")
    ] = None
    iothread_list: Placed[tuple["IoThread", ...], At("iothreadids/iothread")] = ()
    main_loop: Placed["ThreadPool | None", At("defaultiothread")] = None

    firmware: Placed[Literal["bios", "efi", None], At("os/@firmware")] = None
    firmware_features: Placed[tuple["FirmwareFeature", ...], At("os/firmware/feature")] = ()
    loader: Placed["Loader | None", At("os/loader")] = None
    nvram: Placed["Nvram | None", At("os/nvram")] = None
    kernel: Placed[str | None, At("os/kernel", Form.FILE)] = None
    initrd: Placed[str | None, At("os/initrd", Form.FILE)] = None
    command_line: Placed[str | None, At("os/cmdline")] = None
    shim: Placed[str | None, At("os/shim", Form.FILE)] = None
    device_tree: Placed[str | None, At("os/dtb", Form.FILE)] = None
    boot: Placed[tuple[Literal["hd", "cdrom", "network", "fd"], ...], At("os/boot/@dev")] = ()
    boot_menu: Placed["BootMenu | None", At("os/bootmenu")] = None
    serial_bios: Placed[bool | None, At("os/bios/@useserial", Form.YES_NO)] = None
    """Whether the BIOS writes to the serial port."""
    reboot_timeout: Placed[
        Annotated[int, msgspec.Meta(ge=-1, le=65535)] | None, At("os/bios/@rebootTimeout")
    ] = None
    """Milliseconds until the BIOS reboots if nothing boots; -1 for never."""
    acpi_tables: Placed[tuple["AcpiTable", ...], At("os/acpi/table")] = ()
    smbios: Placed[Literal["emulate", "sysinfo"], At("os/smbios/@mode")] = "emulate"
    sysinfo: Placed[tuple["Sysinfo", ...], At("sysinfo")] = ()

    clock: Placed[Clock, At("clock")] = Clock()
    features: Placed[Features, At("features", absent=Features(acpi=False))] = Features()
    suspend_to_memory: Placed[bool | None, At("pm/suspend-to-mem/@enabled", Form.YES_NO)] = None
    suspend_to_disk: Placed[bool | None, At("pm/suspend-to-disk/@enabled", Form.YES_NO)] = None
    on_poweroff: Placed[Literal["destroy"], At("on_poweroff")] = "destroy"
    on_reboot: Placed[Literal["restart", "destroy"], At("on_reboot")] = "restart"
    on_crash: Placed[Literal["destroy", "restart", "preserve"], At("on_crash")] = "destroy"

    secrets: Placed[tuple["SecretFile", ...], At("metadata/bpferry:vm/bpferry:secret")] = ()
    qemu_arguments: Placed[tuple[str, ...], At("qemu:commandline/qemu:arg/@value")] = ()
    """Passed to QEMU as they are, after everything else."""
    qemu_environment: Placed[tuple["Variable", ...], At("qemu:commandline/qemu:env")] = ()

    qemu_overrides: Placed[tuple["Override", ...], At("qemu:override/qemu:device")] = ()
    """Properties of devices that override bpferry's."""
    qemu_deprecation: Placed[
        Literal["none", "omit", "reject", "crash"], At("qemu:deprecation/@behavior")
    ] = "none"
    """What QEMU does if it is given something that is deprecated."""

    throttle_groups: Placed[tuple["ThrottleGroup", ...], At("throttlegroups/throttlegroup")] = ()
    disks: Placed[tuple["Disk", ...], At("devices/disk")] = ()
    controllers: Placed[tuple["Controller", ...], At("devices/controller")] = ()
    cards: Placed[tuple["Card", ...], At("devices/interface")] = ()
    serials: Placed[tuple["Serial", ...], At("devices/serial")] = ()
    parallels: Placed[tuple["Parallel", ...], At("devices/parallel")] = ()
    consoles: Placed[tuple["Console", ...], At("devices/console")] = ()
    channels: Placed[tuple["Channel", ...], At("devices/channel")] = ()
    smart_cards: Placed[tuple["SmartCard", ...], At("devices/smartcard")] = ()
    redirected_devices: Placed[tuple["RedirectedDevice", ...], At("devices/redirdev")] = ()
    redirection_rules: Placed[tuple["RedirectionRule", ...], At("devices/redirfilter/usbdev")] = ()
    tpms: Placed[tuple["Tpm", ...], At("devices/tpm")] = ()
    inputs: Placed[tuple["Input", ...], At("devices/input")] = ()
    graphics: Placed[tuple["Graphics", ...], At("devices/graphics")] = ()
    videos: Placed[tuple["Video", ...], At("devices/video")] = ()
    sounds: Placed[tuple["Sound", ...], At("devices/sound")] = ()
    audios: Placed[tuple["Audio", ...], At("devices/audio")] = ()
    host_devices: Placed[tuple["HostDevice", ...], At("devices/hostdev")] = ()
    hubs: Placed[tuple["Hub", ...], At("devices/hub")] = ()
    balloon: Placed["Balloon | None", At("devices/memballoon")] = None
    memory_devices: Placed[tuple["MemoryDevice", ...], At("devices/memory")] = ()
    rngs: Placed[tuple["Rng", ...], At("devices/rng")] = ()
    watchdogs: Placed[tuple["Watchdog", ...], At("devices/watchdog")] = ()
    panics: Placed[tuple["Panic", ...], At("devices/panic")] = ()
    vsock: Placed["Vsock | None", At("devices/vsock")] = None
    filesystems: Placed[tuple["Filesystem", ...], At("devices/filesystem")] = ()
    shared_memories: Placed[tuple["SharedMemory", ...], At("devices/shmem")] = ()
    iommu: Placed["Iommu | None", At("devices/iommu")] = None
    cryptos: Placed[tuple["Crypto", ...], At("devices/crypto")] = ()
    pstore: Placed["Pstore | None", At("devices/pstore")] = None
