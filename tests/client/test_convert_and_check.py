# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry convert and bpferry check, as somebody who types them sees them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpferry.cli.main import main
from bpferry.domain.document import read_bytes, read_file
from tests import documents
from tests.client import fake_helper as fake

XML = next(path for path in documents.ALL if path.name == "old-pc.xml")
TOML = next(path for path in documents.ALL if path.name == "tiny.toml")


@pytest.mark.parametrize("path", documents.ALL, ids=lambda path: path.name)
@pytest.mark.parametrize("kind", ["xml", "toml"])
def test_converted_is_the_same_vm(
    path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is printed is the same VM when it is read again."""
    assert main(["convert", "--to", kind, str(path)]) == 0

    printed = capsys.readouterr().out
    assert read_file(path).machine == read_bytes(printed.encode(), Path(f"/vm.{kind}")).machine


@pytest.mark.parametrize(("path", "start"), [(XML, 'name = "old-pc"'), (TOML, "<domain")])
def test_the_other_kind_is_printed(
    path: Path, start: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a word about it, XML becomes TOML and TOML becomes XML."""
    assert main(["convert", str(path)]) == 0

    assert capsys.readouterr().out.startswith(start)


def test_convert_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """A program gets the text with its kind."""
    assert main(["convert", "--json", str(TOML)]) == 0

    answer = json.loads(capsys.readouterr().out)
    assert (answer["format"], answer["left_out"]) == ("xml", [])
    assert answer["text"].startswith("<domain")


def test_convert_refuses_what_it_would_lose(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the model does not know stops a conversion, unless the user lets it go."""
    path = tmp_path / "vm.xml"
    path.write_text(XML.read_text().replace("</domain>", "<spaceship/></domain>"))

    assert main(["convert", str(path)]) == 3
    assert "'/domain/spaceship'" in capsys.readouterr().err

    assert main(["convert", "--ignore-unsupported", str(path)]) == 0
    assert "warning: left out: " in capsys.readouterr().err


@pytest.mark.parametrize("as_json", [True, False])
def test_convert_tells_of_everything_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, as_json: bool
) -> None:
    """Each thing that is refused is reported, for people and for programs."""
    path = tmp_path / "vm.xml"
    path.write_text(XML.read_text().replace("</domain>", "<spaceship/><probe/></domain>"))

    assert main(["convert", str(path), *(["--json"] if as_json else [])]) == 3

    out, err = capsys.readouterr()
    if as_json:
        error = json.loads(out)["error"]
        assert error["element"] == "/domain/spaceship"
        assert [other["element"] for other in error["others"]] == ["/domain/probe"]
    else:
        assert [line.split("'")[3] for line in err.splitlines() if ": error: " in line] == [
            "/domain/spaceship",
            "/domain/probe",
        ]


@pytest.mark.qemu
def test_check_of_a_sound_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A document without a fault is status 0, in one line."""
    path = tmp_path / "vm.toml"
    path.write_text(f'accelerator = "tcg"\n{TOML.read_text()}[[serials]]\ntype = "pty"\n')

    assert main(["check", str(path)]) == 0
    assert capsys.readouterr().out == f"'{path}': no problems found\n"


@pytest.mark.qemu
def test_check_of_a_vm_out_of_reach(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A VM that nobody can reach is worth a note, and no more."""
    path = tmp_path / "vm.toml"
    path.write_text(f'accelerator = "tcg"\n{TOML.read_text()}')

    assert main(["check", str(path)]) == 0
    assert capsys.readouterr().out.startswith(f"note: '{path}': nobody can reach this VM")


@pytest.mark.qemu
def test_check_tells_a_fault_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is refused is not told once more as not well designed."""
    path = tmp_path / "vm.toml"
    card = '[[cards]]\ntype = "user"\nqueues = 4\n'
    path.write_text(f"{TOML.read_text()}{card}")

    assert main(["check", str(path)]) == 3
    assert capsys.readouterr().out.count("queues") == 2


@pytest.mark.qemu
def test_check_names_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Unsupported elements, missing files and design faults are all named, each with a place."""
    path = tmp_path / "vm.toml"
    path.write_text(
        'name = "x"\nmemory = "64 MiB"\nkernel = "gone"\n[[cards]]\ntype = "user"\nqueues = 4\n'
    )

    assert main(["check", "--json", str(path)]) in (1, 3)

    answer = json.loads(capsys.readouterr().out)
    findings = answer["findings"]
    assert any("gone" in finding["message"] for finding in findings)
    assert {"unsupported", "not-ready"} <= {finding["kind"] for finding in findings}
    assert answer["not_checked"] is None


@pytest.mark.qemu
def test_check_of_an_unsupported_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is not supported is status 3, with the XPath and line of each."""
    path = tmp_path / "vm.xml"
    path.write_text(XML.read_text().replace("</domain>", "<spaceship/><probe/></domain>"))

    assert main(["check", str(path)]) == 3

    printed = capsys.readouterr().out
    assert "/domain/spaceship" in printed
    assert "/domain/probe" in printed
    assert printed.count("    fix: remove the element") == 2


def test_check_without_that_qemu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the QEMU is not there, that is an error, and the document alone is judged."""
    path = tmp_path / "vm.toml"
    path.write_text(
        'name = "x"\nmemory = "64 MiB"\nkernel = "/none"\nqemu = "/nowhere/qemu"\n'
        'arch = "aarch64"\n'
    )

    assert main(["check", str(path)]) == 1

    out = capsys.readouterr().out
    assert f"error: '{path}':4: 'qemu': cannot start '/nowhere/qemu': No such file" in out
    assert f"error: '{path}':3: 'kernel': cannot read '/none'" in out
    assert "note: since no QEMU could be asked" in out
    assert main(["run", str(path)]) == 1
    err = capsys.readouterr().err
    assert "'qemu': cannot start '/nowhere/qemu'" in err
    assert "'kernel': cannot read '/none'" in err


@pytest.fixture(name="helpers")
def _helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have a helper that would make any tap."""
    path = tmp_path / "tap.sock"
    monkeypatch.setenv("BPFERRY_TAP_SOCKET", str(path))
    with fake.helper(path, fake.permits(fake.hangs_up)):
        yield


@pytest.mark.qemu
@pytest.mark.usefixtures("helpers")
def test_check_of_what_a_libvirt_session_would_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told on request only, and what has no fix has no line for it."""
    path = tmp_path / "vm.toml"
    path.write_text(
        'name = "x"\nmemory = "64 MiB"\naccelerator = "tcg"\n'
        '[[cards]]\nbridge = "br0"\nisolated = true\n'
    )

    assert main(["check", str(path)]) == 0
    assert "libvirt session" not in capsys.readouterr().out

    assert main(["check", "--libvirt-session", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "a libvirt session would not isolate this card" in printed
    assert "fix:" not in printed

    assert main(["check", "--libvirt-session", "--json", str(path)]) == 0
    (fault,) = json.loads(capsys.readouterr().out)["findings"]
    assert (fault["place"], fault["hint"]) == ("cards[0].isolated", None)
    assert fault["cause"]


@pytest.mark.qemu
def test_check_of_a_document_as_virt_install_writes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Several queues without a word on RSS: the line to write is there, and the status is 0."""
    path = tmp_path / "vm.xml"
    card = (
        "<interface type='bridge'><source bridge='br0'/><model type='virtio'/>"
        "<driver name='qemu' queues='2'/></interface>"
    )
    path.write_text(
        "<domain type='kvm'><name>x</name><memory unit='MiB'>64</memory><vcpu>2</vcpu>"
        f"<os><type machine='q35'>hvm</type></os><devices>{card}</devices></domain>"
    )

    main(["check", str(path)])

    printed = capsys.readouterr().out.splitlines()
    assert (
        f"note: '{path}':1: '/domain/devices/interface/driver/@queues': 2 queues without RSS"
        in printed
    )
    assert "    fix: write <driver name='qemu' queues='2' rss='on'/>" in printed


IGNORED = """\
<domain type='qemu' id='3'>
  <name>vm</name>
  <memory unit='MiB'>64</memory>
  <description>for people</description>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices>
    <interface type='user'>
      <target dev='vnet0'/>
      <model type='virtio'/>
    </interface>
  </devices>
</domain>
"""


@pytest.mark.qemu
def test_check_lists_what_is_ignored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each with its place and the reason, where that is asked for; in JSON always."""
    path = tmp_path / "vm.xml"
    path.write_text(IGNORED)
    card = "/domain/devices/interface"
    expected = [
        ("/domain/@id", 1), (f"{card}/target/@dev", 8),
    ]  # fmt: skip

    main(["check", "--ignored", str(path)])
    lines = capsys.readouterr().out.splitlines()
    main(["check", "--json", str(path)])
    fields = json.loads(capsys.readouterr().out)["ignored"]
    main(["check", str(path)])

    told = [line for line in lines if line.startswith("ignored: ")]
    assert told == [f"ignored: '{path}':{line}: '{element}'" for element, line in expected]
    assert expected == [(one["element"], one["line"]) for one in fields]
    assert all(len(one["reason"].split()) > 2 for one in fields)
    assert "ignored: " not in capsys.readouterr().out


COMMENTED = """\
<domain type='qemu'>
  <name>vm</name>
  <memory unit='MiB'>64</memory>
  <description>For people,
in two lines.</description>
  <metadata><o:os xmlns:o='http://example.org/os'>debian</o:os></metadata>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
</domain>
"""


def test_a_conversion_keeps_the_description_and_names_lost_metadata(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is for people stays, and what is for other programs does not go silently."""
    path = tmp_path / "vm.xml"
    path.write_text(COMMENTED)

    assert 0 == main(["convert", str(path)])
    out, err = capsys.readouterr()

    assert 'description = "For people,\\nin two lines."' in out
    assert f"note: '{path}':6: '/domain/metadata/" in err
    assert "is not converted" in err
    (tmp_path / "vm.toml").write_text(out)
    assert 0 == main(["convert", str(tmp_path / "vm.toml")])
    assert "<description>For people,\nin two lines.</description>" in capsys.readouterr().out
