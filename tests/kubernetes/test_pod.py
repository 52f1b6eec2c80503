# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VM in a container that is as the pod of the Job: the image, its user, its limits, its mounts.

The helpers are the real ones, outside of the container, with the policy that the page names.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests import requires
from tests.client import guest
from tests.kubernetes.image import make_image
from tests.kubernetes.manifests import FOLDER, Manifest, build, pods_of
from tests.support.census import wait_until
from tests.support.debian_packages import build as build_packages
from tests.support.helper_process import HelperProcess, running_helper
from tests.support.people import SOCKET_GID
from tests.support.podman import Podman, podman_on
from tests.support.tap_process import TapProcess, running_tap_helper
from tests.systemd.debian_root import debian_root

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.kernel,
    pytest.mark.qemu,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
]

POLICY: Final = '[users."20000-29999"]\nbridges = ["br0"]\n'

BOOT_S: Final = 120.0


@pytest.fixture(scope="module")
def image() -> Iterator[Podman]:
    """Return the image, in which containers can be started."""
    requires.mmdebstrap()
    packages = build_packages("trixie")
    with podman_on(debian_root("trixie")) as podman:
        make_image(podman, packages)
        yield podman


@pytest.fixture
def helpers() -> Iterator[tuple[HelperProcess, TapProcess]]:
    """Run both helpers of a host; nothing of theirs may be left afterwards."""
    with (
        running_helper(f"{POLICY}[quota]\nsets-ready = 0\n") as bpf,
        running_tap_helper(POLICY) as tap,
    ):
        yield bpf, tap


def options_of(pod: Manifest, sockets: Path, folder: Path) -> list[str]:
    """Return podman's options for the one container of *pod*, which is the Job's third."""
    spec = pod["spec"]
    (container,) = spec["containers"]
    account, own = spec["securityContext"], container["securityContext"]
    assert own["capabilities"] == {"drop": ["ALL"]}
    values = {one["name"]: one.get("value", "3") for one in container["env"]}
    sources = {"vm": FOLDER / "base", "images": folder}
    mounts = [
        f"--volume={sources[mount['name']]}:{mount['mountPath']}:ro"
        if mount["name"] in sources
        else f"--tmpfs={mount['mountPath']}:rw,mode=1777"
        for mount in container["volumeMounts"]
    ]
    return [
        f"--user={account['runAsUser']}:{account['runAsGroup']}",
        # The host's group, whose number is another one in these tests.
        f"--group-add={SOCKET_GID}",
        "--hostname=web-3",
        "--cap-drop=all",
        f"--read-only={str(own['readOnlyRootFilesystem']).lower()}",
        f"--security-opt=no-new-privileges={str(not own['allowPrivilegeEscalation']).lower()}",
        *(f"--env={name}={value}" for name, value in values.items()),
        *mounts,
        # As the device plugin mounts it.
        f"--volume={sockets}:/run/bpferry:ro",
    ]  # fmt: skip


def bind_sockets(image: Podman, folder: Path, bpf: Path, tap: Path) -> None:
    """Let both sockets be in one *folder*, as they are on a host."""
    folder.mkdir()
    for path in (bpf, tap):
        (folder / path.name).touch()
        subprocess.run(
            image.inside("mount", "--bind", str(path), str(folder / path.name)), check=True
        )


def test_vm_runs_in_the_pod(
    image: Podman, helpers: tuple[HelperProcess, TapProcess], tmp_path: Path
) -> None:
    """Steered by eBPF, with a tap on the host's bridge, and powered down by SIGTERM."""
    bpf, tap = helpers
    tmp_path.chmod(0o755)
    guest.write_obedient_disk(tmp_path / "raw.img")
    convert = ("qemu-img", "convert", "-O", "qcow2", "raw.img", "debian.qcow2")
    subprocess.run(convert, check=True, cwd=tmp_path)
    bind_sockets(image, tmp_path / "sockets", bpf.path, tap.path)
    (pod,) = pods_of(build(FOLDER / "job"))
    options = ["--name=web", *options_of(pod, tmp_path / "sockets", tmp_path)]
    with (
        (tmp_path / "log").open("w+") as log,
        subprocess.Popen(
            image.run_command(options, *pod["spec"]["containers"][0]["command"]),
            stdout=log,
            stderr=subprocess.STDOUT,
        ) as running,
    ):
        said = (tmp_path / "log").read_text
        greets = guest.GREETING.decode().strip()
        assert wait_until(lambda: greets in said() or running.poll() is not None, BOOT_S)
        assert greets in said(), said()
        (granted,) = tap.granted_taps()
        subprocess.run(image.command("kill", "--signal=TERM", "web"), check=True)
        assert 0 == running.wait(BOOT_S), said()

    assert "steering by eBPF" in said()
    assert "powering down" in said()
    # The guest has no driver that would use the second queue, so QEMU has it disabled.
    queues = granted.data["numqueues"] + granted.data["numdisabled"]
    assert ("br0", 2) == (granted.master, queues)
    assert wait_until(lambda: not tap.granted_taps())
