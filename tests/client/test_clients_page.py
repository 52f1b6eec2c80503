# SPDX-License-Identifier: LGPL-2.1-or-later
"""The programs of docs/clients.md, as they stand there, and bpferry fds, with the real helpers."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from bpferry.qemu.probe import probe
from tests.client.support import QEMU
from tests.support.helper_process import running_helper
from tests.support.people import ALICE
from tests.support.tap_process import TapProcess, running_tap_helper

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "clients.md"

CODE: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

FLAGS: Final = ("-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsanitize=address,undefined")

pytestmark = [pytest.mark.privileged, pytest.mark.kernel, pytest.mark.qemu]


@pytest.fixture
def taps(monkeypatch: pytest.MonkeyPatch) -> Iterator[TapProcess]:
    """Run both real helpers where the environment says."""
    with running_helper("") as bpf, running_tap_helper() as tap:
        monkeypatch.setenv("BPFERRY_BPF_SOCKET", str(bpf.path))
        monkeypatch.setenv("BPFERRY_TAP_SOCKET", str(tap.path))
        yield tap


@pytest.fixture(scope="module")
def digest() -> str:
    """Return the digest of the object that the installed QEMU carries."""
    return probe(QEMU).objects["rss"].digest.hex()


@pytest.fixture(params=["python", "c"])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """Return the command that one of the page's programs becomes."""
    [code] = [
        text for language, text in CODE.findall(PAGE.read_text()) if language == request.param
    ]
    if request.param == "python":
        return [sys.executable, "-I", "-c", code]
    (tmp_path / "ask.c").write_text(code)
    ask = tmp_path / "ask"
    subprocess.run(["gcc", *FLAGS, "-o", ask, tmp_path / "ask.c"], check=True)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    return [str(ask)]


def as_alice(command: list[str]) -> "subprocess.Popen[str]":
    """Start *command* as Alice."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True,
        user=ALICE.uid, group=ALICE.gid, extra_groups=[],
    )  # fmt: skip


def test_a_program_of_the_page_gets_a_tap_and_a_set(
    taps: TapProcess, program: list[str], digest: str
) -> None:
    """It has them until it ends, and then they are gone."""
    with as_alice([*program, "br0", "3", digest]) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "tap: 3 fds\n"
        assert running.stdout.readline() == "rss: 4 fds\n"
        assert len(taps.granted_taps()) == 1
        running.communicate()
    assert running.returncode == 0
    assert not taps.granted_taps()


@pytest.mark.usefixtures("taps")
def test_a_program_of_the_page_says_why_not(program: list[str], digest: str) -> None:
    """In the helper's words."""
    with as_alice([*program, "br9", "3", digest]) as running:
        _, told = running.communicate()
    assert "br9" in told
    assert running.returncode == 1


SHOW: Final = (
    "import os; print(os.environ['LISTEN_FDS'], os.environ['LISTEN_PID'] == str(os.getpid()));"
    "print(os.environ['LISTEN_FDNAMES']);"
    "print(*sorted(int(fd) for fd in os.listdir('/proc/self/fd')), flush=True);"
    "import sys; sys.stdin.read(); sys.exit(7)"
)


def fds(*words: str) -> list[str]:
    """Return the command ``bpferry fds`` with *words*."""
    return [sys.executable, "-m", "bpferry", "fds", *words]


@pytest.fixture
def _our_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let Alice run bpferry, with a folder for what it notes about QEMU."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    tmp_path.chmod(0o777)
    for folder in tmp_path.parents[:2]:
        folder.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.usefixtures("_our_code")
def test_a_program_has_the_fds_from_number_three_on(taps: TapProcess) -> None:
    """First the program and the maps, then the queues; nothing else, and the status is its own."""
    words = ["--object", "rss", "--bridge", "br0", "--queues", "3"]
    with as_alice(fds(*words, "--exec", sys.executable, "-c", SHOW)) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "7 True\n"
        names = running.stdout.readline().split(":")
        assert names[0] == "tun_rss_steering_prog"
        [tap] = taps.granted_taps()
        assert [name.strip() for name in names[4:]] == [tap.name] * 3
        open_fds = running.stdout.readline().split()
        assert open_fds[:10] == [str(number) for number in range(10)]
        assert len(open_fds) <= 11, "one more is the listing itself"
        running.communicate()
    assert running.returncode == 7
    assert not taps.granted_taps()


@pytest.mark.usefixtures("_our_code")
@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["--bridge", "br0", "--exec", "/nowhere/at-all"], 1, "cannot start '/nowhere/at-all'"),
        (["--bridge", "br9", "--exec", "true"], 1, "br9"),
        (["--object", "x", "--exec", "true"], 2, "carries no eBPF object 'x'"),
        (["--exec", "true"], 2, "no '--object', '--bridge' or '--network' is given"),
        (["--object", "rss", "--queues", "2", "--exec", "true"], 2, "are for a tap"),
        (["--bridge", "br0", "--qemu", QEMU, "--exec", "true"], 2, "is for an '--object'"),
        (["--bridge", "br0", "--exec"], 2, "no program follows"),
        (["--bridge", "br0"], 2, "--exec"),
    ],
)
def test_what_cannot_be_started_is_told_and_nothing_stays(
    taps: TapProcess, words: list[str], status: int, told: str
) -> None:
    """Before a helper is asked, where that is possible."""
    with as_alice(fds(*words)) as running:
        _, said = running.communicate()
    assert told in said
    assert running.returncode == status
    assert not taps.granted_taps()
