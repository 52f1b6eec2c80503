# SPDX-License-Identifier: LGPL-2.1-or-later
"""Manners that all commands share: their help, and how they say that something is wrong."""

import argparse
import itertools
import json
import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from bpferry.cli.main import main
from bpferry.cli.options import build_parser
from bpferry.cli.runners import RUNNERS
from manuals.commands import Command, all_commands, subcommands

COMMANDS: Final = list(all_commands())

LEAVES: Final = [command for command in COMMANDS if not subcommands(command.parser)]
"""Those that do something."""

EXAMPLES: Final = re.compile(r"^examples?:\n((?:  .*\n|\n)+)", re.MULTILINE)

AMOUNTS: Final = ("N", "SECONDS", "SIZE", "BYTES", "RATE", "MS", "HZ", "COUNT")
"""What stands for a number in a help text."""

INTERACTIVE: Final = ("console", "ssh", "vnc", "spice", "varlink", "fds")
"""Commands that give the terminal or a socket to something else, and print nothing for programs."""

Captured = pytest.CaptureFixture[str]


def by_page(command: Command) -> str:
    """Return the name of a test about *command*."""
    return command.page


def examples(command: Command) -> list[str]:
    """Return the examples in the help of *command*, each in one line and without its comment."""
    found = EXAMPLES.search(f"{command.parser.epilog or ''}\n")
    lines = found[1].replace("\\\n", " ").splitlines() if found else []
    return [re.split(r"  +", line.strip(), maxsplit=1)[0] if "   " in line.strip() else line.strip()
            for line in lines if line.strip()]  # fmt: skip


def minimal(command: Command) -> list[str]:
    """Return words that *command* takes, about a VM and files that are not there."""
    words = [*command.words]
    for action in command.parser._actions:
        if action.required and action.option_strings:
            words += [action.option_strings[0], "/nowhere/file"]
    for action in command.parser._actions:
        if not action.option_strings and action.nargs not in ("?", "*"):
            is_file = "FILE" in str(action.metavar) or action.dest == "file"
            words.append("/nowhere/vm.toml" if is_file else "nosuchvm")
    return words


