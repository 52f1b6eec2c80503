# SPDX-License-Identifier: LGPL-2.1-or-later
"""Containers of podman above a root folder, which stays as it is.

All of it is in a mount namespace that one process of ours holds: the root with an overlay above it,
podman's own storage, and a view of cgroups that crun accepts where the machine still has the old
hierarchies. With that process it is gone. The containers have no network and no cgroup of their
own; neither matters to who asks a helper.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests import requires

HOLD: Final = """
set -e
root=$1 own=$2
mount --make-rprivate /
if [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then
    umount --recursive --lazy /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
mkdir "$own/upper" "$own/work" "$own/root"
mount -t overlay overlay -o "lowerdir=$root,upperdir=$own/upper,workdir=$own/work" "$own/root"
echo ready
exec cat
"""

LIMITS: Final = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096")
"""Podman's own are higher than what a machine without CAP_SYS_RESOURCE can set."""

PATIENCE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Podman:
    """A root for containers. Borrows the process that holds it."""

    holder: int
    own: Path
    """A folder for podman's things, and the root."""

    @property
    def root(self) -> Path:
        """The root that containers have, in the mount namespace."""
        return self.own / "root"

    def inside(self, *command: str) -> list[str]:
        """Return *command* as one in the mount namespace."""
        return ["nsenter", f"--mount=/proc/{self.holder}/ns/mnt", "--", *command]

    def command(self, *words: str) -> list[str]:
        """Return *words* as a command of podman's."""
        return self.inside(
            "podman", "--root", str(self.own / "storage"), "--runroot", str(self.own / "run"),
            "--cgroup-manager=cgroupfs", "--events-backend=file", *words,
        )  # fmt: skip

    def run_command(self, options: Sequence[str], *command: str) -> list[str]:
        """Return what runs *command* in a new container with *options*, and removes it."""
        more = ("--rm", "--network=none", "--cgroups=disabled", *LIMITS)
        return self.command("run", *more, *options, "--rootfs", str(self.root), *command)

    def run(self, options: Sequence[str], *command: str) -> subprocess.CompletedProcess[str]:
        """Run *command* in a new container with *options*."""
        return subprocess.run(
            self.run_command(options, *command),
            check=False,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )


@contextmanager
def podman_on(root: Path) -> Iterator[Podman]:
    """Let containers be made above *root*."""
    for name in ("podman", "crun"):
        requires.program(name)
    own = Path(tempfile.mkdtemp(prefix="bpferry-podman-"))
    # Root of a user namespace has to get to its root.
    own.chmod(0o711)
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", HOLD, "sh", str(root), str(own)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        podman = Podman(holder.pid, own)
        try:
            yield podman
        finally:
            _end_containers(podman)
            holder.communicate(timeout=PATIENCE_S)
    shutil.rmtree(own)


def _end_containers(podman: Podman) -> None:
    command = podman.command("rm", "--all", "--force", "--time=0")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
