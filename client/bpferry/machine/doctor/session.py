# SPDX-License-Identifier: LGPL-2.1-or-later
"""The user's session: its runtime folder, its service manager, lingering, limits."""

import os
import resource
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from bpferry.machine.doctor.finding import Feature, Finding
from bpferry.machine.host_files import HostFiles
from bpferry.machine.locked_memory import KIB, Limits, own_limits
from bpferry.machine.open_files import OpenFiles
from bpferry.network.groups import user_name
from bpferry_wire import limits

BOOTED: Final = "/run/systemd/system"
"""There if systemd is this host's init (sd_booted(3))."""

LINGER: Final = "/var/lib/systemd/linger"
"""loginctl keeps an empty file here for each user who lingers."""

MANAGER: Final = "systemd/private"
"""The socket of a user's own systemd, in the runtime folder."""

LARGEST: Final = OpenFiles(
    taps=limits.MAX_QUEUES, vhost=limits.MAX_QUEUES, sets=4, others=0, processors=limits.MAX_QUEUES
)
"""A card with as many queues as a tap can have, vhost and eBPF, and a processor for each."""


@dataclass(frozen=True, slots=True)
class Session:
    """What a process has from its session."""

    uid: int = field(default_factory=os.geteuid)
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    files: Limits = field(default_factory=lambda: resource.getrlimit(resource.RLIMIT_NOFILE))
    memory: Limits = field(default_factory=own_limits)


def check_session(files: HostFiles, session: Session) -> Iterator[Finding]:
    """Yield what there is to say about *session*."""
    yield from _user(session)
    yield _folder(files, session)
    yield from _manager(files, session)
    yield _open_files(session.files)
    yield _locked_memory(session.memory)


def _user(session: Session) -> Iterator[Finding]:
    """Yield that all of it is about root, where another user may have meant himself."""
    asker = session.environment.get("SUDO_USER", "")
    if session.uid == 0 and asker not in ("", "root"):
        message = f"all that is said here is about root, and not about '{asker}', who ran sudo"
        fix = "run it without sudo for what you may do yourself"
        yield Finding("session.user", "warning", message, (Feature.RUN,), fix=fix)


def _folder(files: HostFiles, session: Session) -> Finding:
    name, of = "session.runtime-folder", (Feature.RUN,)
    folder = session.environment.get("XDG_RUNTIME_DIR", "")
    if not folder.startswith("/"):
        return Finding(
            name,
            "warning",
            f"XDG_RUNTIME_DIR is not set: sockets of VMs are put below '/tmp/bpferry-{session.uid}'"
            ", and your own systemd is not found",
            of,
            fix="log in with a session (ssh, a console, 'machinectl shell'), not with su or sudo",
        )
    try:
        found = files.path(folder).stat()
    except OSError as error:
        message = f"XDG_RUNTIME_DIR is '{folder}', which is not usable: {error.strerror}"
        fix = "log in again, or unset it: unset XDG_RUNTIME_DIR"
        return Finding(name, "fault", message, of, fix=fix)
    if found.st_uid != session.uid:
        owner = user_name(found.st_uid)
        return Finding(
            name,
            "fault",
            f"XDG_RUNTIME_DIR is '{folder}', which belongs to '{owner}': no VM can put its "
            "sockets there",
            of,
            fix="su and sudo keep the variable of another user: log in as yourself, or unset it",
            command="unset XDG_RUNTIME_DIR",
        )
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        message = f"others can look into XDG_RUNTIME_DIR, '{folder}'"
        return Finding(name, "warning", message, of, command=f"chmod 0700 {folder}")
    return Finding(name, "ok", f"XDG_RUNTIME_DIR is '{folder}', and yours alone", of)


def _manager(files: HostFiles, session: Session) -> Iterator[Finding]:
    """Yield whether VMs can run as units of the user's own systemd, and go on after a logout."""
    of = (Feature.SESSION,)
    if not files.exists(BOOTED):
        message = "systemd is not this host's init: VMs run in the foreground only"
        yield Finding("session.systemd", "warning", message, of)
        return
    folder = session.environment.get("XDG_RUNTIME_DIR", "")
    if folder.startswith("/") and files.exists(f"{folder}/{MANAGER}"):
        yield Finding("session.systemd", "ok", "your own systemd runs", of)
    else:
        message = "your own systemd does not run, or is not found: no VM can be one of its units"
        command = f"sudo systemctl start user@{session.uid}.service"
        yield Finding("session.systemd", "warning", message, of, command=command)
    user = user_name(session.uid)
    if files.exists(f"{LINGER}/{user}"):
        message = "you linger: your VMs keep running when you log out, and can start at boot"
        yield Finding("session.linger", "ok", message, of)
    else:
        yield Finding(
            "session.linger",
            "warning",
            "you do not linger: VMs that your own systemd runs end when you log out, and do not "
            "start at boot",
            of,
            command=f"loginctl enable-linger {user}",
        )


def _open_files(found: Limits) -> Finding:
    name, of = "session.open-files", (Feature.RUN, Feature.TAPS)
    _, hard = found
    if hard == resource.RLIM_INFINITY or hard >= LARGEST.most:
        shown = "any number of" if hard == resource.RLIM_INFINITY else f"{hard:,}"
        return Finding(name, "ok", f"a VM may have {shown} files open", of)
    return Finding(
        name,
        "warning",
        f"a VM may have {hard:,} files open; a card with {limits.MAX_QUEUES} queues, vhost and "
        f"eBPF takes up to {LARGEST.most:,}",
        of,
        fix="ask the administrator to raise the hard limit: 'nofile' in "
        "/etc/security/limits.conf, or LimitNOFILE= in a unit",
    )


def _locked_memory(found: Limits) -> Finding:
    name, of = "session.locked-memory", (Feature.DEVICES,)
    _, hard = found
    shown = "any amount of" if hard == resource.RLIM_INFINITY else f"{hard // KIB:,} KiB of"
    only = "only VMs with PCI devices of the host or locked memory need all of theirs"
    return Finding(name, "ok", f"a VM may lock {shown} memory; {only}", of)
