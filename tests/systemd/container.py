# SPDX-License-Identifier: LGPL-2.1-or-later
"""Boot a root with systemd as PID 1, run commands in it, and leave nothing behind.

systemd-nspawn mounts an overlay in memory above the root, inside its own mount namespace, so that
the root stays as it is and there is no mount to undo.

The system has a network of its own, in which there is nothing, so that no bridge or tap of a test
is ever on this machine. A command that fetches something is run in this machine's network instead.

Two things depend on the machine. Where PID 1 is systemd, nspawn asks it for a scope. Elsewhere it
runs in a cgroup that we make, since it otherwise uses fixed names in the topmost one and two
containers would meet there. And where the machine still has the old cgroup hierarchies, the
container is told to use the new one, which is the only one that systemd 256 and newer know; the
controllers that the old ones hold (memory, cpu, pids) are then not to be had inside, so that
MemoryMax= and its kin are accepted but not enforced there.
"""

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CLONE: Final = "/srv/bpferry"
"""Where the project's folder is seen inside, read-only."""

BOOT_SECONDS: Final = 60
"""It takes three."""

HALT_SECONDS: Final = 20

LET_THROUGH: Final = (
    "bpf",
    "perf_event_open",
    "ptrace",
    "userfaultfd",
    "io_uring_setup",
    "@keyring",
)
"""bpf is what the helper needs. nspawn forbids the others by itself, so that a test could not tell
who refused them: the helper's own filter must be what does."""

CAPABILITIES: Final = ("CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN")
"""Beyond the ones that nspawn gives to every container."""

