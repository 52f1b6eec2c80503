# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which processes have a tap open, as /proc shows it."""

import os
from pathlib import Path

import pytest

from bpferry.network import tap_users
from bpferry.network.tap_users import User, find_users
from tests.support.children import in_child
from tests.support.tuns import open_queue


def process(folder: Path, pid: int, comm: str, fds: dict[int, tuple[str, str]]) -> None:
    """Write what /proc would show of a process with *fds*: targets, and their fdinfo."""
    own = folder / str(pid)
    for name in ("fd", "fdinfo"):
        (own / name).mkdir(parents=True)
    (own / "comm").write_text(f"{comm}\n")
    for number, (target, info) in fds.items():
        (own / "fd" / str(number)).symlink_to(target)
        (own / "fdinfo" / str(number)).write_text(info)


def test_each_process_is_named_once_for_each_tap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many queues it has open; other files that say the same are not looked at."""
    queue = "pos:\t0\niff:\t{}\n"
    tun = "/dev/net/tun"
    qemu = {5: (tun, queue.format("bfp1")), 6: (tun, queue.format("bfp1"))}
    process(tmp_path, 30, "qemu-system-x86", qemu | {7: ("/tmp/x", queue.format("bfp3"))})
    process(tmp_path, 4, "evil\x1b[2J", {3: (tun, queue.format("bfp1")), 4: (tun, "iff:\tbfp2")})
    process(tmp_path, 9, "sh", {})
    (tmp_path / "11").mkdir()
    (tmp_path / "self").mkdir()
    monkeypatch.setattr(tap_users, "PROCESSES", tmp_path)

    assert find_users() == {
        "bfp1": (User(4, "evil?[2J"), User(30, "qemu-system-x86")),
        "bfp2": (User(4, "evil?[2J"),),
    }


@pytest.mark.privileged
def test_the_kernel_shows_it_so() -> None:
    """A child with a tap open finds itself."""

    def act() -> tuple[bool, list[int]]:
        queue = open_queue("bpferry-test-t")
        found = find_users().get("bpferry-test-t", ())
        os.close(queue)
        return len(found) == 1, [user.pid - os.getpid() for user in found]

    assert (True, [0]) == in_child(act)