def run(
    words: list[str], folder: Path, terminal: int | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run bpferry as a user without any VM or helper."""
    env = {name: text for name, text in os.environ.items() if name != "NO_COLOR"}
    env |= {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "HOME": str(folder),
        "XDG_RUNTIME_DIR": str(folder / "run"),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_DATA_HOME": str(folder / "data"),
        "BPFERRY_TAP_SOCKET": str(folder / "tap.sock"),
        "BPFERRY_BPF_SOCKET": str(folder / "bpf.sock"),
        **environment,
    }
    return subprocess.run(
        [sys.executable, "-m", "bpferry", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if terminal is None else terminal,
        stderr=subprocess.PIPE if terminal is None else terminal,
        text=True,
        check=False,
        env=env,
        timeout=60,
    )


def test_every_command_can_be_run() -> None:
    """What the parser knows has a runner, and the other way round."""
    hidden = {"receive"}  # ssh starts it, for bpferry migrate
    listed = {command.words[0] for command in COMMANDS if command.words}
    assert listed | hidden == set(RUNNERS)


@pytest.mark.parametrize("command", COMMANDS, ids=by_page)
def test_help_fits_into_80_columns(command: Command) -> None:
    """No line is longer, and none ends with spaces."""
    lines = command.parser.format_help().splitlines()

    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line.rstrip() != line] == []


@pytest.mark.parametrize("command", LEAVES, ids=by_page)
def test_help_has_an_example(command: Command) -> None:
    """At least one of the command itself."""
    assert [line for line in examples(command) if line.startswith(f"{command.prog}")]


SHELL = ("|", "<", ">", "&&")
"""Words of the shell, after which a command has ended."""


@pytest.mark.parametrize("command", COMMANDS, ids=by_page)
def test_an_example_is_a_command_line(command: Command) -> None:
    """Each of bpferry's own would be taken as it is."""
    for line in examples(command):
        program, *words = itertools.takewhile(lambda word: word not in SHELL, shlex.split(line))
        if words[:1] == ["exec"]:
            # What it is to start is cut off before its words are read.
            words = list(itertools.takewhile(lambda word: word != "--", words))
        if program == "bpferry":
            build_parser().parse_args(
                ["--dry-run=text" if word == "--dry-run" else word for word in words]
            )


@pytest.mark.parametrize("command", COMMANDS, ids=by_page)
def test_an_amount_has_a_default(command: Command) -> None:
    """Each option that takes a number or a size says what holds without it."""
    for action in command.parser._actions:
        if action.option_strings and action.metavar in AMOUNTS and not action.required:
            assert "default" in str(action.help), action.option_strings


@pytest.mark.parametrize("command", COMMANDS, ids=by_page)
def test_help_is_written_alike(command: Command) -> None:
    """Summaries and helps of options begin with a small letter and have no full stop."""
    told = [command.summary, *(one.help for one in command.parser._actions)]
    for text in filter(None, told):
        assert not text.endswith("."), text
        assert text[0].islower() or text.split()[0][1:].upper() == text.split()[0][1:], text


@pytest.mark.parametrize("command", COMMANDS, ids=by_page)
def test_wrong_usage_has_one_shape(command: Command, capsys: Captured) -> None:
    """Status 2, one error and one hint, which leads to the help of the command."""
    assert main([*minimal(command), "--no-such-option"]) == 2

    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(
        r"bpferry: error: wrong usage: [^\n]*[^.\n]\n"
        r"bpferry: hint: (did you mean '\S+'\? S|s)ee: "
        rf"{command.prog if command in LEAVES else 'bpferry[a-z -]*'} --help\n",
        said.err,
    ), said.err


@pytest.fixture(scope="module", params=LEAVES, ids=by_page)
def failed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> subprocess.CompletedProcess[str]:
    """Return what came of each command with a file or a VM that is not there."""
    return run(minimal(request.param), tmp_path_factory.mktemp("nobody"))


def test_a_failure_has_one_shape(failed: subprocess.CompletedProcess[str]) -> None:
    """Lines of ours on standard error, and none of Python's."""
    done = failed

    assert done.returncode in range(6)
    lines = done.stderr.splitlines()
    assert [line for line in lines if not line.startswith("bpferry: ")] == []
    assert "Traceback" not in done.stderr
    errors = [line for line in lines if line.startswith("bpferry: error: ")]
    if errors:
        assert done.returncode != 0
        assert lines[lines.index(errors[-1]) + 1].startswith("bpferry: hint: "), done.stderr
        assert not errors[0].endswith(".")
        assert errors[0].removeprefix("bpferry: error: ")[0] not in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def test_every_command_has_json() -> None:
    """Except where a program could not use it."""
    without = [
        command.words
        for command in LEAVES
        if not any("--json" in action.option_strings for action in command.parser._actions)
    ]

    assert [words for words in without if words[0] not in INTERACTIVE] == []


@pytest.mark.parametrize(
    "command", [one for one in LEAVES if one.words[0] not in INTERACTIVE], ids=by_page
)
def test_json_is_one_object(command: Command, tmp_path: Path) -> None:
    """Whatever happens; on an error it has a code, a message, a hint and an element."""
    done = run([*minimal(command), "--json"], tmp_path)

    told = json.loads(done.stdout)
    assert isinstance(told, dict)
    if "error" in told and told["error"] is not None:
        assert {"code", "message", "hint", "element"} <= told["error"].keys()
        assert done.returncode != 0
        assert "error:" not in done.stderr


def test_no_colour_in_a_pipe(failed: subprocess.CompletedProcess[str]) -> None:
    """Whatever is said."""
    assert "\x1b" not in failed.stdout + failed.stderr


@pytest.mark.parametrize("command", LEAVES, ids=by_page)
def test_no_colour_where_none_is_wanted(command: Command, tmp_path: Path) -> None:
    """On a terminal with NO_COLOR."""
    assert "\x1b" not in on_terminal(minimal(command), tmp_path, NO_COLOR="1")


def test_colours_on_a_terminal_would_be_found(tmp_path: Path) -> None:
    """The check above can fail: where colours are wanted, there are some."""
    assert "\x1b[" in on_terminal(["doctor"], tmp_path)


def on_terminal(words: list[str], folder: Path, **environment: str) -> str:
    """Return what bpferry prints on a terminal."""
    ours, theirs = pty.openpty()
    try:
        run(words, folder, terminal=theirs, TERM="xterm-256color", **environment)
        os.set_blocking(ours, False)
        try:
            return os.read(ours, 1 << 16).decode()
        except BlockingIOError:
            return ""
    finally:
        os.close(ours)
        os.close(theirs)


def test_the_checks_of_the_help_can_fail() -> None:
    """A command of the test's own has a help as it should not be."""
    parser = argparse.ArgumentParser(prog="bpferry x", epilog="examples:\n  bpferry x --nothing\n")
    parser.add_argument("--size", metavar="SIZE", help="A size.")
    own = Command(("x",), "Do it.", parser)

    with pytest.raises(AssertionError):
        test_an_amount_has_a_default(own)
    with pytest.raises(AssertionError):
        test_help_is_written_alike(own)


def test_closed_standard_output_is_told_of(tmp_path: Path) -> None:
    """In a shell: bpferry list >&-."""
    shell = 'exec "$@" >&-'
    done = subprocess.run(
        ["sh", "-c", shell, "sh", sys.executable, "-m", "bpferry", "list"],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "HOME": str(tmp_path),
            "XDG_RUNTIME_DIR": str(tmp_path),
        },
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr == "bpferry: error: cannot write to standard output: it is closed\n"
