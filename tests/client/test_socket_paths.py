# SPDX-License-Identifier: LGPL-2.1-or-later
"""A runtime folder whose path is too long for the sockets in it."""

import json

import pytest

from bpferry.cli.main import main

pytestmark = pytest.mark.qemu

VM = 'name = "t"\nmemory = "64 MiB"\naccelerator = "tcg"\n'


@pytest.mark.parametrize(
    ("length", "name"),
    [(107, ""), (108, "control.sock"), (111, "control.sock"), (112, "qmp.sock")],
)
def test_check_finds_the_sockets_that_cannot_be(
    length: int,
    name: str,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """*length* is that of the control socket's path; each VM has it, and it has the longer name."""
    short = tmp_path_factory.mktemp("p")
    folder = f"{short}/"
    folder += "x" * (length - len(folder) - len("/bpferry/t/control.sock"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
    path = short / "vm.toml"
    path.write_text(VM, encoding="utf-8")

    assert main(["check", "--json", str(path)]) == (1 if name else 0)

    told = json.loads(capsys.readouterr().out)["findings"]
    long = [one for one in told if "path of a Unix socket" in json.dumps(one)]
    assert len(long) == bool(name)
    assert not name or f"/{name}'" in json.dumps(long)
