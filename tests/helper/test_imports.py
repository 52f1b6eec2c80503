# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the helper loads: little, and nothing of it by accident."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.helper_process import PYTHON, installed, module_path
from tests.support.tap_process import granted, running_tap_helper, tap_on

REPOSITORY = Path(__file__).parents[2]

pytestmark = pytest.mark.privileged

THIRD_PARTY = {"bpf": {"msgpack"}, "tap": {"msgpack", "pyroute2"}}
"""The literal list. Adding one is a reviewed act."""

UNWANTED = {
    "asyncio", "dataclasses", "json", "logging", "subprocess", "hashlib", "_hashlib", "_ssl",
    "inspect", "pickle", "random", "tempfile", "urllib", "http", "email", "argparse", "tomllib",
    "concurrent", "multiprocessing", "unittest", "xml", "pyroute2", "typing_extensions",
}  # fmt: skip
"""Large, or with more powers than are needed here."""

BY_THE_CODECS = {
    "bpf": set[str](),
    "tap": {"pyroute2", "logging", "random", "hashlib", "_hashlib"},
}
"""What the message codecs of pyroute2 import for themselves; the last three with 0.9."""

PYROUTE2 = {"common", "config", "netlink"}
"""What is loaded of it: no socket, no "iproute", none of its servers and databases."""

MAX_RESIDENT_KIB = 40 * 1024

COMMON = (
    "import bpferry_helper.cli, bpferry_helper.activation, bpferry_helper.privilege, "
    "bpferry_helper.server, "
)
DAEMON = {
    "bpf": (
        f"{COMMON} bpferry_helper.bpf.libbpf, bpferry_helper.bpf.service, bpferry_helper.bpf.state"
    ),
    "tap": f"{COMMON} bpferry_helper.tap.service, bpferry_helper.tap.netlink",
}
"""As cli imports it for each role."""

ROLES = pytest.mark.parametrize("role", ["bpf", "tap"])


def loaded_modules(role: str) -> dict[str, str | None]:
    """Return every module that the daemon has after its imports, and the file it came from."""
    program = (
        f"import sys; sys.path += {module_path()}\n{DAEMON[role]}\n"
        "names = {n: getattr(m, '__file__', None) for n, m in sys.modules.items()}\n"
        "import json; print(json.dumps(names))"
    )
    done = subprocess.run(
        [PYTHON, "-I", "-S", "-B", "-c", program],
        capture_output=True, check=True, env={"MSGPACK_PUREPYTHON": "1"},
    )  # fmt: skip
    names: dict[str, str | None] = json.loads(done.stdout)
    return names


@ROLES
def test_the_daemon_loads_no_other_third_party_module(role: str) -> None:
    """The list and nothing more; the modules of one package are taken as one."""
    third = {
        name.split(".")[0]
        for name, file in loaded_modules(role).items()
        if file is not None and "/dist-packages/" in file
    }

    # The package that replaces pyroute2 itself comes from no file, its parts do.
    assert third == THIRD_PARTY[role]


@ROLES
def test_the_daemon_loads_no_command_of_administrators(role: str) -> None:
    """What no service needs runs with no capability."""
    loaded = loaded_modules(role)

    assert "bpferry_helper.cli" in loaded
    assert not {"bpferry_helper.slurm", "bpferry_helper.status"} & set(loaded)


@ROLES
def test_the_daemon_loads_nothing_heavy(role: str) -> None:
    """Each of these would cost start-up time, memory, or trust."""
    heavy = UNWANTED & {name.split(".")[0] for name in loaded_modules(role)}

    assert set() == heavy - BY_THE_CODECS[role]


def test_of_pyroute2_only_the_codecs_are_loaded() -> None:
    """Its own package body, which loads all the rest, is never run."""
    loaded = loaded_modules("tap")
    parts = {name.split(".")[1] for name in loaded if name.startswith("pyroute2.")}

    assert (PYROUTE2, None) == (parts, loaded["pyroute2"])
    assert "pyroute2.netlink.rtnl.iw" not in loaded
    assert len([name for name in loaded if name.startswith("pyroute2.")]) < 80


@pytest.mark.parametrize("queues", [1, 64])
def test_the_role_tap_is_small(queues: int) -> None:
    """With its spares, after the first taps."""
    with running_tap_helper() as helper:
        for _ in range(5):
            granted(helper, tap_on(queues=queues))[1].close()
        status = Path(f"/proc/{helper.pid}/status").read_text()
    resident = re.search(r"VmRSS:\s+(\d+) kB", status)

    assert resident is not None
    assert int(resident[1]) <= MAX_RESIDENT_KIB


@ROLES
def test_our_own_modules_come_from_one_place(role: str) -> None:
    """Neither the environment nor the current folder says what is imported."""
    ours = {
        file
        for name, file in loaded_modules(role).items()
        if name.startswith("bpferry") and file is not None
    }

    assert all(file.startswith(f"{installed()}/") for file in ours)
    assert len(ours) > 20


@pytest.mark.parametrize(("role", "other"), [("bpf", "tap"), ("tap", "bpf")])
def test_a_role_does_not_load_the_other(role: str, other: str) -> None:
    """Each process has the code of one role, and has not read a policy file yet."""
    loaded = loaded_modules(role)

    assert f"bpferry_helper.{role}.service" in loaded
    assert not [name for name in loaded if name.startswith(f"bpferry_helper.{other}")]
    assert "bpferry_helper.policy.toml_form" not in loaded


@ROLES
def test_the_parser_is_the_one_in_python(role: str) -> None:
    """With MSGPACK_PUREPYTHON, as the unit sets it, no C code reads what a client sent."""
    assert not [name for name in loaded_modules(role) if "_cmsgpack" in name]


@ROLES
def test_a_planted_module_is_not_imported(
    tmp_path_factory: pytest.TempPathFactory, role: str
) -> None:
    """Not from the current folder, and not through the environment."""
    folder = tmp_path_factory.mktemp("planted")
    for name in ("msgpack", "socket", "bpferry_helper", "pyroute2"):
        (folder / f"{name}.py").write_text("raise SystemExit('planted')")
    program = f"import sys; sys.path += {module_path()}; {DAEMON[role]}"
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
