# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command's contract: help, exit statuses, one JSON object."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bpferry.cli.main import main
from bpferry.cli.often import OFTEN
from bpferry.cli.options import build_parser
from bpferry.cli.parser import parser_of
from manuals.commands import all_commands
from tests import requires
from tests.client.support import script
from tests.support.old_qemu import old_qemu

COMMANDS = [" ".join(command.words) for command in all_commands() if command.words]
CARD = '[[cards]]\ntap = "tap0"\nqueues = 4\n'


@pytest.fixture
def description(tmp_path: Path) -> Path:
    """Write a VM with one card whose tap and kernel do not exist."""
    path = tmp_path / "vm.toml"
    path.write_text(
        f'name = "t"\nmemory = "32 MiB"\naccelerator = "tcg"\nkernel = "/none"\n{CARD}',
        encoding="utf-8",
    )
    return path


LIST_MODULES = """
import sys
from bpferry.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print(*sorted(sys.modules), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "words",
    [["--help"], ["--version"], ["tap", "create"], ["nonsense"]]
    + [[*command.split(), "--help"] for command in COMMANDS],
)
def test_help_is_cheap(words: list[str]) -> None:
    """Help, version and wrong usage load neither QMP nor msgspec nor asyncio."""
    done = subprocess.run(
        [sys.executable, "-c", LIST_MODULES, *words],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )

    loaded = set(done.stderr.splitlines()[-1].split())
    assert loaded & {"qemu", "qemu.qmp", "msgspec", "asyncio", "msgpack", "ctypes"} == set()
    assert "bpferry.cli.main" in loaded


@pytest.mark.parametrize("command", OFTEN)
def test_a_command_that_is_to_be_fast_has_the_same_options(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own parser, which knows no other command, takes the same words."""
    for parser in (parser_of(OFTEN[command]), build_parser()):
        with pytest.raises(SystemExit):
            parser.parse_args([command, "--help"])

    help_text = capsys.readouterr().out
    assert help_text == 2 * help_text[: len(help_text) // 2]


@pytest.mark.parametrize(
    "words", [["--help"], *([*command.split(), "--help"] for command in COMMANDS)]
)
def test_help_fits_a_terminal(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """No line of a help text is longer than 80 columns."""
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args(words)

    assert ended.value.code == 0
    assert max(len(line) for line in capsys.readouterr().out.splitlines()) <= 80


def test_help_lists_exit_statuses_and_the_variables(capsys: pytest.CaptureFixture[str]) -> None:
    """The help says what each exit status means, and which variables are read."""
    with pytest.raises(SystemExit):
        main(["--help"])

    text = capsys.readouterr().out
    assert all(f"\n  {status}    " in text for status in range(6))
    assert "BPFERRY_BPF_SOCKET" in text
    assert "BPFERRY_TAP_SOCKET" in text


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["walk"],
        ["run"],
        ["run", "--dry", "x"],
        ["run", "--dry-run=xml", "x"],
        ["run", "x", "y"],
        ["tap"],
        ["tap", "create"],
        ["tap", "create", "br0", "--queues", "0"],
        ["tap", "create", "br0", "--queues", "65"],
        ["tap", "create", "br0", "--queues", "-1"],
        ["tap", "create", "br0", "--mtu", "67"],
        ["tap", "create", "br0", "--mac", "52:54:00:00:00"],
        ["tap", "create", "br0", "--mac", "01:54:00:00:00:00"],
        ["tap", "create", "br0", "--mac", "00:00:00:00:00:00"],
        ["tap", "create", "br0", "--que", "1"],
        ["tap", "create", ""],
        ["tap", "create", "a-bridge-of-16-b"],
        ["tap", "create", "\udcff"],
        ["tap", "create", "n" * 65, "--network"],
        ["tap", "list", "br0"],
        ["tap", "delete"],
        ["tap", "delete", "a-bridge-of-16-b"],
        ["can-i", "--bridge", "br0", "--network", "lan"],
        ["can-i", "--bridge", ""],
        ["can-i", "--ebpf", "--queues", "4"],
        ["can-i", "--vhost", "--mtu", "1500"],
    ],
)
def test_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong usage is status 2, with an error and a hint."""
    assert main(words) == 2
    said = capsys.readouterr()
    if "--json" in words:
        assert json.loads(said.out)["error"]["code"] == "bad-input"
    else:
        assert re.match("bpferry: error: wrong usage: .*\nbpferry: hint: .", said.err)


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["run", "--nonsense", "x.toml"], "bpferry run"),
        (["run", "x.toml", "y.toml"], "bpferry run"),
        (["check", "--secret", "x", "y.toml"], "bpferry check"),
        (["convert", "x.toml", "--ot", "xml"], "bpferry convert"),
        (["tap", "create", "br0", "br1"], "bpferry tap create"),
        (["walk"], "bpferry"),
    ],
)
def test_wrong_usage_leads_to_the_help_of_its_command(
    words: list[str], command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The hint names the command that was meant, also for what no command knows."""
    assert main(words) == 2
    said = capsys.readouterr().err.lower()
    assert said.endswith(f"see: {command} --help\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_usage_has_all_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is below in a help text is in its first lines too."""
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])

    usage, _, rest = capsys.readouterr().out.partition("\n\n")
    described = set(re.findall(r"^  (?:-h, )?(--[a-z-]+)", rest, re.MULTILINE))
    assert described - {"--help"} <= set(re.findall(r"--[a-z-]+", usage))


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--json"],
        ["run", "--dry-run=json", "/nowhere.toml"],
        ["run", "--json", "/nowhere.toml"],
        ["capabilities", "--json", "/nowhere"],
    ],
)
def test_failure_as_json(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """With --json, a failure is one object on standard output."""
    assert main(words) in (1, 2)
    assert set(json.loads(capsys.readouterr().out)["error"]) == {
        "code",
        "message",
        "hint",
        "element",
    }


@pytest.mark.qemu
def test_dry_run_as_json(description: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A dry run prints argv, requests, nics and warnings, and needs nothing that it names."""
    assert main(["run", "--dry-run=json", str(description)]) == 0

    answer = json.loads(capsys.readouterr().out)
    assert list(answer) == [
        "argv", "requests", "nics", "companions", "commands", "plugged_in", "affinity",
        "scheduling", "stop_timeout", "limits", "findings", "warnings", "errors",
    ]  # fmt: skip
    assert [(r["service"], r["op"], r["id"], r["for"]) for r in answer["requests"]] == [
        ("bpf", "load", "rss", "net0")
    ]
    assert len(bytes.fromhex(answer["requests"][0]["digest"])) == 32
    assert [(n["id"], n["steering"], n["vhost"], n["queues"]) for n in answer["nics"]] == [
        ("net0", "qemu", False, 4)  # no helper is there to load the eBPF object
    ]
    file, tap = answer["errors"]
    assert file["message"].endswith("'kernel': cannot read '/none': No such file or directory")
    assert (file["code"], file["element"]) == ("not-ready", "kernel")
    assert "cannot open the tap" in tap["message"]


@pytest.mark.qemu
def test_dry_run_as_text_can_be_pasted(
    description: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The text is a shell command with the reasons as comments; its words are argv."""
    main(["run", "--dry-run=json", str(description)])
    argv = json.loads(capsys.readouterr().out)["argv"]

    assert main(["run", "--dry-run", str(description)]) == 0
    text = capsys.readouterr().out.replace("\\\n", "")
    assert argv == shlex.split(text, comments=True)


@pytest.mark.qemu
def test_required_ebpf_on_an_old_qemu(
    description: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A QEMU without eBPF cannot fulfil --require-ebpf: status 3."""
    requires.mmdebstrap()
    text = description.read_text(encoding="utf-8")
    description.write_text(f'qemu = "{old_qemu(tmp_path)}"\n{text}', encoding="utf-8")

    assert main(["run", "--dry-run=json", "--require-ebpf", str(description)]) == 3
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["element"]) == ("unsupported", "cards[0]")


@pytest.mark.qemu
def test_capabilities(capsys: pytest.CaptureFixture[str]) -> None:
    """The capabilities of the usual QEMU are printed, as text and as one object."""
    assert main(["capabilities"]) == 0
    assert "virtio-net 'ebpf-rss-fds'    yes" in capsys.readouterr().out

    assert main(["capabilities", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["ebpf"]["rss"]["bytes"] > 1000
    assert set(answer["virtio_net"].items()) >= {("rss", True), ("ebpf-rss-fds", True)}


def test_capabilities_of_a_bad_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A program that is not a QEMU is status 1, in its own words."""
    assert main(["capabilities", script(tmp_path, "echo no machine today >&2; exit 7")]) == 1

    lines = capsys.readouterr().err.splitlines()
    assert "(exit status 7)" in lines[0]
    assert lines[1] == "bpferry: hint: it said: no machine today"


def test_options_without_a_value_have_a_line_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A dry run's text has one option on each line, with its value if it has one."""
    description = tmp_path / "vm.xml"
    description.write_text(
        "<domain type='qemu'><name>t</name><memory unit='MiB'>32</memory>"
        "<os><type>hvm</type></os><on_reboot>destroy</on_reboot>"
        "<cputune><emulatorpin cpuset='0'/></cputune></domain>"
    )

    assert main(["run", "--dry-run", str(description)]) == 0
    lines = [line.strip(" \\") for line in capsys.readouterr().out.splitlines()]
    assert {"-S", "-nodefaults", "-no-reboot"} <= set(lines)
    assert all(line.startswith("-") for line in lines if not line.startswith(("#", "/")))


INTERRUPTED = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "bpferry.cli.runners":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
from bpferry.cli.main import main
"""


def test_interrupt_while_modules_are_imported() -> None:
    """It ends as a shell expects, 130 there, in one line and without a traceback."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )

    assert -signal.SIGINT == done.returncode
    assert "bpferry: error: stopped by SIGINT\n" == done.stderr


EARLY = """
import os, runpy, signal, sys
sys.argv = ["bpferry", "--version"]
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "bpferry.cli":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
runpy.run_module("bpferry", run_name="__main__")
"""


def test_interrupt_before_the_first_module_waits_for_the_command() -> None:
    """As soon as the command can say so in one line, it does."""
    done = subprocess.run(
        [sys.executable, "-c", EARLY],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )

    assert (done.returncode, done.stderr) == (130, "bpferry: error: stopped by SIGINT\n")


WHILE_MSGSPEC_IS_IMPORTED = """
import os, signal, sys
from bpferry.cli.main import main
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "msgspec._core":
            os.kill(os.getpid(), signal.SIGINT)
            assert "msgspec._core" not in sys.modules
            print("sent", flush=True)
sys.meta_path.insert(0, Finder())
status = main(["capabilities"])
assert hasattr(sys.modules["msgspec"], "convert")
sys.exit(status)
"""


def test_interrupt_while_msgspec_is_imported_waits_until_it_is_whole() -> None:
    """Divided, it would crash the interpreter when it is used."""
    done = subprocess.run(
        [sys.executable, "-c", WHILE_MSGSPEC_IS_IMPORTED],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )

    assert (done.returncode, done.stdout) == (130, "sent\n")
    assert done.stderr == "bpferry: error: stopped by SIGINT\n"


def test_the_installed_command_lets_ctrl_c_wait_before_anything_takes_time() -> None:
    """What Python looks for at its start, and what signal itself imports, come after that."""
    launcher = Path(__file__).resolve().parents[2] / "tools" / "prepare" / "launch_client.py"
    options = launcher.read_text(encoding="utf-8").splitlines()[0].split()[1:]
    done = subprocess.run(
        [sys.executable, *options, "-X", "importtime", str(launcher), "--version"],
        capture_output=True,
        text=True,
        check=False,
    )
    imported = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines()]

    late = {"site", "os", "enum", "functools"} & set(imported[: imported.index("_signal")])
    assert late == set()
    assert "site" in imported


def status_of(code: str) -> int:
    """Return the exit status of a new Python that runs *code*."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-c", code]
    return subprocess.run(argv, check=False, capture_output=True, env=environment).returncode


def test_msgspec_comes_without_what_only_older_pythons_need() -> None:
    """Others can import that afterwards."""
    code = (
        "import sys; from bpferry.cli.msgspec_import import import_msgspec; import_msgspec();"
        "sys.exit('typing_extensions' in sys.modules or not __import__('typing_extensions').Self)"
    )

    assert 0 == status_of(code)


def test_what_msgspec_brings_along_is_there_when_it_is_used() -> None:
    """Python's own ``platform`` too, which has not been imported for msgspec."""
    code = (
        "import sys; from bpferry.cli.msgspec_import import import_msgspec; import_msgspec();"
        "import msgspec; early = {'platform', 'textwrap'} & set(sys.modules);"
        "import platform; platform.machine();"
        "sys.exit(bool(early) or msgspec.json.decode(b'{}') != {} or not msgspec.inspect.is_struct)"
    )

    assert 0 == status_of(code)


def test_pathlib_comes_without_what_one_method_needs() -> None:
    """The method works as if it had been there, and so does the module."""
    code = (
        "import sys; from bpferry.cli.stand_ins import import_pathlib; import_pathlib();"
        "from pathlib import Path; early = {'urllib', 'ipaddress'} & set(sys.modules);"
        "uri = Path('/a b').as_uri(); import urllib.parse;"
        "sys.exit(bool(early) or uri != 'file:///a%20b' or urllib.parse.quote('%') != '%25')"
    )

    assert 0 == status_of(code)


def test_commands_without_msgspec_do_not_import_it() -> None:
    """Those that are to be fast."""
    code = (
        "import sys; from bpferry.cli.main import main; main(['list', '--json']);"
        "sys.exit('msgspec' in sys.modules)"
    )

    assert 0 == status_of(code)


@pytest.mark.parametrize("words", [["list"], ["tap", "list"], ["check", "vm.toml"]])
def test_a_missing_package_is_named(words: list[str]) -> None:
    """A bpferry that was not installed as a whole says what to do, whatever it needs first."""
    code = "import sys; from bpferry.cli.main import main; sys.exit(main())"
    places = os.pathsep.join(place for place in sys.path if place.endswith(("client", "shared")))

    done = subprocess.run(
        [sys.executable, "-S", "-c", code, *words],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": places},
    )

    package = "msgspec" if words[0] == "check" else "msgpack"
    sentence = f"Python's package '{package}' is not installed for {sys.executable}"
    hint = "install what the client needs: pip install 'bpferry[client]'"
    assert done.stderr == f"bpferry: error: {sentence}\nbpferry: hint: {hint}\n"
    assert done.returncode == 1


AT_THE_END = """
import atexit, gc
def tell():
    looked = gc.get_stats()[0]["collections"] - before
    print(looked, gc.get_freeze_count() > len(gc.get_objects()))
atexit.register(tell)
import bpferry.cli
before = gc.get_stats()[0]["collections"]
from bpferry.cli.main import main
main(["run", "--dry-run=json", "/none.toml"])
"""
"""Tells how often Python has looked for garbage, and if most of what is there is spared at last."""


def test_python_does_not_look_for_garbage_in_what_a_command_imports() -> None:
    """Neither while it starts nor when it ends, which would take a third of a dry run's time."""
    done = subprocess.run(
        [sys.executable, "-c", AT_THE_END],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )

    assert done.stdout.splitlines()[-1] == "0 True"
