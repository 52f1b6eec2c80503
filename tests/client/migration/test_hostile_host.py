# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VM stays here, and can be asked, whatever the host says to which it should move."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from bpferry.machine.migration.messages import Broken, Offer, Runs, Talk
from tests.client.migration.hosts import PATIENCE_S, Hosts, hosts
from tests.client.support import wait_until

SSH = """#!{python}
import json, os, sys
os.write(1, b"bpferry receives VMs\\n")
sys.stdin.buffer.read(int.from_bytes(sys.stdin.buffer.read(4), "big"))
data = json.dumps(json.loads({message!r})).encode()
sys.stdout.buffer.write(len(data).to_bytes(4, "big") + data)
"""

READY = {
    "type": "ready",
    "host": "beta",
    "devices": {"cards": {}, "processor": {}, "tells_features": False},
}

PROBLEM = {"type": "problem", "code": "failed", "message": "no", "hint": ""}

OFFER = {
    "type": "offer", "protocol": 1, "name": "t", "host": "alpha", "description": "",
    "kind": "toml", "version": [10, 0, 0], "machine_type": "q35", "words": [], "cards": [],
    "files": [],
}  # fmt: skip


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))


def say_there(both: Hosts, message: Mapping[str, object]) -> str:
    """Move the VM to a host that answers *message*; return what the user sees."""
    program = both.folder / "bin/ssh"
    program.write_text(SSH.format(python=sys.executable, message=json.dumps(message)))
    done = both.migrate()
    assert done.returncode == 1
    assert wait_until(lambda: both.state() == "running", PATIENCE_S), both.run.err()
    return done.stderr


@pytest.mark.qemu
def test_what_another_host_says_has_bounds_and_does_nothing_to_a_terminal(tmp_path: Path) -> None:
    """Megabytes of a reason once held up the supervisor, and took the log's place."""
    with hosts(tmp_path) as both:
        said = say_there(both, {**PROBLEM, "message": "x" * 4_000_000, "hint": "y" * 3_000_000})
        assert "at 'beta': xxx" in said
        assert len(said) < 20_000

        said = say_there(both, {**PROBLEM, "message": "\x1b[2Jno\nbpferry: your password: "})
        assert "at 'beta': \\x1b[2Jno\\nbpferry: your password: ; it stays on this host" in said

        said = say_there(both, {**READY, "warnings": ["\x1b[31m" + "w" * 1000] * 5000})
        assert "\x1b" not in said
        assert "the connection to 'beta' ended" in said

        log = (tmp_path / "bpferry/t/log").read_text(encoding="utf-8")
        assert "starts with" in log
        assert "\x1b" not in log


def heard(kind: type[Offer] | type[Runs], message: Mapping[str, object]) -> object:
    """Return *message* as it is heard."""
    read_fd, write_fd = os.pipe()
    data = json.dumps(message).encode()
    os.write(write_fd, len(data).to_bytes(4, "big") + data)
    talk = Talk(read_fd, write_fd)
    try:
        return asyncio.run(talk.hear(kind))
    finally:
        talk.close()


def test_an_offer_is_heard() -> None:
    """The one that the others here differ from."""
    assert isinstance(heard(Offer, OFFER), Offer)


def test_the_kind_of_an_offered_description_is_no_path() -> None:
    """It is the end of the name of the file where the description is kept."""
    with pytest.raises(Broken, match="not a message"):
        heard(Offer, {**OFFER, "kind": "x/../../../.config/bpferry/vms/web.toml"})


@pytest.mark.parametrize(
    "hostile",
    [
        {"files": [{"path": "/a\0b", "inode": 1, "bytes": 1, "locked": True}]},
        {"secret_files": {"password": "/a\0b"}},
    ],
)
def test_an_offered_path_that_no_file_can_have_is_refused_in_words(
    hostile: Mapping[str, object],
) -> None:
    """It once ended the receiving side with a traceback, and the source was told nothing."""
    with pytest.raises(Broken, match="not a message"):
        heard(Offer, {**OFFER, **hostile})


@pytest.mark.parametrize("pid", [0, -1, 1 << 64])
def test_the_supervisor_at_another_host_is_a_process(pid: int) -> None:
    """A number that does not fit into a reply would end the connection of the command."""
    with pytest.raises(Broken, match="not a message"):
        heard(Runs, {"type": "runs", "pid": pid, "kept_by": "systemd"})
