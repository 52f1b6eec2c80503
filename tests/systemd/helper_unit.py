# SPDX-License-Identifier: LGPL-2.1-or-later
"""One of the two helpers as a service of a booted system: what runs, and in which sandbox."""

import json
import re
from dataclasses import dataclass
from typing import Final

from bpferry_helper.privilege import CAPABILITIES, CAPABILITY_NUMBERS
from tests.abuse.amounts import amount
from tests.systemd.container import CLONE, Container
from tests.systemd.unit_file import UNITS, build_probe_unit, read_unit, values

PYTHON: Final = "/usr/bin/python3"
POLICY: Final = "/etc/bpferry/policy.toml"
PROBE: Final = "bpferry-probe.service"
PROBE_OUTPUT: Final = "/run/bpferry-probe.json"
PROBE_DEVICE: Final = "/dev/bpferry-probe"

REFUSED: Final = {
    "perf_event_open": {"EPERM"},
    "ptrace": {"EPERM"},
    "mount": {"EPERM"},
    "keyctl": {"EPERM"},
    "userfaultfd": {"EPERM"},
    "io_uring_setup": {"EPERM"},
    "unshare": {"EPERM"},
    "socket AF_INET": {"EAFNOSUPPORT"},
    # systemd 252 filters mmap(2); 256 and newer ask the kernel (PR_SET_MDWE).
    "memory to write and execute": {"EPERM", "EACCES"},
    "run /bin/sh": {"EACCES"},
    "run a copy in /tmp": {"EACCES"},
    "run a copy in /var/tmp": {"EACCES"},
    "run a copy in /dev/shm": {"EACCES"},
    # mmap(2) of a file that is not to be run.
    "map /bin/sh as code": {"EPERM"},
    "write in /etc": {"EROFS"},
    "write to the libraries": {"EACCES"},
    "write in /var/lib": {"EROFS"},
    "write in /run": {"EACCES"},
    "open another device": {"ENOENT"},
}
"""What the sandbox of both refuses, and with which error."""

RESET: Final = """
systemctl stop {service}
rm -rf {policy}
# To read all units takes systemd a tenth of a second: only if there is something to forget.
if [ -e {drop_in} ]; then
    rm {drop_in}
    systemctl daemon-reload
fi
# Its starts by tests are counted too. A unit that systemd has forgotten has none.
systemctl reset-failed {service} {socket} || :
systemctl start {socket}
"""

PARTS: Final = amount(5, 1)
"""Into how many parts a test cuts the time for which systemd counts starts, with those allowed."""


@dataclass(frozen=True, slots=True)
class StartLimit:
    """How many starts a unit may have, and in which time."""

    interval_s: int
    burst: int


@dataclass(frozen=True, slots=True)
class HelperUnit:
    """The helper *role* in *system*."""

    system: Container
    role: str

    @property
    def service(self) -> str:
        """The name of its service."""
        return f"bpferry-{self.role}.service"

    @property
    def socket(self) -> str:
        """The name of its socket."""
        return f"bpferry-{self.role}.socket"

    @property
    def drop_in(self) -> str:
        """A file with settings that a test adds to the service."""
        return f"/run/systemd/system/{self.service}.d/test.conf"

    def state(self) -> str:
        """Return whether the service is active."""
        return self.system.show(self.service, "ActiveState")

    def main_pid(self) -> str:
        """Return its process, as the system inside counts."""
        return self.system.show(self.service, "MainPID")

    def process_status(self, field: str) -> str:
        """Return a field of the process's status file, proc(5)."""
        status = self.system.check("cat", f"/proc/{self.main_pid()}/status")
        found = re.search(rf"^{field}:\s*(.+)$", status, re.MULTILINE)
        assert found is not None
        return found[1]

    def capability_mask(self) -> int:
        """Return what the code says that it holds, as proc(5) writes it."""
        return sum(1 << CAPABILITY_NUMBERS[name] for name in CAPABILITIES[self.role])

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.system.check("systemctl", "kill", "--signal=KILL", self.service)

    def fail_to_start(self) -> None:
        """Let each start fail, as if a package that it needs were gone."""
        start = f"ExecStart=\nExecStart={PYTHON} -c 'import no_such_package'\n"
        self._drop_in(f"[Service]\n{start}")

    def kill_at_forbidden_calls(self) -> None:
        """Let a system call that the filter refuses be the process's last."""
        self._drop_in("[Service]\nSystemCallErrorNumber=kill\n")

    def cut_start_limit(self) -> StartLimit:
        """Let systemd count starts in a part of the time, of which it allows no more; return both.

        What stays below this limit stays below the unit's own, and a test of it is shorter.
        """
        settings = read_unit(UNITS / self.service)
        interval_s = int(values(settings, "StartLimitIntervalSec")[0].removesuffix("s"))
        burst = int(values(settings, "StartLimitBurst")[0])
        assert 0 == interval_s % PARTS
        # Rounded down, the starts are fewer than the unit's in the same time.
        limit = StartLimit(interval_s // PARTS, burst // PARTS)
        self._drop_in(
            f"[Unit]\nStartLimitIntervalSec={limit.interval_s}\nStartLimitBurst={limit.burst}\n"
        )
        return limit

    def _drop_in(self, text: str) -> None:
        self.system.check("mkdir", "-p", self.drop_in.rpartition("/")[0])
        self.system.write(self.drop_in, text)
        self.system.check("systemctl", "daemon-reload")

    def reset(self) -> None:
        """Stop it, and take away what a test may have written: the policy and settings."""
        unit = {"service": self.service, "socket": self.socket, "drop_in": self.drop_in}
        self.system.check("sh", "-ec", RESET.format(policy=POLICY, **unit))

    def probe(self, *, sandboxed: bool) -> dict[str, str]:
        """Try what is forbidden, in its sandbox or, as the control, in none; return what came."""
        self.system.check("rm", "-f", PROBE_OUTPUT, PROBE_DEVICE)
        self.system.check("mknod", "--mode=0666", PROBE_DEVICE, "c", "1", "3")
        self._write_probe(sandboxed=sandboxed)
        self.system.check("systemctl", "start", PROBE)
        found: dict[str, str] = json.loads(self.system.check("cat", PROBE_OUTPUT))
        return found

    def probe_to_death(self) -> str:
        """Try it where a forbidden call is the last; return how systemd says that it ended."""
        self._write_probe(sandboxed=True, more="SystemCallErrorNumber=kill\n")
        self.system.run("systemctl", "start", PROBE)
        result = self.system.show(PROBE, "Result")
        self.system.check("systemctl", "reset-failed", PROBE)
        return result

    def _write_probe(self, *, sandboxed: bool, more: str = "") -> None:
        command = f"{PYTHON} -I {CLONE}/tests/systemd/probe.py"
        unit = build_probe_unit(UNITS / self.service, command, PROBE_OUTPUT, sandboxed=sandboxed)
        self.system.write(f"/run/systemd/system/{PROBE}", unit + more)
        self.system.check("systemctl", "daemon-reload")
