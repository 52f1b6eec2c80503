# SPDX-License-Identifier: LGPL-2.1-or-later
"""What can be done about what QEMU complains of when it does not start.

Most of it is found before QEMU is started (``hindrances``). What is left is what only QEMU tries,
and what has changed in the moment between.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from bpferry.domain.forms import either

REMEDIES: Final[Mapping[str, str]] = {
    r"Failed to get .*lock|another process using the image": (
        "another process uses that image: end it, such as a VM that has the same disk, or give "
        "this VM an image of its own"
    ),
    r"KVM|kvm": (
        "let the VM run without KVM: "
        + either('accelerator = "tcg"', "<domain type='qemu'>")
        + "; 'bpferry capabilities' says what is wrong with KVM here"
    ),
    r"unable to find CPU model|[Uu]nsupported CPU|Invalid CPU": (
        "choose a model that this QEMU has: '{qemu} -cpu help' lists them"
    ),
    r"doesn't support requested feature|CPU feature": (
        "this processor does not have it: leave the feature out, or choose another model"
    ),
    r"unsupported machine type|[Ii]nvalid machine type": (
        "choose a machine type that this QEMU has: '{qemu} -machine help' lists them"
    ),
    r"not a valid (device model|object|netdev|chardev|audiodev)": (
        "this QEMU does not have it: '{qemu} -device help' lists its devices, and some are in "
        "packages of their own, such as qemu-system-gui or qemu-system-modules-spice"
    ),
    r"Property '[^']*' not found|Parameter '[^']*' is unexpected|Invalid parameter": (
        "this QEMU does not know it: leave it out, or use a QEMU that does"
    ),
    r"invalid kernel header|not a (valid )?kernel|kernel too old": (
        "name the image of a Linux kernel for this machine, such as a copy of /boot/vmlinuz-..."
    ),
    r"set up guest memory|map backing store|[Cc]annot allocate memory|hugepage": (
        "give the VM less memory, or make more free: 'free -h' shows what the host has, "
        "'grep Huge /proc/meminfo' its huge pages"
    ),
    r"failed to find romfile|could not load (PC )?BIOS|[Cc]ould not find ROM": (
        "install the firmware for it; Debian has it in the packages seabios, ipxe-qemu, ovmf "
        "and qemu-system-data"
    ),
    r"Address already in use|port is already in use": (
        "choose another port, or end what listens there: 'ss -tulnp' shows it"
    ),
    r"Connection refused|Failed to connect to '/[^']*': No such file": (
        "nothing listens there: first start what the VM should connect to, or correct the address"
    ),
    r"ddress resolution failed|Name or service not known": "correct the name of the server",
    r"No route to host|Network is unreachable|Connection timed out": (
        "check that this host reaches that server: 'ip route', 'ping'"
    ),
    r"Display .* is not available|gtk initialization failed|SDL": (
        "use 'vnc' or 'spice' for the display, or install the package of QEMU that has it"
    ),
    r"Permission denied": "get access to it ('ls -l' and 'id' show who has it), or name another",
    r"Operation not permitted": "that needs a privilege that you do not have: remove its cause",
    r"No such file or directory": "correct the path, or create it",
    r"No space left on device": "free some space there: 'df -h' shows how much is left",
    r"Device or resource busy": (
        "another process uses it: end that one ('fuser -v PATH' shows it), or name another"
    ),
    r"Too many open files": (
        "ask for fewer queues, or ask the administrator to raise the limit that 'ulimit -Hn' shows"
    ),
}
"""What patterns of QEMU's words mean for the user; the first that fits counts."""


def find_remedy(lines: Iterable[str], qemu: str) -> str:
    """Return what to do about the last of QEMU's *lines* about which something can be done."""
    for line in reversed(tuple(lines)):
        for pattern, remedy in REMEDIES.items():
            if re.search(pattern, line):
                return remedy.format(qemu=qemu)
    return ""
