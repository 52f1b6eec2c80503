# SPDX-License-Identifier: LGPL-2.1-or-later
r"""The real helper as its own user with exactly its capabilities, on a socket that the test holds.

The test is the service manager: it opens the socket, starts the helper when it wants to, hears its
READY=1, and can kill it and start it again on the same socket. The helper lives in a mount
namespace of its own, where /etc/bpferry is a folder of the test; so it needs no switch for tests.

    with running_helper(policy="[quota]\\nsets-per-user = 2\\n") as helper:
        answered = ask_once(helper.path, Hello())
"""

import atexit
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Final, TypeVar

from bpferry_helper.disposal import SO_PASSRIGHTS
from bpferry_wire.messages import Hello, HelloReply, Quota
from tests.support.census import Held, alive_among, fd_targets, held_by, wait_until
from tests.support.people import ALICE, NAMED, SOCKET_GID, ask_once

REPOSITORY: Final = Path(__file__).parent.parent.parent
PYTHON: Final = "/usr/bin/python3"
START_S: Final = 20.0

DIST_PACKAGES: Final = Path("/usr/lib/python3/dist-packages")
"""Where Debian's packages of Python modules are, and the helper looks for them."""

HELPER_UID: Final = 1_800_000 + os.getpid() % 100_000
"""Its own: the kernel counts fds on their way by user, and others may test on this host too."""

CAPABILITIES: Final = "-all,+bpf,+perfmon"

NO_LIMITS: Final = (
    "[quota]\nloads-at-once = 1000\nloads-per-second = 1000\nloads-per-second-in-total = 1000\n"
    "sets-ready = 0\n"
)
"""A policy under which the pace of a test's own loads does not matter, and none is loaded ahead."""

ACTIVATE: Final = 'exec 3<&0 0</dev/null; export LISTEN_PID=$$; exec "$@"'
"""The socket comes as standard input, since a shell can move that to where systemd puts it."""

NAMESPACE: Final = """
set -e
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$1/upper,workdir=$1/work" /etc
mount --bind "$1/policy" /etc/bpferry
if [ "$2" ]; then mount -t tmpfs -o "size=$2,mode=0700,uid=$3" state "$1/state"; fi
echo ready
exec cat
"""


@cache
def installed() -> Path:
    """Return a folder with the helper's two packages, compiled, that any user can read."""
    folder = Path(tempfile.mkdtemp(prefix="bpferry-test-lib-", dir="/run"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)
    for package in ("shared/bpferry_wire", "helper/bpferry_helper"):
        source = REPOSITORY / package
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, folder / source.name, ignore=ignore)
    if not (DIST_PACKAGES / "pyroute2").is_dir():
        _add_pyroute2(folder / "dist-packages")
    # As isolated as the helper: what PYTHONPYCACHEPREFIX says holds for neither.
    subprocess.run([PYTHON, "-I", "-m", "compileall", "-q", folder], check=True)
    return folder


def _add_pyroute2(folder: Path) -> None:
    """Copy the tests' own pyroute2 to where a distribution's package would bring it."""
    spec = find_spec("pyroute2")
    assert spec is not None
    assert spec.origin is not None
    shutil.copytree(Path(spec.origin).parent, folder / "pyroute2")


def module_path() -> list[str]:
    """Return the folders that the helper's modules come from."""
    return [str(installed()), str(DIST_PACKAGES), str(installed() / "dist-packages")]


def helper_command(*arguments: str, first: str = "pass") -> list[str]:
    """Return how the helper is started here, with *arguments*: isolated, as its launcher does it.

    Its modules are imported after the statement *first* has run.
    """
    program = (
        f"import sys; sys.path += {module_path()}; {first};"
        "from bpferry_helper.cli import main; sys.exit(main())"
    )
    return [PYTHON, "-I", "-S", "-B", "-c", program, *arguments]


def as_helper(command: Sequence[str], capabilities: str = CAPABILITIES) -> list[str]:
    """Return *command* run as the helper's user with *capabilities* only."""
    return [
        "setpriv", f"--reuid={HELPER_UID}", f"--regid={HELPER_UID}", "--clear-groups",
        f"--inh-caps={capabilities}", f"--ambient-caps={capabilities}",
        f"--bounding-set={capabilities}", "--no-new-privs", *command,
    ]  # fmt: skip


