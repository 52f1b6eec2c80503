# SPDX-License-Identifier: LGPL-2.1-or-later
"""What AppArmor denied the helpers on the host, read from its journal."""

from typing import Final

from tests.vm.host import Host

PROBES: Final = {
    ("read", "/etc/shadow"): 'name="/etc/shadow"',
    ("write", "/etc/bpferry-probe"): 'name="/etc/bpferry-probe"',
    ("run", "/bin/sh"): 'name="/usr/bin/dash"',
}
"""What tests try and must not be able to do, and what the kernel's log has of it."""


def denials(host: Host) -> list[str]:
    """Return what the kernel said about the helpers' profiles, also before a restart."""
    said = host.check("journalctl", "--output=cat", "--no-pager")
    return [
        line
        for line in said.splitlines()
        if 'apparmor="DENIED"' in line and 'profile="bpferry-' in line
    ]


def unexpected(host: Host) -> list[str]:
    """Return those that no test provoked."""
    return [line for line in denials(host) if not any(name in line for name in PROBES.values())]
