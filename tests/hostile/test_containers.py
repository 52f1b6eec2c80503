# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who asks from a real container: of podman, with and without a user namespace, and of nspawn.

``test_who_asks`` has the decisions themselves, by uids that this machine's root takes on. Here the
kernel translates: what the container calls uid 5 is another one for the helper.
"""

import json
import secrets
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

from tests import requires
from tests.support.people import ALICE, SOCKET_GID
from tests.support.podman import Podman, podman_on
from tests.support.tap_process import TapProcess, running_tap_helper
from tests.systemd.debian_root import debian_root

pytestmark = [pytest.mark.privileged, pytest.mark.kernel, pytest.mark.timeout(900)]

REPOSITORY: Final = Path(__file__).resolve().parents[2]

CLONE: Final = "/srv/bpferry"

ASK: Final = ("python3", "-B", f"{CLONE}/tests/systemd/ask_tap.py")

FIRST: Final = 2_000_000
"""On the host, what a container with a user namespace calls uid 0."""

COUNT: Final = 65_536

WITH_GROUP: Final = (
    f"--uidmap=0:{FIRST}:{COUNT}",
    f"--gidmap=0:{FIRST}:{COUNT}",
    f"--gidmap={SOCKET_GID}:{SOCKET_GID}:1",
)
"""The group that may connect is the same inside."""

ALICES: Final = {"subuid": f"person{ALICE.uid}:{FIRST}:{COUNT}\n"}

POD: Final = "[users.20000-29999]\nbridges = ['br0']\ntaps = 1\n"

Answer = dict[str, Any]


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    """Return a Debian in which containers can be started."""
    requires.mmdebstrap()
    with podman_on(debian_root("trixie")) as started:
        yield started


TAP: Final = ("tap", "br0", "2")


def asked(
    podman: Podman, helper: TapProcess, user: int, *options: str, words: Sequence[str] = TAP
) -> Answer:
    """Return the answer to *user* of a container who asks *words*."""
    done = podman.run(
        [
            f"--user={user}:{user}",
            f"--group-add={SOCKET_GID}",
            f"--volume={REPOSITORY}:{CLONE}:ro",
            f"--volume={helper.path}:/run/bpferry/tap.sock",
            *options,
        ],
        *ASK, *words,
    )  # fmt: skip
    assert done.stdout, done.stderr
    answer: Answer = json.loads(done.stdout)
    return answer


def asked_by_nspawn(root: Path, helper: TapProcess, *words: str) -> Answer:
    """Return the answer to uid 0 of a container of systemd-nspawn with users of its own."""
    name = f"bpferry-test-{secrets.token_hex(4)}"
    done = subprocess.run(
        [
            "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--machine", name,
            "--directory", str(root), "--volatile=overlay", "--console=pipe",
            f"--private-users={FIRST}:{COUNT}", "--private-network",
            f"--bind-ro={REPOSITORY}:{CLONE}", f"--bind={helper.path}:/run/bpferry/tap.sock",
            *ASK, *words,
        ],
        check=False, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    # nspawn 252 makes this folder and then refuses to remove it.
    with suppress(OSError):
        Path("/run/systemd/nspawn/propagate", name).rmdir()
    assert done.stdout, done.stderr
    answer: Answer = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_uid_of_a_pod_is_an_account_of_its_own(podman: Podman) -> None:
    """Without a user namespace, as most pods are: the policy names the range, and no other uid."""
    with running_tap_helper(POD) as helper:
        inside = [asked(podman, helper, uid) for uid in (20000, 29999)]
        outside = asked(podman, helper, 30000)

    assert ["TapReply", "TapReply"] == [answer["reply"] for answer in inside]
    assert all(len(answer["queues_of"]) == 2 for answer in inside)
    assert "uid 30000 has no name on this host" in outside["message"]


def test_pods_with_one_uid_share_its_quota(podman: Podman) -> None:
    """What one of them has counts for the other, and for no other uid."""
    with running_tap_helper(POD) as helper:
        made = asked(podman, helper, 20000, words=("create", "br0", "2"))
        second = asked(podman, helper, 20000)
        other = asked(podman, helper, 20001)
        asked(podman, helper, 20000, words=("delete", made["interface"]))
        freed = asked(podman, helper, 20000)

    assert ("ErrorReply", "quota") == (second["reply"], second["code"])
    assert ["TapReply", "TapReply"] == [other["reply"], freed["reply"]]


def test_root_of_a_container_is_an_account_like_others(podman: Podman) -> None:
    """It gets what the policy gives to root, here nothing."""
    with running_tap_helper(POD) as helper:
        answer = asked(podman, helper, 0)

    assert ("ErrorReply", "refused") == (answer["reply"], answer["code"])


@pytest.mark.parametrize("uid", [0, 5])
def test_subordinate_uid_in_a_container_is_its_owner(podman: Podman, uid: int) -> None:
    """Root of alice's container is alice, and so is any other uid there."""
    rules = f"[users.{ALICE.uid}]\nbridges = ['br0']\n"
    with running_tap_helper(rules, etc=ALICES) as helper:
        answer = asked(podman, helper, uid, *WITH_GROUP)
        log = helper.log()

    assert "TapReply" == answer["reply"], answer
    assert f"uid {ALICE.uid} " in log


@pytest.mark.parametrize("named", [False, True])
def test_mapped_uid_that_nobody_has_is_refused(podman: Podman, *, named: bool) -> None:
    """Also where the same number inside is one that the policy names. The control: a range."""
    more = f"[users.{FIRST}-{FIRST + COUNT}]\nbridges = ['br0']\n" if named else ""
    with running_tap_helper(POD + more) as helper:
        answer = asked(podman, helper, 20000, *WITH_GROUP)

    assert named == (answer["reply"] == "TapReply"), answer
    assert named or f"uid {FIRST + 20000} has no name" in answer["message"]


def test_without_the_group_in_its_namespace_nobody_connects(podman: Podman) -> None:
    """The group's number inside is another group's outside, as in a pod with users of its own."""
    own = (f"--uidmap=0:{FIRST}:{COUNT}", f"--gidmap=0:{FIRST}:{COUNT}", "--group-add=990")
    with running_tap_helper(POD) as helper:
        done = podman.run(
            [
                "--user=20000:20000",
                f"--volume={REPOSITORY}:{CLONE}:ro",
                f"--volume={helper.path}:/run/bpferry/tap.sock",
                *own,
            ],
            *ASK, "hello",
        )  # fmt: skip

    assert {"reply": "PermissionError"} == json.loads(done.stdout), done.stderr


def test_root_of_nspawn_with_private_users_is_not_root() -> None:
    """Though it is uid 0 inside, with all capabilities there, and the policy names root."""
    requires.program("systemd-nspawn")
    with running_tap_helper("[users.0]\nbridges = ['br0']\n") as helper:
        closed = asked_by_nspawn(debian_root("trixie"), helper, "hello")
        helper.path.chmod(0o666)
        answer = asked_by_nspawn(debian_root("trixie"), helper, "tap", "br0", "2")

    assert {"reply": "PermissionError"} == closed
    assert f"uid {FIRST} has no name on this host" in answer["message"]
