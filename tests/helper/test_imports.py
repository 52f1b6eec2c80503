# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the helper loads: little, and nothing of it by accident."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.helper_process import PYTHON, installed

REPOSITORY = Path(__file__).parents[2]

pytestmark = pytest.mark.privileged

THIRD_PARTY = {"msgpack"}
"""The literal list. Adding one is a reviewed act."""

UNWANTED = {
    "asyncio", "dataclasses", "json", "logging", "subprocess", "hashlib", "_hashlib", "_ssl",
    "inspect", "pickle", "random", "tempfile", "urllib", "http", "email", "argparse", "tomllib",
    "concurrent", "multiprocessing", "unittest", "xml", "pyroute2", "typing_extensions",
}  # fmt: skip
"""Large, or with more powers than are needed here."""

DAEMON = (
    "import bpferry_helper.cli, bpferry_helper.activation, bpferry_helper.bpf.service, "
    "bpferry_helper.bpf.libbpf, bpferry_helper.privilege, bpferry_helper.server, "
    "bpferry_helper.state"
)
"""As cli imports it for the role bpf."""


def loaded_modules() -> dict[str, str | None]:
    """Return every module that the daemon has after its imports, and the file it came from."""
    program = (
        f"import sys; sys.path += ['{installed()}', '/usr/lib/python3/dist-packages']\n{DAEMON}\n"
        "names = {n: getattr(m, '__file__', None) for n, m in sys.modules.items()}\n"
        "import json; print(json.dumps(names))"
    )
    done = subprocess.run(
        [PYTHON, "-I", "-S", "-B", "-c", program],
        capture_output=True, check=True, env={"MSGPACK_PUREPYTHON": "1"},
    )  # fmt: skip
    names: dict[str, str | None] = json.loads(done.stdout)
    return names


def test_the_daemon_loads_no_other_third_party_module() -> None:
    """Msgpack and nothing more; msgpack's own modules are taken as one."""
    third = {
        name.split(".")[0]
        for name, file in loaded_modules().items()
        if file is not None and "/dist-packages/" in file
    }

    assert third == THIRD_PARTY


def test_the_daemon_loads_nothing_heavy() -> None:
    """Each of these would cost start-up time, memory, or trust."""
    assert set() == UNWANTED & {name.split(".")[0] for name in loaded_modules()}


def test_our_own_modules_come_from_one_place() -> None:
    """Neither the environment nor the current folder says what is imported."""
    ours = {
        file
        for name, file in loaded_modules().items()
        if name.startswith("bpferry") and file is not None
    }

    assert all(file.startswith(f"{installed()}/") for file in ours)
    assert len(ours) > 20


def test_the_parser_is_the_one_in_python() -> None:
    """With MSGPACK_PUREPYTHON, as the unit sets it, no C code reads what a client sent."""
    assert not [name for name in loaded_modules() if "_cmsgpack" in name]


def test_a_planted_module_is_not_imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Not from the current folder, and not through the environment."""
    folder = tmp_path_factory.mktemp("planted")
    for name in ("msgpack", "socket", "bpferry_helper"):
        (folder / f"{name}.py").write_text("raise SystemExit('planted')")
    program = (
        f"import sys; sys.path += ['{installed()}', '/usr/lib/python3/dist-packages']; {DAEMON}"
    )
    done = subprocess.run(
        [PYTHON, "-I", "-S", "-B", "-c", program],
        capture_output=True, check=False, cwd=folder,
        env={"PYTHONPATH": str(folder), "PYTHONHOME": "", "PYTHONSTARTUP": "x"},
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, b"")


def test_no_decision_hangs_on_the_wall_clock() -> None:
    """Deadlines, paces and ages go on when somebody sets the clock."""
    sources = sorted((REPOSITORY / "helper").rglob("*.py"))
    clocks = {path.name for path in sources if re.search(r"time\.time|datetime", path.read_text())}

    assert len(sources) > 10
    assert clocks == set()
