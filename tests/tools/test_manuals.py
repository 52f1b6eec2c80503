# SPDX-License-Identifier: LGPL-2.1-or-later
"""Man pages and completions: they say what the parser says, and viewers and shells take them."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from bpferry_helper.cli import HELP
from bpferry_helper.policy.toml_form import CHECKS
from manuals.__main__ import files, write
from manuals.command_pages import blocks
from manuals.commands import Command, all_commands
from manuals.completions import SHELLS, completion
from manuals.text_pages import DOCS, PAGES
from tests import requires

COMMANDS: Final = list(all_commands())

NAMES: Final = sorted(name for name, _ in files() if name.startswith("man/"))


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with all of them."""
    folder = tmp_path_factory.mktemp("share")
    write(folder)
    return folder


def rendered(path: Path) -> str:
    """Return the page as it is read, in one line."""
    return re.sub(r"\s+", " ", laid_out(path, 500))


def laid_out(path: Path, columns: int) -> str:
    """Return the page as it is read in so many *columns*."""
    page = [requires.program("man"), "-l", "-E", "UTF-8", str(path)]
    env = {**os.environ, "MANWIDTH": str(columns), "MAN_KEEP_FORMATTING": "", "LC_ALL": "C.UTF-8"}
    return subprocess.run(page, check=True, capture_output=True, text=True, env=env).stdout


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.page)
def test_a_page_of_a_command_fits_on_a_terminal(share: Path, command: Command) -> None:
    """In 80 columns, also what is not filled."""
    page = laid_out(share / "man" / "man1" / f"{command.page}.1", 80)

    assert [line for line in page.splitlines() if len(line) > 80] == []


def test_text_after_a_list_is_text() -> None:
    """Also if no empty line is between them: it is filled again, and a list is one of items."""
    found = list(blocks("It does:\n  - one,\n    in two lines;\n  - two.\nAll of it.\n\n  a = 1"))

    assert [
        ".PP", "It does:",
        '.IP "\\(bu" 2', "one,", "in two lines;",
        '.IP "\\(bu" 2', "two.",
        ".PP", "All of it.",
        ".PP", ".RS 4n", ".nf", "a = 1", ".fi", ".RE",
    ] == found  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_page_renders_without_warnings(share: Path, name: str) -> None:
    """Neither groff nor mandoc complains."""
    groff = [requires.program("man"), "--warnings", "-E", "UTF-8", "-l", str(share / name)]
    env = {**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80"}
    done = subprocess.run(groff, check=True, capture_output=True, text=True, env=env)
    assert done.stderr == ""

    mandoc = [requires.program("mandoc"), "-T", "lint", "-W", "warning", str(share / name)]
    lint = subprocess.run(mandoc, check=False, capture_output=True, text=True)
    assert lint.stdout + lint.stderr == ""


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.page)
def test_a_command_has_a_page_with_all_of_its_options(share: Path, command: Command) -> None:
    """Each with its help, after the summary and the usage."""
    text = rendered(share / "man" / "man1" / f"{command.page}.1")

    assert f"{command.page} - {command.summary}" in text
    for action in command.parser._actions:
        for option in action.option_strings:
            assert f" {option}" in text
        said = re.sub(r"\s+", " ", (action.help or "").replace("%%", "%"))
        assert said in text, said
    for word in re.findall(r"[^\s'`\"]+", command.parser.epilog or ""):
        assert word.rstrip(":") in text or word.lower().rstrip(":").rstrip("s") in text.lower()


def test_the_policys_page_names_every_key() -> None:
    """Of every table."""
    text = (DOCS / "policy.md").read_text(encoding="utf-8")
    keys = {key.rpartition(".")[2] for key in CHECKS} - {"*"}

    assert {key for key in keys if f"`{key}`" not in text} == set()


def test_the_helpers_page_names_what_its_help_names() -> None:
    """Each command and option."""
    text = (DOCS / "helper.md").read_text(encoding="utf-8")
    usage = HELP.partition("\n\n")[0].removeprefix("usage: ")

    for line in usage.splitlines():
        assert line.strip() in text


def test_no_page_leads_to_a_page_that_is_not_there(share: Path) -> None:
    """Other than those of other programs."""
    ours = {f"{Path(name).stem}({Path(name).suffix[1:]})" for name in NAMES}
    for name in NAMES:
        named = set(re.findall(r"(?<![\w-])bpferry[\w.-]*\([1-8]\)", rendered(share / name)))
        assert named <= ours, name


def test_a_page_for_each_text() -> None:
    """Sections 5, 7 and 8."""
    assert {
        "bpferry.toml.5",
        "bpferry-policy.toml.5",
        "bpferry-protocol.7",
        "bpferry-helper.8",
    } == {f"{page.name}.{page.section}" for page in PAGES}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_completion_is_sound(share: Path, shell: str) -> None:
    """The shell finds no mistake in it."""
    check = [requires.program(shell), "-n", str(share / SHELLS[shell])]
    done = subprocess.run(check, check=False, capture_output=True, text=True)

    assert (0, "") == (done.returncode, done.stdout + done.stderr)


