# SPDX-License-Identifier: LGPL-2.1-or-later
"""An ordinary user of the host, with a systemd of their own that runs without a session."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from tests.support import census
from tests.vm.host import Done, Host
from tests.vm.image import OWN_QEMU

PATIENCE_S: Final = 900.0
"""A host that is emulated beside other work needs minutes for what takes a second elsewhere."""


class User:
    """One user; commands run as they do in a shell of a login session."""

    def __init__(self, host: Host, name: str) -> None:
        self.host = host
        self.name = name
        self.uid = host.check("id", "-u", name)

    def run(self, *command: str) -> Done:
        """Run *command* as in a shell of theirs, and return what came of it."""
        home = f"/home/{self.name}"
        place = (f"HOME={home}", f"XDG_RUNTIME_DIR=/run/user/{self.uid}")
        words = ("env", f"--chdir={home}", *place, *command)
        return self.host.run(*words, user=self.name, timeout=PATIENCE_S)

    def check(self, *command: str) -> str:
        """Run *command* and return its output; anything but success fails the test."""
        done = self.run(*command)
        assert 0 == done.status, f"{command}: {done.output}{done.errors}"
        return done.output.strip()

    def describe(self, vm_name: str, text: str) -> None:
        """Write the description of a VM of theirs."""
        folder = f"/home/{self.name}/.config/bpferry/vms"
        self.check("mkdir", "-p", folder)
        self.host.write(f"{folder}/{vm_name}.toml", text)

    def show(self, unit: str, prop: str) -> str:
        """Return a property of a unit of theirs."""
        return self.check("systemctl", "--user", "show", "--property", prop, "--value", unit)

    def group_of_qemu(self, vm_name: str) -> str:
        """Return the control group of the QEMU of a VM of theirs."""
        status = self.check("bpferry", "status", vm_name)
        pid = status.partition("(QEMU: ")[2].partition(")")[0]
        return self.check("cat", f"/proc/{pid}/cgroup").removeprefix("0::")

    def said(self, unit: str) -> str:
        """Return all that a unit of theirs has said, also before the last start of the host."""
        which = (f"_UID={self.uid}", f"_SYSTEMD_USER_UNIT={unit}")
        self.host.check("journalctl", "--sync", timeout=PATIENCE_S)
        command = ("journalctl", "--output=cat", "--no-pager", *which)
        return self.host.check(*command, timeout=PATIENCE_S)


def wait_until(holds: Callable[[], bool]) -> bool:
    """Return True as soon as *holds* does, or False if it takes too long."""
    return census.wait_until(holds, PATIENCE_S, pause_s=1)


def learn(host: Host, user: str, *qemu: str) -> None:
    """Let *user* ask a QEMU what it can do until it answers in time; the answers are kept.

    A slow host may need several times as long as a QEMU has.
    """
    ask = ("bpferry", "capabilities", *qemu)
    assert wait_until(lambda: host.run(*ask, user=user, timeout=PATIENCE_S).status == 0)


def kvm_works(host: Host, user: str) -> bool:
    """Let *user* try KVM anew. A trial has some seconds, and what it finds is kept."""
    ask = ("bpferry", "capabilities", "--refresh", "--json", OWN_QEMU)
    done = host.run(*ask, user=user, timeout=PATIENCE_S)
    return done.status == 0 and json.loads(done.output)["accelerators"]["kvm"] == "works"


@contextmanager
def lingering(host: Host, name: str) -> Iterator[User]:
    """Let the systemd of the user *name* run, as after the start of a host."""
    user = User(host, name)
    # As loginctl does it, which asks polkit for those who are not in a session.
    host.check("mkdir", "-p", "/var/lib/systemd/linger")
    host.check("touch", f"/var/lib/systemd/linger/{name}")
    host.check("systemctl", "start", f"user@{user.uid}.service", timeout=PATIENCE_S)
    learn(host, name)
    yield user
    host.check("rm", f"/var/lib/systemd/linger/{name}")
    host.check("systemctl", "stop", f"user@{user.uid}.service", timeout=PATIENCE_S)
