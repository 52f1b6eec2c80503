# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two hosts on one: each a network namespace with a bridge, both helpers, and the user's home.

A cable joins the bridges, and the user's ssh reaches the second host from the first.
"""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from guest.netns import Namespace, bridged
from steering_demo.helpers import activated_helpers
from steering_demo.play import explaining
from steering_demo.stations import HOST, MTU
from steering_demo.vm import client
from steering_demo.workplace import BRIDGE, HELPER_UIDS, Workplace, workplace
from tests.steering import slow_wire
from tests.steering.asking import grants_of, ports_of
from tests.support.census import wait_until
from tests.support.openssh import library_path, unpack_sshd

USER: Final = "alice"
"""The name of the user at both hosts; the uid has none on the host that these are made on."""

PORT: Final = 2222

THERE: Final = ("10.83.0.9/24", "fd83::9/64")
"""The addresses of the second host's bridge; the first has those of HOST."""

ADDRESS: Final = THERE[0].partition("/")[0]

URL: Final = f"ssh://{USER}@{ADDRESS}:{PORT}"

PATIENCE_S: Final = 90.0

SSHD_CONFIG: Final = """\
Port {port}
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
# Its folder belongs to root, and is below one that everybody can write.
StrictModes no
SetEnv PATH={folder}/bin:/usr/bin:/bin
"""

SSH_CONFIG: Final = """\
Host *
    IdentityFile {folder}/key
    UserKnownHostsFile {folder}/known_hosts
    BatchMode yes
    ProxyCommand {python} -B {slow_wire} %h %p {home}
"""


@dataclass(frozen=True, slots=True)
class Host:
    """One of them. Borrows all of it."""

    place: Workplace
    space: Namespace

    @property
    def ssh(self) -> Path:
        """The folder for what ssh or sshd needs."""
        return self.place.folder / "ssh"

    def bpferry(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Do ``bpferry`` with *words* as the user."""
        return subprocess.run(
            client(self.place, self.space, words),
            check=False, capture_output=True, text=True, timeout=PATIENCE_S,
        )  # fmt: skip

    def asked(self, *words: str) -> dict[str, Any]:
        """Return what it answers."""
        done = self.bpferry(*words, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        answered: dict[str, Any] = json.loads(done.stdout)
        return answered

    def vms(self) -> dict[str, str]:
        """Return the state of each VM that ``bpferry list`` shows, by name."""
        return {vm["name"]: vm["state"] for vm in self.asked("list")["vms"]}

    def held(self) -> tuple[list[str], dict[str, int], list[str]]:
        """Return the ports of the bridge, the grants of each helper, and the user's processes."""
        grants = {role: grants_of(self.place, role) for role in HELPER_UIDS}
        return ports_of(self.space), grants, sorted(_command(pid) for pid in self.processes())

    def processes(self) -> list[int]:
        """Return the user's processes."""
        network = Path(f"/proc/{self.space.holder}/ns/net").readlink()
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                uid = (path / "status").read_text().partition("\nUid:\t")[2].split()[0]
                if (path / "ns/net").readlink() == network and int(uid) == self.place.user_uid:
                    found.append(int(path.name))
        return found

    def qemu(self) -> int:
        """Return the process of the one QEMU."""
        (pid,) = [pid for pid in self.processes() if _command(pid).startswith("qemu")]
        return pid

    def own(self, path: Path) -> None:
        """Make *path* the user's, and nobody else's to read."""
        os.chown(path, self.place.user_uid, self.place.user_uid)
        path.chmod(0o700 if path.is_dir() else 0o600)


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Make both hosts, and end all of the user's processes there afterwards."""
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(_host(addresses)) for addresses in ((HOST.ipv4, HOST.ipv6), THERE)
        )
        _join(first.space, second.space)
        for host in (first, second):
            stack.enter_context(activated_helpers(host.place, host.space))
        stack.enter_context(_sshd(first, second))
        stack.callback(_end, first, second)
        yield first, second


