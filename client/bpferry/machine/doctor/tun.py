# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tun driver: whether it is there, and whether strangers can join taps without an owner."""

from collections.abc import Callable, Iterator
from typing import Final

from bpferry.machine.doctor.finding import Feature, Finding
from bpferry.machine.doctor.modules import OTHER_KERNEL, is_missing
from bpferry.machine.doctor.tun_trial import NODE, Joined, try_to_join
from bpferry.machine.host_files import HostFiles

CANNOT: Final = {Joined.UNKNOWN: "make namespaces", Joined.CLOSED: f"open '{NODE}'"}
"""Why it was not tried."""


def check_tun(
    files: HostFiles, try_joining: Callable[[], Joined] = try_to_join
) -> Iterator[Finding]:
    """Yield what there is to say about taps on this host."""
    yield _node(files)
    if files.exists(NODE):
        yield _strangers(try_joining())


def _node(files: HostFiles) -> Finding:
    name, of = "tun.device", (Feature.TAPS,)
    if files.exists(NODE):
        return Finding(name, "ok", f"the tun driver is there ('{NODE}')", of)
    if is_missing(files, "tun"):
        message = "this kernel has no tun driver, which makes taps"
        return Finding(name, "fault", message, of, fix=OTHER_KERNEL)
    return Finding(
        name,
        "fault",
        f"this host has no '{NODE}', through which taps are made",
        of,
        command="sudo modprobe tun",
        fix="in a container, the host has to pass the device in",
    )


def _strangers(joined: Joined) -> Finding:
    name, of = "tun.strangers", (Feature.SAFETY,)
    if joined is Joined.NO:
        return Finding(name, "ok", "no stranger can join a tap that has no owner", of)
    ours = "bpferry's own taps always have one"
    if joined is Joined.YES:
        return Finding(
            name,
            "warning",
            f"any user can join a multi-queue tap that has no owner (CVE-2026-99281); {ours}",
            of,
            fix="give taps that other programs make an owner ('ip tuntap add ... user NAME'), and "
            "update the kernel when your distribution has the fix",
        )
    return Finding(
        name,
        "warning",
        "whether a stranger could join a tap that has no owner (CVE-2026-99281) could not be "
        f"tried: you cannot {CANNOT[joined]}; {ours}",
        of,
        fix="root can try it",
        command="sudo bpferry doctor",
    )