BASH: Final = """
. "$1"
COMP_WORDS=(bpferry {words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
COMP_LINE="${{COMP_WORDS[*]}}" COMP_POINT=${{#COMP_LINE}}
$(complete -p bpferry | sed 's/.*-F \\([^ ]*\\).*/\\1/') bpferry "${{COMP_WORDS[COMP_CWORD]}}" \\
    "${{COMP_WORDS[COMP_CWORD - 1]}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""

FISH: Final = 'source "$argv[1]"; complete -C "bpferry {words}"'


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Make a user's folders with a VM that runs and three that can be started; yield the variables.

    One of them was killed, with one that has no description. What is not a name that a shell takes
    as it is, is there too.
    """
    # The path of a socket is short.
    folder = tmp_path_factory.mktemp("u")
    run = folder / "run" / "bpferry"
    with ExitStack() as stack:
        for name in ("running", "odd_name-0123456789ab", "killed", "web"):
            (run / name).mkdir(parents=True)
            sock = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            sock.bind(str(run / name / "control.sock"))
            sock.listen()
            if name in ("killed", "web"):
                sock.close()
            (folder / "state" / "bpferry" / name).mkdir(parents=True)
            (folder / "state" / "bpferry" / name / "log").touch()
        vms = folder / "config" / "bpferry" / "vms"
        vms.mkdir(parents=True)
        for name in ("web.toml", "db.v2.xml", "running.toml", "$(touch hacked).toml", "no.txt"):
            (vms / name).touch()
        yield {
            **os.environ,
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": f"{folder}/run/",
            "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_STATE_HOME": str(folder / "state"),
        }


def completed(shell: str, words: str, file: Path, env: dict[str, str], folder: Path) -> list[str]:
    """Return what *shell* offers after *words*, without what it says about each."""
    script = (BASH if shell == "bash" else FISH).format(words=words)
    options = ["--norc", "-c"] if shell == "bash" else ["--no-config", "-c"]
    argv = [
        requires.program(shell),
        *options,
        script,
        *(["-"] if shell == "bash" else []),
        str(file),
    ]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, env=env, cwd=folder)
    assert done.stderr == ""
    return [line.partition("\t")[0] for line in done.stdout.splitlines()]


@pytest.mark.parametrize("shell", ["bash", "fish"])
@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("status", ["running"]),
        ("stop", ["running"]),
        ("console", ["running"]),
        ("steering", ["running"]),
        ("start", ["db.v2", "running", "web"]),
        ("log", ["db.v2", "killed", "running", "web"]),
    ],
)
def test_names_of_vms_complete(
    *, share: Path, home: dict[str, str], tmp_path: Path, shell: str, command: str, names: list[str]
) -> None:
    """Those that run, or that can be started, each once; nothing in a name is carried out."""
    words = f"{command} ''" if shell == "bash" else f"{command} "

    found = completed(shell, words, share / SHELLS[shell], home, tmp_path)

    assert names == sorted(set(found) - {""})
    assert len(found) == len(set(found))
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_a_vm_is_run_by_its_name_or_its_file(
    share: Path, home: dict[str, str], tmp_path: Path, shell: str
) -> None:
    """Both complete, for the commands that take either."""
    (tmp_path / "weather.toml").touch()
    file = share / SHELLS[shell]

    for command in ("run", "check"):
        found = completed(shell, f"{command} we", file, home, tmp_path)
        assert ["weather.toml", "web"] == sorted(found)


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_commands_and_options_complete(
    share: Path, home: dict[str, str], tmp_path: Path, shell: str
) -> None:
    """As the parser has them."""
    file = share / SHELLS[shell]
    known = {command.words[0] for command in COMMANDS if len(command.words) == 1}

    assert {name for name in known if name.startswith("c")} == set(
        completed(shell, "c", file, home, tmp_path)
    )
    assert ["--dry-run"] == [
        word.partition("=")[0] for word in completed(shell, "run --dry", file, home, tmp_path)
    ]


def test_zsh_loads_its_file(share: Path, home: dict[str, str]) -> None:
    """With compinit, as a user's shell does, which finds it by its first line."""
    folder = share / Path(SHELLS["zsh"]).parent
    script = (
        f"fpath=({folder} $fpath); autoload -U compinit; compinit -u -D; "
        "print $_comps[bpferry]; autoload +X _bpferry; "
        'functions _bpferry_logged >/dev/null || source "$fpath[1]/_bpferry"; '
        'compadd() { print -l -- "${(P)@[-1]}" }; _bpferry_logged -a found'
    )
    zsh = [requires.program("zsh"), "-f", "-c", script]
    done = subprocess.run(zsh, check=False, capture_output=True, text=True, env=home)

    assert done.stdout.splitlines() == ["_bpferry", "db.v2 killed running web"], done.stderr


def test_all_is_made_by_one_command(tmp_path: Path) -> None:
    """As tools/install runs it."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-m", "manuals", str(tmp_path)], check=True, env=env)

    made = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert made == {name for name, _ in files()}
    assert completion("bash").startswith("# AUTOMATICALLY GENERATED")
