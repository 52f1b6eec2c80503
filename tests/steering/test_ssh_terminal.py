# SPDX-License-Identifier: LGPL-2.1-or-later
"""`ssh -tt HOST bpferry run FILE` whose connection ends: the guest is powered down, not cut off.

The sshd is root's, as on any host: only such a one may give the terminal to the user who logs in.
"""

import contextlib
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.client import guest
from tests.steering.two_hosts import ADDRESS, PATIENCE_S, SSHD_CONFIG, USER, Host, two_hosts
from tests.support.census import wait_until
from tests.support.openssh import library_path

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.kernel,
    pytest.mark.qemu,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("nothing_left"),
]

PORT: Final = 2223

ALIVE: Final = "ClientAliveInterval 2\nClientAliveCountMax 2\n"
"""Else it takes sshd hours to notice that a network is gone; administrators choose minutes."""

SEPARATE: Final = Path("/run/sshd")
"""Where sshd shuts in the part of itself that talks to strangers."""

PASSWD: Final = f"sshd:x:64250:65534::{SEPARATE}:/usr/sbin/nologin\n"

VM: Final = """\
name = "t"
memory = "32 MiB"
accelerator = "tcg"

[[serials]]
type = "stdio"
log = "{folder}/console"

[[disks]]
file = "{folder}/disk.img"
format = "raw"
"""

HELLO: Final = b"hello from the boot sector"


@contextmanager
def _sshd_of_root(there: Host) -> Iterator[None]:
    """Let an sshd of root's listen *there*; it knows the same keys as the user's own."""
    config, key, passwd = (there.ssh / name for name in ("root_config", "root_key", "passwd"))
    key.write_bytes((there.ssh / "host_key").read_bytes())
    key.chmod(0o600)
    text = SSHD_CONFIG.format(port=PORT, address=ADDRESS, folder=there.ssh)
    config.write_text(text.replace(f"{there.ssh}/host_key", str(key)) + ALIVE)
    with passwd.open("a") as file:
        file.write(PASSWD)
    unpacked = there.ssh / "unpacked"
    program = [str(unpacked / "usr/sbin/sshd"), "-D", "-e", "-f", str(config)]
    argv = there.space.command(["env", f"LD_LIBRARY_PATH={library_path(unpacked)}", *program])
    is_new = not SEPARATE.exists()
    SEPARATE.mkdir(mode=0o755, exist_ok=True)
    log = there.place.log("root-sshd")
    with log.open("wb") as errors, subprocess.Popen(argv, stderr=errors) as sshd:
        try:
            assert wait_until(lambda: "listening on" in log.read_text(), 60), log.read_text()
            yield
        finally:
            sshd.terminate()
            if is_new:
                SEPARATE.rmdir()


@contextmanager
def _terminal(here: Host, command: str) -> Iterator[int]:
    """Run *command* at the other host on a terminal there; yield the end of the one here."""
    known = here.ssh / "known_hosts"
    known.write_text(known.read_text().replace(f"[{ADDRESS}]:2222", f"[{ADDRESS}]:{PORT}"))
    config = str(here.place.home / ".ssh/config")
    words = ["ssh", "-F", config, "-p", str(PORT), "-tt", f"{USER}@{ADDRESS}", command]
    main, line = pty.openpty()
    argv = here.space.command(["env", f"HOME={here.place.home}", *words], here.place.user_uid)
    with subprocess.Popen(argv, stdin=line, stdout=line, stderr=line) as ssh:
        os.close(line)
        try:
            yield main
        finally:
            ssh.kill()
            os.close(main)


def _sees(terminal: int, words: bytes) -> bool:
    seen, deadline = b"", time.monotonic() + PATIENCE_S
    while words not in seen and time.monotonic() < deadline:
        if select.select([terminal], [], [], 1)[0]:
            seen += os.read(terminal, 65536)
    return words in seen


def _describe(host: Host) -> Path:
    """Write the description of a VM whose guest says so when it powers down."""
    folder = host.place.home / "vm"
    folder.mkdir()
    guest.write_obedient_disk(folder / "disk.img")
    (folder / "vm.toml").write_text(VM.format(folder=folder))
    for path in (folder, *folder.iterdir()):
        host.own(path)
    return folder


def _kill(here: Host) -> None:
    """Kill the user's ssh, and what carries its connection."""
    for pid in here.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _cut(here: Host) -> None:
    """Let no packet through any more: nobody says that the connection has ended."""
    here.space.run(["ip", "link", "set", "cable", "down"])


@pytest.mark.parametrize("end", [_kill, _cut])
def test_a_connection_that_ends_powers_the_guest_down(end: Callable[[Host], None]) -> None:
    """Whether ssh is killed or the network is gone; nothing of the VM stays there."""
    with two_hosts() as (here, there), _sshd_of_root(there):
        folder, before = _describe(there), there.held()
        with _terminal(here, f"bpferry run {folder}/vm.toml") as terminal:
            assert _sees(terminal, HELLO)
            assert {"t": "running"} == there.vms()
            end(here)
            # A helper does not like to be asked more often.
            assert wait_until(lambda: there.held() == before, PATIENCE_S, pause_s=1), there.held()
        assert "powering down" in (folder / "console").read_text()
        said = there.bpferry("log", "t").stdout
        assert "asked the guest to power down" in said
        assert "stopping QEMU" not in said
