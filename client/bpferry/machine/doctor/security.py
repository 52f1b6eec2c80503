# SPDX-License-Identifier: LGPL-2.1-or-later
"""AppArmor, SELinux and user namespaces, as far as this user can see.

Both modules write what they deny into the kernel's log, which is often closed to users. What is
seen without it is whether this process is confined: QEMU is started by it and has no other rights.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from bpferry.machine.doctor.finding import Feature, Finding
from bpferry.machine.host_files import HostFiles

MODULES: Final = "/sys/kernel/security/lsm"
APPARMOR: Final = "/sys/module/apparmor/parameters/enabled"
APPARMOR_LABEL: Final = "/proc/self/attr/apparmor/current"
LABEL: Final = "/proc/self/attr/current"
SELINUX: Final = "/sys/fs/selinux/enforce"
NAMESPACES: Final = "/proc/sys/user/max_user_namespaces"
NAMESPACES_OF_APPARMOR: Final = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
LOG: Final = "/dev/kmsg"

RECORD_BYTES: Final = 8192
"""More than a record of the kernel's log has (CONSOLE_EXT_LOG_MAX in kernel/printk)."""

DENIED: Final = ('apparmor="DENIED"', "avc:  denied")
OURS: Final = ("qemu", "bpferry", "swtpm", "virtiofsd", "passt")

OF: Final = (Feature.RUN,)

Log = Callable[[], Sequence[str] | None]


def read_log(path: str = LOG) -> Sequence[str] | None:
    """Return the records of the kernel's log; None if it is closed to this user."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    records: list[str] = []
    try:
        while record := _next_record(fd):
            records.append(record)
    except BlockingIOError:
        pass
    except OSError:
        return None
    finally:
        os.close(fd)
    return records


def _next_record(fd: int) -> str:
    while True:
        try:
            return os.read(fd, RECORD_BYTES).decode(errors="replace")
        except BrokenPipeError:
            # It was overwritten before we came to it; the next read is of the oldest that is left.
            continue


def check_security(files: HostFiles, log: Log = read_log) -> Iterator[Finding]:
    """Yield what there is to say about the security modules."""
    active = []
    if files.text(APPARMOR) == "Y":
        active.append("AppArmor")
        yield _apparmor(files)
    if files.text(SELINUX):
        active.append("SELinux")
        yield _selinux(files)
    if active:
        yield _denials(log())
    else:
        names = files.text(MODULES)
        which = f" ({names})" if names else ""
        message = f"neither AppArmor nor SELinux is active{which}"
        yield Finding("security.modules", "ok", message, OF)
    yield _namespaces(files)


def _apparmor(files: HostFiles) -> Finding:
    name = "security.apparmor"
    label = files.text(APPARMOR_LABEL) or files.text(LABEL)
    profile, _, mode = label.rstrip("\0").partition(" (")
    if profile in ("", "unconfined"):
        return Finding(name, "ok", "AppArmor is on, and does not confine what you start", OF)
    if mode.startswith("complain"):
        return Finding(name, "ok", f"AppArmor only watches this process ('{profile}')", OF)
    return _confined(name, "AppArmor", f"profile '{profile}'")


def _selinux(files: HostFiles) -> Finding:
    name = "security.selinux"
    if files.text(SELINUX) == "0":
        return Finding(name, "ok", "SELinux is on and permissive: it denies nothing", OF)
    context = files.text(LABEL).rstrip("\0")
    if ":unconfined_t:" in context or not context:
        return Finding(name, "ok", "SELinux enforces, and does not confine what you start", OF)
    return _confined(name, "SELinux", f"context '{context}'")


def _confined(name: str, module: str, what: str) -> Finding:
    return Finding(
        name,
        "warning",
        f"{module} confines this process ({what}), and QEMU with it: it may deny QEMU a device, "
        "a file or a helper's socket",
        OF,
        fix="start bpferry from a session that is not confined, or let the administrator allow "
        "what the log shows as denied",
        command="sudo dmesg | grep -E 'apparmor=\"DENIED\"|avc:  denied'",
    )


def _denials(records: Sequence[str] | None) -> Finding:
    name = "security.denials"
    if records is None:
        message = "only root can see in the kernel's log what was denied: sudo bpferry doctor"
        return Finding(name, "ok", message, OF)
    found = [
        record.partition(";")[2].strip()
        for record in records
        if any(word in record for word in DENIED) and any(word in record for word in OURS)
    ]
    if not found:
        return Finding(name, "ok", "the kernel's log has nothing that was denied to a VM", OF)
    times = "once" if len(found) == 1 else f"{len(found)} times"
    return Finding(
        name,
        "warning",
        f"something was denied to a VM or a helper {times} since the host started, the last time: "
        f"{found[-1].splitlines()[0]}",
        OF,
        fix="if it should be allowed, the administrator can allow it in the profile or policy "
        "that is named there",
    )


def _namespaces(files: HostFiles) -> Finding:
    name, of = "security.user-namespaces", (Feature.COMPANIONS,)
    if files.text(NAMESPACES) == "0":
        message = "users may not make user namespaces, in which passt and virtiofsd lock themselves"
        return Finding(
            name, "warning", message, of, command="sudo sysctl user.max_user_namespaces=10000"
        )
    if files.text(NAMESPACES_OF_APPARMOR) == "1":
        return Finding(
            name,
            "warning",
            "AppArmor lets only programs with a profile make user namespaces: passt and virtiofsd "
            "work if your distribution has profiles for them",
            of,
            fix="if one of them fails, install its profile, or turn this off",
            command="sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        )
    return Finding(name, "ok", "users may make user namespaces", of)
