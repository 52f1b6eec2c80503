# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel: its version, its BTF, whether it compiles eBPF programs, and who may load them."""

import re
from collections.abc import Iterator
from typing import Final

from bpferry.machine.doctor.finding import Feature, Finding
from bpferry.machine.host_files import HostFiles

Version = tuple[int, int]

RELEASE: Final = "/proc/sys/kernel/osrelease"
BTF: Final = "/sys/kernel/btf/vmlinux"
COMPILER: Final = "/proc/sys/net/core/bpf_jit_enable"
UNPRIVILEGED: Final = "/proc/sys/kernel/unprivileged_bpf_disabled"

OLDEST: Final = (5, 8)
"""CAP_BPF and CAP_PERFMON came with it (include/uapi/linux/capability.h)."""

LOCKED_PORTS: Final = (5, 16)
"""The bridge's locked ports (IFLA_BRPORT_LOCKED), on which address-lock rests."""


def check_kernel(files: HostFiles) -> Iterator[Finding]:
    """Yield what there is to say about the kernel."""
    yield check_version(files.text(RELEASE))
    yield _btf(files)
    yield _compiler(files)
    yield _unprivileged(files)


def version_of(release: str) -> Version | None:
    """Return the version in *release*, such as ``6.12.9-amd64``; None if it has none."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else None


def check_version(release: str) -> Finding:
    """Return whether the kernel *release* is new enough."""
    name, both = "kernel.version", (Feature.TAPS, Feature.EBPF)
    version = version_of(release)
    if version is None:
        return Finding(name, "warning", f"the kernel's version is not known: '{release}'", both)
    if version < OLDEST:
        return Finding(
            name,
            "fault",
            f"Linux {release} is too old: the helpers need 5.8, which brought CAP_BPF",
            both,
            fix="install a newer kernel and boot it",
        )
    if version < LOCKED_PORTS:
        return Finding(
            name,
            "warning",
            f"Linux {release}: taps on bridges with address-lock in the policy are refused, since "
            "that needs 5.16",
            (Feature.TAPS,),
            fix="install a newer kernel and boot it, if the policy uses address-lock",
        )
    return Finding(name, "ok", f"Linux {release}", both)


def _btf(files: HostFiles) -> Finding:
    name, of = "kernel.btf", (Feature.EBPF,)
    if files.exists(BTF):
        return Finding(name, "ok", "the kernel has BTF, so the helper can count eBPF sets", of)
    # The policy may allow it all the same: what the helper says of the program is the verdict.
    return Finding(
        name,
        "warning",
        f"the kernel has no BTF ('{BTF}'), by which the helper counts eBPF sets: it grants none, "
        "or, if the policy has 'without-census', counts each until the host restarts",
        of,
        fix="boot a kernel with CONFIG_DEBUG_INFO_BTF=y, as distributions build them, or let the "
        "administrator write 'without-census = true' into [quota] of /etc/bpferry/policy.toml",
    )


def _compiler(files: HostFiles) -> Finding:
    name, of = "kernel.jit", (Feature.EBPF,)
    found = files.text(COMPILER)
    if not found:
        # As in a container with a network of its own.
        message = "whether the kernel compiles eBPF programs cannot be seen from here"
        return Finding(name, "ok", message, of)
    if found != "0":
        return Finding(name, "ok", "the kernel compiles eBPF programs", of)
    return Finding(
        name,
        "warning",
        "the kernel does not compile eBPF programs (net.core.bpf_jit_enable is 0): cards are "
        "steered as they should be, but each packet takes more processor time",
        of,
        command="sudo sysctl net.core.bpf_jit_enable=1",
        fix="if a file in /etc/sysctl.d says so, change it there too",
    )


def _unprivileged(files: HostFiles) -> Finding:
    name, of = "kernel.unprivileged-bpf", (Feature.SAFETY,)
    found = files.text(UNPRIVILEGED)
    if not found:
        return Finding(name, "ok", "this kernel has no switch for bpf(2) of ordinary users", of)
    if found != "0":
        message = f"ordinary users may not load eBPF programs themselves (bpf(2): {found})"
        return Finding(name, "ok", message, of)
    return Finding(
        name,
        "warning",
        "every user of this host may load eBPF programs, which bpferry does not need",
        of,
        command="sudo sysctl kernel.unprivileged_bpf_disabled=2",
        fix="a file in /etc/sysctl.d makes it last",
    )
