# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the network can reach without a password is warned of, with the line that makes it local."""

import json
from pathlib import Path

import pytest

from bpferry.cli.main import main
from bpferry.domain.document import read_bytes
from bpferry.domain.forms import in_form
from bpferry.machine.draft import draft
from bpferry.machine.exposure import find_open_doors
from bpferry.machine.faults import Fault
from tests.client.running import BASE, start
from tests.client.support import Record

pytestmark = pytest.mark.qemu

Captured = pytest.CaptureFixture[str]

VNC = '[[graphics]]\ntype = "vnc"\n'
SERIAL = """
[[serials]]
type = "tcp"
protocol = "{}"
sources = [{{mode = "bind", host = "{}", service = "4555"}}]
"""
FORWARD = """
[[cards]]
type = "user"
[[cards.port-forwards]]
protocol = "tcp"
ranges = [{start = 2222, to = 22}]
"""
UDP = """
[[cards]]
type = "udp"
host = "127.0.0.1"
port = 4556
local-host = "0.0.0.0"
local-port = 4557
"""
EVERYWHERE = "0.0.0.0"  # noqa: S104 - what is warned of


def doors_of(text: str) -> list[Fault]:
    """Return what is told of a VM with *text*."""
    plan = draft(read_bytes((BASE + text).encode(), Path("/vm.toml")), Record())
    return list(find_open_doors(plan.machine, plan.built))


@pytest.mark.parametrize("address", [EVERYWHERE, "::", "192.0.2.7"])
@pytest.mark.parametrize(
    "written",
    ['address = "{}"\n', 'listens = [{{type = "address", address = "{}"}}]\n'],
)
def test_vnc_without_a_password_beyond_this_host(written: str, address: str) -> None:
    """It says who can do what, and how to write it otherwise, in the form of the document."""
    (door,) = doors_of(VNC + written.format(address))

    where = f"'{address}'" if "2" in address else f"all addresses of this host ({address})"
    assert f"VNC listens on {where}, without a password" == door.message
    assert "anybody on the network can see and use the guest's screen" == door.cause
    local = written.format("127.0.0.1").strip()
    assert f"write {local} to be reached" in in_form(door.fix, "toml")
    assert "='127.0.0.1'" in in_form(door.fix, "xml")


@pytest.mark.parametrize(
    "text",
    [
        VNC,
        VNC + 'address = "127.0.0.1"\n',
        VNC + 'address = "::1"\n',
        VNC + 'address = "localhost"\n',
        VNC + 'address = "0.0.0.0"\npassword = "geheim"\n',
        VNC + 'listens = [{type = "socket"}]\n',
        SERIAL.format("raw", "127.0.0.1"),
        FORWARD + 'address = "127.0.0.1"\n',
        FORWARD + 'address = "0.0.0.0"\n',
    ],
)
def test_what_is_local_or_meant_has_no_word(text: str) -> None:
    """An address of a forwarded port is the user's wish, and so is a password."""
    assert [] == doors_of(text)


@pytest.mark.parametrize(
    ("text", "key", "message", "fix"),
    [
        (
            SERIAL.format("telnet", EVERYWHERE),
            "serials[0]",
            "'serial0' listens on all addresses of this host (0.0.0.0), without a password",
            'write host = "127.0.0.1" in its source',
        ),
        (
            FORWARD,
            "cards[0].port-forwards[0]",
            "the forwarded port 2222 listens on all addresses of this host",
            'write address = "127.0.0.1" to be reached from this host only',
        ),
        (
            '[[cards]]\ntype = "server"\nhost = "0.0.0.0"\nport = 4556\n',
            "cards[0]",
            "the card 'net0' listens on all addresses of this host (0.0.0.0)",
            'write host = "127.0.0.1" to be reached from this host only',
        ),
        (
            UDP,
            "cards[0]",
            "the card 'net0' listens on all addresses of this host (0.0.0.0)",
            'write local-host = "127.0.0.1" to be reached from this host only',
        ),
    ],
)
def test_all_else_that_listens_everywhere(text: str, key: str, message: str, fix: str) -> None:
    """Consoles, forwarded ports, and cards that others connect to."""
    (door,) = doors_of(text)

    assert (key, message) == (door.key, door.message)
    assert in_form(door.fix, "toml").startswith(fix)


def test_check_and_dry_run_say_it(tmp_path: Path, capsys: Captured) -> None:
    """With the place; nothing keeps the VM from starting."""
    path = tmp_path / "vm.toml"
    path.write_text(BASE + VNC + 'address = "0.0.0.0"\n', encoding="utf-8")
    said = f"'{path}':6: 'graphics[0].address': VNC listens on all addresses of this host (0.0.0.0)"

    assert main(["check", str(path)]) == 0
    assert f"warning: {said}" in capsys.readouterr().out
    assert main(["run", "--dry-run=json", str(path)]) == 0
    assert any(one.startswith(said) for one in json.loads(capsys.readouterr().out)["warnings"])


def test_run_says_it(tmp_path: Path) -> None:
    """Once, before the VM runs."""
    with start(tmp_path, BASE + VNC + 'address = "0.0.0.0"\n') as run:
        run.qemu()

        (line,) = (one for one in run.err().splitlines() if "all addresses" in one)
        assert "warning: " in line
        assert '(hint: write address = "127.0.0.1" to be reached from this host only' in line
