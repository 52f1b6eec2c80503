# SPDX-License-Identifier: LGPL-2.1-or-later
"""An ordinary user of a booted system, with a systemd of their own and two VMs."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from tests.support import census
from tests.systemd.container import CLONE, Container

PATIENCE_S: Final = 120.0
"""A guest starts in a second or two, unless the machine has much else to do."""

LOGINCTL: Final = ("systemd-run", "--quiet", "--wait", "--pipe", "loginctl")
"""logind looks at the control group of who asks; only what systemd starts has one in there."""

POLITE: Final = "web"
"""Its guest powers down when it is asked to."""

DEAF: Final = "deaf"
"""Its guest does not react."""

CONNECT: Final = """
import socket, sys
kind = socket.SOCK_SEQPACKET if "control" in sys.argv[1] else socket.SOCK_STREAM
socket.socket(socket.AF_UNIX, kind).connect(sys.argv[1])
"""

MAKE: Final = f"""
import sys
from pathlib import Path
sys.path.append("{CLONE}")
from tests.client import guest

home = Path.home()
guest.write_obedient_disk(home / "{POLITE}.img")
guest.write_disk(home / "{DEAF}.img")
folder = home / ".config/bpferry/vms"
folder.mkdir(parents=True)
for name, more in (("{POLITE}", ""), ("{DEAF}", "stop-timeout = 5\\n")):
    (folder / f"{{name}}.toml").write_text(
        f'name = "{{name}}"\\nmemory = "32 MiB"\\naccelerator = "tcg"\\n{{more}}'
        '[[serials]]\\ntype = "stdio"\\nlog-append = true\\n'
        f'log = "{{home}}/{{name}}.console"\\n'
        f'[[disks]]\\nfile = "{{home}}/{{name}}.img"\\nformat = "raw"\\n'
    )
"""


class User:
    """One user; commands run as they do in a shell of a login session."""

    def __init__(self, system: Container, name: str) -> None:
        self.system = system
        self.name = name
        self.uid = system.check("id", "-u", name)

    def run(self, *command: str, timeout: float = 90) -> subprocess.CompletedProcess[str]:
        """Run *command* and return what came of it."""
        variables = (
            f"HOME=/home/{self.name}",
            f"USER={self.name}",
            f"LOGNAME={self.name}",
            f"XDG_RUNTIME_DIR=/run/user/{self.uid}",
        )
        where = ("env", "--chdir", f"/home/{self.name}", *variables)
        return self.system.run(*where, *command, user=self.name, timeout=timeout)

    def check(self, *command: str, timeout: float = 90) -> str:
        """Run *command* and return its output; anything but success fails the test."""
        done = self.run(*command, timeout=timeout)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def show(self, vm_name: str, prop: str) -> str:
        """Return a property of the unit of a VM."""
        unit = f"bpferry@{vm_name}.service"
        return self.check("systemctl", "--user", "show", "--property", prop, "--value", unit)

    def said(self, unit: str = f"bpferry@{POLITE}.service") -> str:
        """Return all that a unit of theirs said since boot, also one that is gone."""
        which = (f"_UID={self.uid}", f"_SYSTEMD_USER_UNIT={unit}")
        self.system.check("journalctl", "--sync")
        return self.system.check("journalctl", "--output=cat", "--no-pager", *which)

    def wrote(self, vm_name: str = POLITE) -> str:
        """Return all that the guest of a VM of theirs has written on its console."""
        return self.run("cat", f"{vm_name}.console").stdout

    def runs(self, vm_name: str = POLITE) -> bool:
        """Say whether a VM of theirs runs, according to bpferry."""
        return vm_name in self.check("bpferry", "list").split()

    def has_guest(self) -> bool:
        """Say whether a QEMU of theirs runs, according to the kernel."""
        found = "grep -ls qemu-system /proc/[0-9]*/comm | xargs -r stat -c %U"
        return self.name in self.system.run("sh", "-c", found).stdout.split()

    def reaches(self, owner: "User", name: str) -> bool:
        """Say whether they can connect to a socket of the VM that *owner* runs."""
        path = f"/run/user/{owner.uid}/bpferry/{POLITE}/{name}"
        done = self.run("python3", "-c", CONNECT, path)
        assert done.returncode == 0 or "PermissionError" in done.stderr, done.stderr
        return done.returncode == 0

    def wait_for_state(self, vm_name: str, state: str) -> None:
        """Return when the unit of a VM is in this state."""
        assert wait_until(lambda: self.show(vm_name, "ActiveState") == state)


def wait_until(holds: Callable[[], bool], seconds: float = PATIENCE_S) -> bool:
    """Return True as soon as *holds* does, or False if it takes too long."""
    return census.wait_until(holds, seconds, pause_s=0.2)


@contextmanager
def user_with_vms(system: Container, name: str, *, lingers: bool) -> Iterator[User]:
    """Make a user of the group bpferry; they and all that is theirs go with the block."""
    system.check("useradd", "--create-home", "--groups", "bpferry", "--shell", "/bin/bash", name)
    user = User(system, name)
    try:
        if lingers:
            system.check(*LOGINCTL, "enable-linger", name)
            assert wait_until(lambda: user.run("systemctl", "--user", "status").returncode == 0)
        user.check("python3", "-c", MAKE)
        yield user
    finally:
        system.run(*LOGINCTL, "disable-linger", name)
        system.run(*LOGINCTL, "terminate-user", name)
        system.run("systemctl", "stop", f"user@{user.uid}.service")
        system.check("userdel", "--remove", name)