PASSED_ON: Final = ("PIP_", "SSL_", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
"""Beginnings of variables that say how this machine reaches a package index."""

CERTIFICATES: Final = "/etc/ssl/certs"

CGROUP_ROOTS: Final = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd")
"""Where a machine with old hierarchies has the new one, and the one that is systemd's."""


@dataclass(frozen=True, slots=True)
class Container:
    """A booted system."""

    pid: int
    """Its PID 1, as this machine counts."""

    def run(
        self, *command: str, user: str = "root", timeout: float = 30, fetches: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run *command* inside and return what came of it.

        One that *fetches* is in this machine's network, where there are mirrors and an index.
        """
        return subprocess.run(
            [*self._enter(user, fetches=fetches), *command],
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=_environment(),
        )

    def check(
        self, *command: str, user: str = "root", timeout: float = 30, fetches: bool = False
    ) -> str:
        """Run *command* inside and return its output; anything but success fails the test."""
        done = self.run(*command, user=user, timeout=timeout, fetches=fetches)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    @contextmanager
    def running(self, *command: str, user: str = "root") -> Iterator[subprocess.Popen[str]]:
        """Run *command* inside meanwhile. Its standard input ends with the block; so must it."""
        pipe = subprocess.PIPE
        with subprocess.Popen(
            [*self._enter(user), *command], stdin=pipe, stdout=pipe, text=True, env=_environment()
        ) as process:
            try:
                yield process
                process.communicate(timeout=10)
            finally:
                process.kill()

    def _enter(self, user: str, *, fetches: bool = False) -> list[str]:
        spaces = ("--mount", "--uts", "--ipc", "--pid", "--cgroup") if fetches else ("--all",)
        enter = ["nsenter", "--target", str(self.pid), *spaces, "--"]
        if user == "root":
            return enter
        return [
            *enter,
            "setpriv", "--reuid", user, "--regid", user, "--init-groups",
            "--inh-caps=-all", "--bounding-set=-all", "--",
        ]  # fmt: skip

    def show(self, unit: str, prop: str) -> str:
        """Return the property *prop* of *unit*, in systemd's words."""
        return self.check("systemctl", "show", "--property", prop, "--value", unit)

    def journal(self, unit: str) -> str:
        """Return all that *unit* said since boot."""
        return self.check("journalctl", "--unit", unit, "--output=cat", "--no-pager")

    def wait_for_state(self, unit: str, state: str, seconds: float = 10) -> None:
        """Return when *unit* has the active state *state*."""
        deadline = time.monotonic() + seconds
        while (seen := self.show(unit, "ActiveState")) != state:
            assert time.monotonic() < deadline, f"{unit} is {seen}, not {state}"
            time.sleep(0.05)

    def write(self, path: str, text: str) -> None:
        """Write *text* into a file inside, as root."""
        enter = [*self._enter("root"), "tee", path]
        subprocess.run(enter, input=text, check=True, stdout=subprocess.DEVNULL, text=True)


def _environment() -> dict[str, str]:
    passed = {k: v for k, v in os.environ.items() if k.startswith(PASSED_ON)}
    return passed | {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "HOME": "/root"}


@contextmanager
def boot(root: Path, clone: Path, log: Path) -> Iterator[Container]:
    """Boot *root* with *clone* visible in it, and halt it afterwards. The console goes to *log*."""
    # Not by process id: two may have the same one, in namespaces of their own.
    name = f"bpferry-test-{secrets.token_hex(4)}"
    with _cgroup(name) as cgroups, log.open("wb") as console:
        nspawn = subprocess.Popen(
            _command(root, clone, name),
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: _enter_cgroups(cgroups),  # noqa: PLW1509 - no thread of ours runs
            env=os.environ | _hierarchy(),
        )
        try:
            yield _wait_for_boot(nspawn, log)
        finally:
            _halt(nspawn)
            # nspawn 252 makes this folder and then refuses to remove it.
            with suppress(OSError):
                Path("/run/systemd/nspawn/propagate", name).rmdir()


def _command(root: Path, clone: Path, name: str) -> list[str]:
    # Only a service manager that runs can be asked for a scope.
    scope = [] if _systemd_runs() else ["--keep-unit"]
    return [
        "systemd-nspawn", "--boot", "--register=no", *scope,
        "--quiet", "--console=pipe", "--machine", name, "--private-network",
        "--directory", str(root), "--volatile=overlay",
        "--system-call-filter", " ".join(LET_THROUGH),
        "--capability", ",".join(CAPABILITIES),
        "--bind-ro", f"{clone}:{CLONE}",
        "--bind-ro", CERTIFICATES,
    ]  # fmt: skip


def _systemd_runs() -> bool:
    return Path("/run/systemd/system").is_dir()


def _hierarchy() -> dict[str, str]:
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        return {}
    return {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}


@contextmanager
def _cgroup(name: str) -> Iterator[list[Path]]:
    """Make a cgroup of this *name* in each hierarchy that nspawn looks at, if nobody else does."""
    roots = [Path(root) for root in CGROUP_ROOTS if Path(root).is_dir()]
    if _systemd_runs():
        roots = []
    elif not roots:
        roots = [Path("/sys/fs/cgroup")]
    made = [root / name for root in roots]
    try:
        for folder in made:
            folder.mkdir()
        yield made
    finally:
        for folder in made:
            remove_cgroup(folder)


def _enter_cgroups(cgroups: Sequence[Path]) -> None:
    for cgroup in cgroups:
        (cgroup / "cgroup.procs").write_text("0")


def remove_cgroup(folder: Path) -> None:
    """Remove *folder* and what a container made below it, when its last process is gone."""
    deadline = time.monotonic() + 5
    below = sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True)
    for path in [*below, folder]:
        while path.exists():
            try:
                path.rmdir()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


def _wait_for_boot(nspawn: subprocess.Popen[bytes], log: Path) -> Container:
    deadline = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < deadline and nspawn.poll() is None:
        pid = _find_init(nspawn.pid)
        if pid is not None:
            container = Container(pid)
            state = container.run("systemctl", "is-system-running", "--wait", timeout=BOOT_SECONDS)
            if state.stdout.strip() in {"running", "degraded"}:
                return container
        time.sleep(0.1)
    raise RuntimeError(f"the container did not boot:\n{log.read_text(errors='replace')[-3000:]}")


def _find_init(nspawn: int) -> int | None:
    """Return the child of *nspawn* that has become systemd, if it has."""
    for children in Path(f"/proc/{nspawn}/task").glob("*/children"):
        for child in children.read_text().split():
            with suppress(OSError):
                if os.readlink(f"/proc/{child}/exe").endswith("/systemd/systemd"):  # noqa: PTH115
                    return int(child)
    return None


def _halt(nspawn: subprocess.Popen[bytes]) -> None:
    """Let the system shut down; when it does not, end its PID 1, and all else dies with that."""
    init = _find_init(nspawn.pid)
    nspawn.terminate()
    try:
        nspawn.wait(HALT_SECONDS)
    except subprocess.TimeoutExpired:
        nspawn.kill()
        nspawn.wait()
        if init is not None:
            with suppress(ProcessLookupError):
                os.kill(init, signal.SIGKILL)