@contextmanager
def _host(addresses: tuple[str, str]) -> Iterator[Host]:
    with workplace() as place, bridged(BRIDGE, addresses, MTU) as space, explaining(place):
        host = Host(place, space)
        host.ssh.mkdir()
        _name_user(host)
        yield host


def _name_user(host: Host) -> None:
    """Let the user have a name and a home in there: neither ssh nor sshd works without."""
    uid, passwd = host.place.user_uid, host.ssh / "passwd"
    line = f"{USER}:x:{uid}:{uid}::{host.place.home}:/bin/sh\n"
    passwd.write_text(Path("/etc/passwd").read_text() + line)
    host.space.run(["mount", "--bind", str(passwd), "/etc/passwd"])


def _join(first: Namespace, second: Namespace) -> None:
    """Put a cable between both bridges."""
    cable = ["type", "veth", "peer", "name", "cable", "mtu", str(MTU), "netns", str(second.holder)]
    first.run(["ip", "link", "add", "cable", "mtu", str(MTU), *cable])
    for space in (first, second):
        space.run(["ip", "link", "set", "cable", "master", BRIDGE, "up"])


@contextmanager
def _sshd(source: Host, there: Host) -> Iterator[None]:
    """Let the user's sshd listen *there*, where the user's ssh at *source* logs in with a key."""
    folder = there.ssh
    for host, name in ((there, "host_key"), (source, "key")):
        host.space.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(host.ssh / name)])
        host.own(host.ssh / name)
    (folder / "authorized_keys").write_text((source.ssh / "key.pub").read_text())
    public = (folder / "host_key.pub").read_text()
    (source.ssh / "known_hosts").write_text(f"[{ADDRESS}]:{PORT} {public}")
    _write_bpferry(there)
    _write_ssh_config(source)
    config = folder / "sshd_config"
    config.write_text(SSHD_CONFIG.format(port=PORT, address=ADDRESS, folder=folder))
    unpacked = unpack_sshd(folder / "unpacked")
    # Newer ones have parts there.
    part = "usr/lib/openssh"
    there.space.run(["mount", "--bind", str(unpacked / part), f"/{part}"])
    variables = [f"LD_LIBRARY_PATH={library_path(unpacked)}"]
    program = [str(unpacked / "usr/sbin/sshd"), "-D", "-e", "-f", str(config)]
    argv = there.space.command(["env", *variables, *program], user=there.place.user_uid)
    with there.place.log("sshd").open("wb") as log, subprocess.Popen(argv, stderr=log) as sshd:
        try:
            said = there.place.log("sshd")
            assert wait_until(lambda: "listening on" in said.read_text(), 60), said.read_text()
            yield
        finally:
            sshd.terminate()


def _write_bpferry(host: Host) -> None:
    """Put ``bpferry`` where the PATH of ssh's commands has it."""
    words = client(host.place, host.space, [])
    program = host.ssh / "bin/bpferry"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.join(words[words.index("env") :])} "$@"\n')
    program.chmod(0o755)


def _write_ssh_config(host: Host) -> None:
    folder = host.place.home / ".ssh"
    folder.mkdir()
    config = folder / "config"
    wire = {
        "python": sys.executable,
        "slow_wire": host.ssh / "slow_wire.py",
        "home": host.place.home,
    }
    (host.ssh / "slow_wire.py").write_text(Path(slow_wire.__file__).read_text())
    config.write_text(SSH_CONFIG.format(folder=host.ssh, **wire))
    host.own(folder)
    host.own(config)


def _end(*hosts: Host) -> None:
    """End what of the user's is left; it has become our child when its own parent ended."""
    for host in hosts:
        for pid in _left(host):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not any(map(_left, hosts)), PATIENCE_S)
    for pid in map(int, Path("/proc/thread-self/children").read_text().split()):
        if Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z"):
            os.waitpid(pid, 0)


def _left(host: Host) -> list[int]:
    return [pid for pid in host.processes() if not _command(pid).startswith("sshd")]