class HelperProcess:
    """See the module's docstring. Made by ``running_helper``."""

    role: ClassVar[str] = "bpf"
    unshare: ClassVar[tuple[str, ...]] = ("unshare", "--mount", "--propagation=private")
    first: ClassVar[str] = "pass"
    """A statement that runs before the helper's modules are imported."""
    namespace: ClassVar[str] = NAMESPACE
    """What is done in the new namespaces, and then waits."""
    sockets: ClassVar[int] = 1
    """Sockets that the service manager passes in or the helper itself opens, for good."""

    def __init__(self, folder: Path, limits: Sequence[str], environ: Mapping[str, str]) -> None:
        self.folder = folder
        self.path = folder / f"{self.role}.sock"
        self.state = folder / "state"
        self.binaries = folder / "qemu"
        """A folder of root's for binaries that a policy trusts."""
        self.notifications: list[str] = []
        self._limits = limits
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None
        self._namespace: subprocess.Popen[bytes] | None = None
        self._listener = _listener(self.path)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(folder / "notify.sock"))
        (folder / "notify.sock").chmod(0o666)

    # -- the process

    @property
    def pid(self) -> int:
        """The helper's process."""
        assert self._process is not None
        return self._process.pid

    def start(self, *, wait: bool = True, stderr: int | None = None) -> None:
        """Start the helper on the socket; *wait* until it says READY=1.

        It writes into a file, or to *stderr*, which is borrowed.
        """
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._inside(), *self._limits, *self._activation()],
                pass_fds=self._passed_fds(),
                stdin=self._listener.fileno(),
                stdout=log,
                stderr=log if stderr is None else stderr,
                env=self._environment(),
            )
        if wait:
            self.wait_for("READY=1")
            self.let_fds_pass()

    def let_fds_pass(self, *, pass_them: bool = True) -> None:
        """Be a kernel before 6.16, which lets clients send fds, or one that refuses them for us."""
        with suppress(OSError):
            self._listener.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, pass_them)

    def _activation(self) -> list[str]:
        """Return what becomes the helper."""
        return ["sh", "-c", ACTIVATE, "sh", *as_helper(helper_command("bpf", first=self.first))]

    def _passed_fds(self) -> tuple[int, ...]:
        """Return the fds that it inherits beside the listening socket."""
        return ()

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "LISTEN_FDS": str(1 + len(self._passed_fds())),
            "NOTIFY_SOCKET": str(self.folder / "notify.sock"),
            "STATE_DIRECTORY": str(self.state),
            "MSGPACK_PUREPYTHON": "1",
            **self._environ,
        }

    def wait_for(self, message: str, patience_s: float = START_S) -> None:
        """Wait until the helper has told its service manager *message*."""
        self._notify.settimeout(0.05)

        def told() -> bool:
            try:
                self.notifications.append(self._notify.recv(4096).decode())
            except TimeoutError:
                if not self.is_running() and message == "READY=1":
                    raise AssertionError(f"the helper ended: {self.log()}") from None
            return message in self.notifications

        assert wait_until(told, patience_s), f"no {message} but {self.notifications}: {self.log()}"
        self.notifications.clear()

    def is_running(self) -> bool:
        """Say whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """Kill the helper with SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Let it read nothing inside the block, so that all that is sent waits in its queues."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def wait_for_exit(self, patience_s: float = START_S) -> int:
        """Wait until the helper ends by itself; return its exit status."""
        assert self._process is not None
        return self._process.wait(patience_s)

    def restart(self) -> None:
        """Kill the helper and start it again."""
        self.kill()
        self.start()

    def log(self) -> str:
        """Return what the helper has written so far."""
        return (self.folder / "log").read_text()

    def write_policy(self, text: str) -> None:
        """Replace the policy file."""
        (self.folder / "policy" / "policy.toml").write_text(text)

    def inside(self, path: Path) -> Path:
        """Return how *path* of the helper's mount namespace is reached from here."""
        assert self._namespace is not None
        return Path(f"/proc/{self._namespace.pid}/root{path}")

    def hide(self, path: str) -> None:
        """Put an empty file over *path*, for the helper alone."""
        subprocess.run([*self._inside(), "mount", "--bind", "/dev/null", path], check=True)

    def _inside(self) -> tuple[str, ...]:
        assert self._namespace is not None
        return "nsenter", f"--mount=/proc/{self._namespace.pid}/ns/mnt"

    # -- what it holds

    def settle(self) -> Counter[str]:
        """Let the helper open what it keeps for good, and return what its fds point to."""
        for request in (Hello(), Quota()):
            ask_once(self.path, request).fds.close()
        self.wait_for_quiet()
        return fd_targets(self.pid)

    def wait_for_quiet(self) -> None:
        """Wait until no client is connected and no load of one that has gone is under way."""
        assert wait_until(lambda: not self._clients(), 30), f"{self._clients()} clients are left"

    def _clients(self) -> int:
        """Return how many sockets but its own it has open."""
        found = [target for target in fd_targets(self.pid) if target.startswith("socket:")]
        return len(found) - self.sockets

    def held(self) -> frozenset[Held]:
        """Return the BPF programs and maps that the helper itself has open."""
        return held_by(self.pid)

    def granted(self) -> frozenset[Held]:
        """Return every map that the helper ever granted, from its log."""
        found = re.findall(r"granted '.*maps ([0-9, ]+)$", self.log(), re.MULTILINE)
        return frozenset(Held("map", int(n)) for line in found for n in line.split(", "))

    def check_serves(self) -> None:
        """Fail unless the next client is answered."""
        answered = ask_once(self.path, Hello(), ALICE)

        assert isinstance(answered.reply, HelloReply)

    # -- the end

    def enter(self, tmpfs_size: str) -> None:
        """Make the mount namespace; *tmpfs_size* bounds the state folder, "" does not."""
        self._namespace = subprocess.Popen(
            [*self.unshare, "sh", "-c", self.namespace, "sh",
             str(self.folder), tmpfs_size, str(HELPER_UID)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._namespace.stdout is not None
        assert self._namespace.stdout.readline() == b"ready\n"

    def end_namespace(self) -> None:
        """End the process that holds the namespaces; the helper may still be in them."""
        if self._namespace is not None:
            self._namespace.communicate(timeout=START_S)
            self._namespace = None

    def close(self) -> None:
        """End every process and close every fd."""
        if self.is_running():
            self.kill()
        self.end_namespace()
        self._listener.close()
        self._notify.close()


def _listener(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    os.chown(path, 0, SOCKET_GID)
    path.chmod(0o660)
    listener.listen(4096)
    return listener


H = TypeVar("H", bound=HelperProcess)


@contextmanager
def running_helper(
    policy: str | None = NO_LIMITS,
    *,
    limits: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    state_size: str = "",
    etc: Mapping[str, str] | None = None,
    start: bool = True,
) -> Iterator[HelperProcess]:
    """Run a helper of the role bpf and take everything down again.

    Args:
        policy: the text of its policy file; None for no file.
        limits: a command in front of it, such as ("prlimit", "--nofile=32").
        environ: variables that it gets beside those of its unit.
        state_size: bounds its state folder, such as "64k".
        etc: texts of files below its /etc.
        start: whether to start it at once.
    """
    with helper_folder(etc) as folder:
        helper = HelperProcess(folder, limits, environ or {})
        with running(helper, policy, state_size, start=start):
            yield helper


@contextmanager
def running(helper: H, policy: str | None, state_size: str, *, start: bool) -> Iterator[H]:
    """Run *helper*, and end it; see ``running_helper``."""
    if policy is not None:
        helper.write_policy(policy)
    try:
        helper.enter(state_size)
        if start:
            helper.start()
        yield helper
    finally:
        helper.close()


@contextmanager
def helper_folder(etc: Mapping[str, str] | None = None) -> Iterator[Path]:
    """Yield a new folder with all that a helper process wants to find there.

    Args:
        etc: texts of files below its /etc; beside them it has the host's, and people with names.
    """
    folder = Path(tempfile.mkdtemp(prefix="bpferry-test-", dir="/run"))
    try:
        folder.chmod(0o755)
        for name in ("upper", "upper/bpferry", "work", "policy", "qemu", "state"):
            (folder / name).mkdir(mode=0o755)
        for name, text in {"passwd": passwd(), "subuid": "", **(etc or {})}.items():
            (folder / "upper" / name).write_text(text)
        os.chown(folder / "state", HELPER_UID, HELPER_UID)
        yield folder
    finally:
        shutil.rmtree(folder)


def passwd() -> str:
    """Return the host's accounts, and those of the tests."""
    """Return the host's accounts, and those of the tests."""
    people = "".join(f"person{uid}:x:{uid}:{uid}::/:/bin/false\n" for uid in NAMED if uid > 1)
    return Path("/etc/passwd").read_text() + people


def left_alive(granted: frozenset[Held]) -> set[Held]:
    """Return what of *granted* is alive although all clients have closed it, after some time."""
    wait_until(lambda: not alive_among(granted))
    return alive_among(granted)
