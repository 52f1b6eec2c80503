# SPDX-License-Identifier: LGPL-2.1-or-later
"""`check`, `run --dry-run` and `run` say the same about the same file, with one exit status."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from bpferry.cli.main import main
from tests import documents

pytestmark = pytest.mark.qemu

Captured = pytest.CaptureFixture[str]

LARGE: Final = Path(__file__).parent / "large.xml"

XML: Final = "<domain type='{}'><name>x</name><memory>65536</memory>{}</domain>"
TOML: Final = 'name = "x"\nmemory = "64 MiB"\naccelerator = "tcg"\n'

OS: Final = "<os><type arch='x86_64' machine='q35'>hvm</type>{}</os>"
CD: Final = (
    "<disk type='file' device='cdrom'><source file='{}' startupPolicy='optional'/>"
    "<target dev='sda' bus='sata'/></disk>"
)
PINNED: Final = "<cputune><vcpupin vcpu='0' cpuset='4000'/></cputune>"
DISK: Final = "<disk type='file'><source file='/none'/><target dev='vda' bus='virtio'/></disk>"
QUEUES: Final = "<interface type='user'><model type='virtio'/><driver queues='4'/></interface>"

WRITTEN: Final = {
    "sound.toml": TOML,
    "sound.xml": XML.format("qemu", OS.format("")),
    "files.toml": TOML + 'kernel = "/none"\ninitrd = "none"\n[[disks]]\nfile = "gone"\n',
    "emulator.toml": TOML + 'qemu = "/nowhere/qemu"\nkernel = "/none"\n',
    "emulator.xml": XML.format(
        "qemu", f"<devices><emulator>/nowhere/qemu</emulator>{CD.format('/none')}</devices>"
    ),
    "design.toml": TOML
    + '[[cards]]\ntype = "user"\nqueues = 4\n'
    + '[[cards]]\ntap = "longer-than-any-tap"\nrss = true\n' * 2,
    "rss.toml": TOML + '[[cards]]\nbridge = "br0"\nqueues = 2\nrss = true\nmodel = "e1000"\n',
    "hash.toml": TOML
    + '[[cards]]\nbridge = "br0"\nqueues = 1\nrss-hash-report = true\ndriver = "vhost"\n',
    "secret.toml": TOML + '[[graphics]]\ntype = "vnc"\npassword = "hush"\n',
    "kvm.xml": XML.format(
        "kvm", OS.format("") + PINNED + f"<devices>{CD.format('/none')}</devices>"
    ),
    "refused.xml": XML.format("qemu", OS.format("<kernel>/none</kernel>") + "<spaceship/>"),
    "built.xml": XML.format(
        "qemu",
        OS.format("")
        + f"<devices>{DISK}{QUEUES}<vsock><cid auto='no' address='7'/></vsock>"
        + "<sound model='nosuch'/></devices>",
    ),
    "machine.toml": TOML + 'machine-type = "nosuch"\nkernel = "/none"\n',
    "pins.xml": XML.format(
        "qemu",
        OS.format("") + "<cputune><iothreadpin iothread='3' cpuset='0'/></cputune>",
    ),
}  # fmt: skip
"""Documents with something to say about them, or nothing."""


@pytest.fixture(params=[*documents.ALL, LARGE, *WRITTEN], ids=lambda it: Path(it).name)
def document(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return one document after the other."""
    name: str | Path = request.param
    if isinstance(name, Path):
        return name
    path = tmp_path / name
    path.write_text(WRITTEN[name], encoding="utf-8")
    path.chmod(0o644)
    return path


def answer(capsys: Captured, *words: str) -> tuple[int, dict[str, Any]]:
    """Return the status of a command, and what it tells programs."""
    status = main(words)
    return status, json.loads(capsys.readouterr().out)


def told(answer: dict[str, Any]) -> list[str]:
    """Return the sentences of an answer that is one error with its others."""
    error = answer["error"]
    return [error["message"], *(other["message"] for other in error.get("others", ()))]


def test_three_ways_to_ask_have_one_answer(document: Path, capsys: Captured) -> None:
    """Errors are the same in all, and warnings in the two that tell of a VM that could start."""
    status, checked = answer(capsys, "check", "--json", str(document))
    dry_status, dry = answer(capsys, "run", "--dry-run=json", str(document))

    findings = checked["findings"]
    errors = [one["message"] for one in findings if one["severity"] == "error"]
    assert bool(errors) == bool(status)
    assert [] == [one for one in findings if one["severity"] == "error" and not one["place"]]
    assert findings == dry["findings"]
    if "error" in dry:
        assert (status, errors) == (dry_status, told(dry))
    else:
        assert (0, [one["message"] for one in dry["errors"]]) == (dry_status, errors)
        assert dry["warnings"] == [
            ": ".join(filter(None, (one["message"], one["cause"])))
            for one in findings
            if one["severity"] in ("data-loss", "warning")
        ]
    if errors:
        run_status, run = answer(capsys, "run", "--json", str(document))
        assert (status, errors) == (run_status, told(run))
        if len(errors) > 1:
            assert findings == run["findings"]


@pytest.mark.parametrize("name", ["files.toml", "emulator.toml", "refused.xml", "machine.toml"])
def test_each_error_has_its_place_and_a_way_out(
    name: str, tmp_path: Path, capsys: Captured
) -> None:
    """It begins with the file and the line."""
    path = tmp_path / name
    path.write_text(WRITTEN[name], encoding="utf-8")

    _, dry = answer(capsys, "run", "--json", str(path))

    error = dry["error"]
    for one in (error, *error["others"]):
        assert one["message"].startswith(f"'{path}':")
        assert one["hint"]
        assert one["element"]


def test_a_dry_run_in_words_tells_errors_apart(tmp_path: Path, capsys: Captured) -> None:
    """What keeps the VM from starting is no warning."""
    path = tmp_path / "vm.toml"
    path.write_text(WRITTEN["files.toml"], encoding="utf-8")

    assert main(["run", "--dry-run", str(path)]) == 0

    out = capsys.readouterr().out
    assert f"# error: '{path}':4: 'kernel': cannot read '/none': No such file" in out
    assert "# warning" not in out


def test_secret_that_nothing_uses(tmp_path: Path, capsys: Captured) -> None:
    """A name that is mistyped is told, in a check and in a dry run."""
    path = tmp_path / "vm.toml"
    path.write_text(WRITTEN["sound.toml"], encoding="utf-8")
    words = ("--secret", "key=/none", str(path))

    status, checked = answer(capsys, "check", "--json", *words)
    _, dry = answer(capsys, "run", "--dry-run=json", *words)

    told = [one["message"] for one in checked["findings"] if one["severity"] == "warning"]
    assert (0, ["nothing uses the secret 'key' of --secret"]) == (status, told)
    assert dry["warnings"] == told
