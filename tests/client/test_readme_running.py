# SPDX-License-Identifier: LGPL-2.1-or-later
"""The README's commands for a VM that runs, each done as it is there to a real VM called 'web'."""

import contextlib
import json
import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

from bpferry.cli import reach
from bpferry.cli.main import main
from bpferry.cli.options import build_parser
from bpferry.commandline.characters.channels import AGENT
from bpferry_wire.messages import TapReply
from tests.client import fake_helper as fake
from tests.client import guest, taps
from tests.client.hot_plug.vm import NATIVE
from tests.client.running import Run, start, state
from tests.client.support import wait_until
from tests.client.test_guest_addresses import agent, interface

pytestmark = pytest.mark.qemu

README: Final = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")

CONSOLES: Final = re.findall(r"^```console\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
"""Commands to copy, each with a comment."""

[BLOCK] = re.findall(
    r"^<!-- bpferry list, save and run --restore -->\n```text\n\$ (.*?)^```",
    README,
    re.MULTILINE | re.DOTALL,
)

[LOOKING] = re.findall(
    r"^<!-- bpferry status, pause, resume, screenshot, vnc, ip and ssh -->\n```text\n\$ (.*?)^```",
    README,
    re.MULTILINE | re.DOTALL,
)


def session(block: str) -> list[tuple[list[str], str]]:
    """Return the commands of a *block*, and what each prints."""
    parts = (part.partition("\n") for part in block.split("\n$ "))
    return [(shlex.split(command)[1:], shown) for command, _, shown in parts]


[PLUGGED] = re.findall(r"^```text\n('web' has the card.*?)^```", README, re.MULTILINE | re.DOTALL)

VARIES: Final = re.compile(
    r"([0-9a-f]{2}(?::[0-9a-f]{2}){5}|bft[0-9a-f]+|[0-9a-f]{16}\.\.\.|\d+\.\d+\.\d+|'/[^']*'"
    r"|\d+ (?:s|min|h)\b|\d+ [MG]iB| +\d+$| {2,})",
    re.MULTILINE,
)
"""Addresses, versions, paths, times, and numbers of processes: another VM has others."""

WEB: Final = f"""\
name = "web"
memory = "64 MiB"
vcpus = 4
accelerator = "tcg"
qemu-arguments = {list(NATIVE)}
[[serials]]
type = "stdio"
[[disks]]
file = "web.qcow2"
format = "qcow2"
[[cards]]
type = "user"
""".replace("'", '"')

DONE: Final = (
    "list", "status", "pause", "resume", "reset", "snapshot",
    "attach-nic", "set-link", "detach-nic", "attach-disk", "detach-disk",
)  # fmt: skip
"""In this order. What ends the VM comes after them."""

GREETING: Final = "hello from the boot sector"

PATIENCE: Final = ("--timeout", "240")
"""For a guest that boots on a busy machine; the commands have 20 seconds."""


def commands(block: str) -> list[list[str]]:
    """Return the commands of bpferry in a *block*, without the program's name."""
    split = [shlex.split(line, comments=True) for line in block.splitlines()]
    return [words[1:] for words in split if words[:1] == ["bpferry"]]


def named(*names: str) -> list[list[str]]:
    """Return the README's commands called *names*, in the order of these."""
    found = [words for block in CONSOLES for words in commands(block)]
    return [words for name in names for words in found if words[0] == name]


def plain(text: str) -> list[str]:
    """Return the lines of *text* without what is different each time."""
    text = re.sub("starts with .*", "starts", text)
    return [VARIES.sub("~", line).rstrip("~ ") for line in text.splitlines()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that all is done in, with the disks that the README names."""
    monkeypatch.chdir(tmp_path)
    for variable in ("XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    guest.write_obedient_disk(tmp_path / "raw")
    for name in ("web", "data"):
        convert = ["qemu-img", "convert", "-O", "qcow2", "raw", f"{name}.qcow2"]
        subprocess.run(convert, check=True)
    (tmp_path / "web.toml").write_text(WEB, encoding="utf-8")
    return tmp_path


@pytest.fixture
def web(folder: Path, namespace: str) -> Iterator[Run]:
    """Run the VM; helpers of the tests' own give one tap with four queues, and sets."""
    bridge = ["ip", "-netns", namespace, "link", "add", "br0", "type", "bridge"]
    subprocess.run(bridge, check=True)
    gives = fake.gives_tap(taps.made(namespace, 4, bridge="br0"), TapReply(taps.NAME, "br0", 1500))
    with (
        fake.helper(folder / "tap.sock", gives),
        fake.helper(folder / "bpf.sock", fake.grants()),
        start(folder, WEB) as run,
    ):
        assert wait_until(lambda: state() == "running", 60), run.err()
        assert run.says(GREETING), run.err()
        yield run


def test_every_command_of_the_readme_is_taken() -> None:
    """By the parser: no option and no command is there that bpferry does not have."""
    for block in CONSOLES:
        for words in commands(block):
            # What exec is to start is cut off before its words are read.
            own = words[: words.index("--")] if words[0] == "exec" else words
            taken = [word.replace("--dry-run", "--dry-run=text") for word in own]
            assert words[0] == build_parser().parse_args(taken).command


@pytest.mark.privileged
@pytest.mark.kernel
def test_vm_that_runs_does_all_that_the_readme_says(
    web: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command ends with 0; what is printed of a plugged card is as there."""
    for words in named(*DONE):
        patience = PATIENCE if words[0].startswith("detach") else ()
        assert main((*words, *patience)) == 0, (words, capsys.readouterr())
        said = capsys.readouterr().out
        if words[0] == "reset":
            # A card that comes while the firmware starts is the firmware's, which lets go of none.
            assert wait_until(lambda: web.out().count(GREETING) > 1, 60), web.err()
        if words[0] == "attach-nic":
            assert plain(PLUGGED) == plain(said)
    # The second way to stop it, with its deadline, finds none.
    (stop, late) = named("stop")
    assert (0, 1) == (main(tuple(stop)), main(tuple(late)))
    assert web.status() == 0


def test_session_of_the_readme(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The VM is listed and saved, and goes on where it was, with the words of the README."""
    *asked, (restore, told) = session(BLOCK)
    with start(folder, WEB) as run:
        assert run.says(GREETING), run.err()
        for words, shown in asked:
            assert main(words) == 0
            assert plain(shown) == plain(capsys.readouterr().out)
        assert run.status() == 0
    with start(folder, WEB, *restore[1:-1]) as run:
        assert run.says(told.splitlines()[-1]), run.err()
        said = plain(run.err())
        assert [line for line in plain(told) if line not in said] == []


[TOML, *_] = re.findall(r"^```toml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)

SEEN_BY_PEOPLE: Final = f"""\
accelerator = "tcg"
qemu-arguments = {list(NATIVE)}
{TOML}
[[videos]]
model = "vga"
[[graphics]]
type = "vnc"
[[channels]]
type = "unix"
name = "org.qemu.guest_agent.0"
""".replace("'", '"')
"""The README's own description, with what it says that a screen and addresses need."""

ADDRESSES: Final = ("192.0.2.17", "2001:db8::17")


def masked(text: str) -> list[str]:
    """Return the lines of *text* that do not depend on a guest's driver, without what varies."""
    text = re.sub(r"\(QEMU: \d+\)|pid +\d+|59\d\d|(?<= )/\S+", "~", text)
    # Only a guest with a driver is seen to steer (tests/steering).
    return [line for line in plain(text) if "seen:" not in line]


@pytest.mark.privileged
@pytest.mark.kernel
def test_looking_at_the_vm_of_the_readme(
    folder: Path,
    namespace: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each command prints what is there; the guest's agent and its ssh are the test's own."""
    bridge = ["ip", "-netns", namespace, "link", "add", "br0", "type", "bridge"]
    subprocess.run(bridge, check=True)
    gives = fake.gives_tap(taps.made(namespace, 4, bridge="br0"), TapReply(taps.NAME, "br0", 1500))
    called: list[Sequence[str]] = []
    monkeypatch.setattr(reach, "problem_of", lambda _way: "")
    monkeypatch.setattr(reach, "become", called.append)
    with (
        fake.helper(folder / "tap.sock", gives),
        fake.helper(folder / "bpf.sock", fake.grants()),
        start(folder, SEEN_BY_PEOPLE) as run,
    ):
        assert run.says(GREETING), run.err()
        assert wait_until(lambda: state() == "running", 60), run.err()
        assert main(("status", "--json", "web")) == 0
        told = json.loads(capsys.readouterr().out)
        [socket] = [Path(one["path"]) for one in told["endpoints"] if one["name"] == AGENT]
        answer = {"return": [interface(told["cards"][0]["mac"], *ADDRESSES)]}
        for words, shown in session(LOOKING):
            socket.unlink(missing_ok=True)
            asks = words[0] in ("status", "ip", "ssh")
            with agent(socket, answer) if asks else contextlib.nullcontext():
                assert main(words) in (0, None), capsys.readouterr()
            said = capsys.readouterr().out
            if words[0] != "ssh":
                assert masked(shown) == masked(said)
    [ssh] = called
    assert ssh[0] == "ssh"
    assert list(ssh[-4:]) == ["--", ADDRESSES[0], "uname", "-n"]
    assert (folder / "web.png").read_bytes().startswith(b"\x89PNG")
