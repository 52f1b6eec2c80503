# SPDX-License-Identifier: LGPL-2.1-or-later
"""The cluster for whoever wants to look: tools/cluster up, status, down.

One process, the keeper, stays in the background and holds everything with the same blocks as the
tests do. Its end is the end of the nodes, however it is told.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NoReturn

from tests.cluster.jobs import FOLDER, GRES, NOTHING, bring_jobs, held
from tests.cluster.nodes import USER, Node, booted_nodes
from tests.cluster.slurm import start_slurm
from tests.support.census import wait_until
from tests.systemd.container import Container

STATE: Final = Path("/run/bpferry-cluster")
KEEPER: Final = STATE / "keeper"
"""Its process id."""
NODES: Final = STATE / "nodes.json"
"""Written when all of them are ready."""
LOG: Final = STATE / "log"

DEFAULT_NODES: Final = 3
MOST_NODES: Final = 16

UP_S: Final = 1200.0
"""The first time, a Debian is made; an installation takes its time on a busy machine."""

DOWN_S: Final = 120.0

ENTER: Final = "nsenter --target {pid} --all --"

WORDS: Final = f"""
As {USER} on the first node:
    sudo {ENTER} runuser -u {USER} -- \\
        sbatch --array=1-2 {GRES} \\
        --output=/tmp/%A-%a.log {FOLDER}/vm.sh polite
"""


def main(words: list[str]) -> int:
    """Do what tools/cluster was asked to."""
    match words:
        case ["up"]:
            return _up(DEFAULT_NODES)
        case ["up", count] if count.isdecimal() and 2 <= int(count) <= MOST_NODES:
            return _up(int(count))
        case ["keep", count]:
            _keep(int(count))
        case ["status"]:
            return _status()
        case ["down"]:
            return _down()
    return _fail(f"wrong usage: tools/cluster up [2-{MOST_NODES}] | status | down", 2)


def _fail(message: str, status: int = 1) -> int:
    print(f"cluster: {message}", file=sys.stderr)
    return status


def _keeper() -> int | None:
    """Return the keeper's process id, if it is alive and ours."""
    with suppress(OSError, ValueError):
        pid = int(KEEPER.read_text())
        if b"tests.cluster" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    return None


def _up(count: int) -> int:
    if _keeper() is not None:
        return _fail("there is one already: tools/cluster status, or down")
    STATE.mkdir(exist_ok=True)
    NODES.unlink(missing_ok=True)
    print(f"booting {count} nodes; this takes a minute or several: {LOG}")
    with LOG.open("wb") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster", "keep", str(count)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    KEEPER.write_text(str(keeper.pid))
    wait_until(lambda: NODES.exists() or keeper.poll() is not None, UP_S, pause_s=0.5)
    if keeper.poll() is None and NODES.exists():
        return _status()
    said = LOG.read_text()[-3000:]
    _down()
    return _fail(f"the nodes did not come up:\n{said}")


def _keep(count: int) -> NoReturn:
    """Hold *count* nodes until a signal."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    with booted_nodes(count, STATE) as nodes:
        for node in nodes:
            bring_jobs(node)
        start_slurm(nodes)
        with _told(nodes):
            while True:
                signal.pause()


@contextmanager
def _told(nodes: tuple[Node, ...]) -> Iterator[None]:
    """Let others find *nodes* meanwhile."""
    part = NODES.with_suffix(".part")
    part.write_text(json.dumps([node.system.pid for node in nodes]))
    part.rename(NODES)
    try:
        yield
    finally:
        NODES.unlink()


def _nodes() -> list[Node]:
    pids = json.loads(NODES.read_text()) if NODES.exists() else []
    return [Node(f"node{i}", i, Container(pid)) for i, pid in enumerate(pids, 1)]


def _status() -> int:
    nodes = _nodes()
    if _keeper() is None or not nodes:
        return _fail("there is none: tools/cluster up")
    for node in nodes:
        print(f"{node.name}: sudo {ENTER.format(pid=node.system.pid)} bash")
        if not node.has_power:
            print("    is powered off")
            continue
        found = held(node)
        for line in (*found.grants, *found.processes) if found != NOTHING else ("no VM",):
            print(f"    {line}")
    print(WORDS.format(pid=nodes[0].system.pid))
    print(nodes[0].system.run("sinfo").stdout, nodes[0].system.run("squeue", "-r").stdout, sep="\n")
    return 0


def _down() -> int:
    keeper, nodes = _keeper(), _nodes()
    if keeper is not None:
        os.kill(keeper, signal.SIGTERM)
        if not wait_until(lambda: _keeper() is None, DOWN_S, pause_s=0.2):
            return _fail(f"the keeper (process {keeper}) has not ended after {DOWN_S:g} s: {LOG}")
    else:
        # It was killed: without it, the nodes' own first processes have to be ended.
        for node in nodes:
            with suppress(ProcessLookupError):
                os.kill(node.system.pid, signal.SIGKILL)
    shutil.rmtree(STATE, ignore_errors=True)
    print("no cluster is up")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
