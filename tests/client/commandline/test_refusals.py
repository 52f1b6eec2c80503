# SPDX-License-Identifier: LGPL-2.1-or-later
"""Everything that the command line refuses is of a kind, and has a way out."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import bpferry
from bpferry.cli.main import main
from bpferry.commandline.context import mistaken, unsupported
from bpferry.errors import Mistaken, Unsupported, by_weight

MAKERS = ("refusal", "mistake", "refuse", "unsupported", "mistaken", "_refuse_address")
"""Functions that make a refusal; their last argument is the way out."""

FOLDER = Path(bpferry.__file__).parent


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Yield each place where a refusal is made, and its call."""
    for path in sorted((*FOLDER.glob("commandline/**/*.py"), *FOLDER.glob("steering/*.py"))):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = (
                getattr(node.func, "attr", getattr(node.func, "id", ""))
                if isinstance(node, ast.Call)
                else ""
            )
            if isinstance(node, ast.Call) and name in MAKERS:
                yield f"{path.relative_to(FOLDER)}:{node.lineno}", node


def test_there_is_a_way_out_of_each() -> None:
    """No refusal is made with an empty hint; mypy sees to it that there is one."""
    found = list(calls())

    assert len(found) > 300
    assert [] == [
        place
        for place, call in found
        if not call.args
        or (isinstance(call.args[-1], ast.Constant) and not str(call.args[-1].value).strip())
    ]


def test_two_kinds() -> None:
    """What no VM can be like is a mistake, and what another QEMU may do is not supported."""
    wrong, missing = mistaken("k", "why", "way"), unsupported("k", "why", "way")

    assert (Mistaken, 2, "bad-input") == (type(wrong), wrong.status, wrong.code)
    assert (Unsupported, 3, "unsupported") == (type(missing), missing.status, missing.code)
    assert (missing, wrong) == by_weight((wrong, missing))
    assert 2 == wrong.taking("all of it").status


TOML = 'name = "x"\nmemory = "64 MiB"\naccelerator = "tcg"\n'
THREAD = '[[disks]]\nfile = "/dev/null"\nformat = "raw"\niothread = 3\n'
TWICE = '[[disks]]\nfile = "/dev/null"\nformat = "raw"\ntarget = "vda"\nread-only = true\n'
XML = (
    "<domain type='qemu'><name>x</name><memory>65536</memory>"
    "<os><type arch='x86_64' machine='q35'>hvm</type></os>{}</domain>"
)


@pytest.mark.qemu
@pytest.mark.parametrize(
    ("text", "status"),
    [
        (TOML + THREAD, 2),
        (TOML + TWICE * 2, 2),
        (TOML + 'initrd = "/dev/null"\n', 2),
        (TOML + "[cpu]\nsockets = 2\n", 2),
        (XML.format("<devices><vsock><cid auto='no' address='2'/></vsock></devices>"), 2),
        (XML.format("<devices><graphics type='vnc' port='22' autoport='no'/></devices>"), 2),
        (XML.format("<cputune><iothreadpin iothread='3' cpuset='0'/></cputune>"), 2),
        (TOML + 'machine-type = "nosuch"\n', 3),
        (TOML + '[[disks]]\nfile = "/dev/null"\nformat = "raw"\nbus = "ide"\n', 3),
        (XML.format("<spaceship/>"), 3),
        (TOML + THREAD + 'bus = "ide"\n', 3),
    ],
)
def test_status_by_kind(
    text: str, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A contradiction is 2, also if it is found late; what is not supported is 3 and outweighs."""
    path = tmp_path / ("vm.xml" if text.startswith("<") else "vm.toml")
    path.write_text(text, encoding="utf-8")

    assert status == main(["check", str(path)])
    assert "    fix: " in capsys.readouterr().out
    assert status == main(["run", "--dry-run", str(path)])
