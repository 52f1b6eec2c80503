# SPDX-License-Identifier: LGPL-2.1-or-later
"""The addresses of a guest, from its agent or the host's neighbour table, and ways to its ssh."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from bpferry.errors import BpferryError
from bpferry.machine import guest_addresses, guest_agent
from bpferry.machine.guest_addresses import find_addresses, problem_of, ways_to_ssh
from bpferry.machine.guest_agent import read_addresses

MAC = "52:54:00:12:34:56"


def interface(mac: str, *addresses: str) -> dict[str, object]:
    """Return an interface as an agent tells it."""
    told = [{"ip-address": address, "prefix": 24} for address in addresses]
    return {"name": "eth0", "hardware-address": mac, "ip-addresses": told}


@contextmanager
def agent(path: Path, answer: object, before: bytes = b"") -> Iterator[str]:
    """Serve one client as an agent does whose guest has said *before* something else."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        served = threading.Thread(target=_serve, args=(listener, answer, before))
        served.start()
        yield str(path)
        served.join()


def _serve(listener: socket.socket, answer: object, before: bytes) -> None:
    sock, _ = listener.accept()
    with sock, sock.makefile("rb") as stream:
        request = json.loads(stream.readline().lstrip(b"\xff"))
        assert request["execute"] == "guest-sync-delimited"
        reply = {"return": request["arguments"]["id"]}
        sock.sendall(before + b"\xff" + json.dumps(reply).encode() + b"\n")
        asked = json.loads(stream.readline() or "{}")
        if answer is not None and asked:
            assert asked == {"execute": "guest-network-get-interfaces"}
            # Who asked may have had enough of it, and be gone.
            with suppress(BrokenPipeError):
                sock.sendall(answer if isinstance(answer, bytes) else json.dumps(answer).encode())
                sock.sendall(b"\n")


def status(*endpoints: Mapping[str, object], kind: str = "bridge") -> dict[str, object]:
    """Return what a VM with one card says of itself."""
    card = {"id": "net0", "type": kind, "mac": MAC}
    return {"name": "t", "cards": [card], "endpoints": list(endpoints)}


def test_addresses_of_the_agent(tmp_path: Path) -> None:
    """Those of the VM's own cards, IPv4 first; not what else the guest has."""
    told = [
        interface("00:00:00:00:00:00", "127.0.0.1", "::1"),
        interface(MAC.upper(), "2001:db8::5", "192.0.2.5", "fe80::5"),
        interface("02:42:00:00:00:01", "172.17.0.1"),
    ]
    with agent(tmp_path / "a", {"return": told}) as path:
        endpoint = {"name": "guest agent", "kind": "unix", "path": path}
        found = find_addresses(status(endpoint))

    assert [(one.card, one.address, one.source) for one in found.addresses] == [
        ("net0", "192.0.2.5", "guest agent"),
        ("net0", "2001:db8::5", "guest agent"),
    ]
    assert found.tried == []


def test_what_was_meant_for_somebody_else_is_passed_over(tmp_path: Path) -> None:
    """An agent may still answer a former client."""
    stale = b'{"return": {}}\n\xff{"return": 1}\n{"retu'
    with agent(tmp_path / "a", {"return": [interface(MAC, "192.0.2.5")]}, stale) as path:
        (found,) = read_addresses(path)

    assert str(found.address) == "192.0.2.5"


@pytest.mark.parametrize(
    "answer",
    [
        b"{",
        b"[]",
        b"[" * 100_000,
        b"x" * (guest_agent.MAX_BYTES + 1),
        b"\xff\xfe",
    ],
)
def test_an_agent_that_sends_garbage(tmp_path: Path, answer: bytes) -> None:
    """A guest may send whatever it likes."""
    with (
        agent(tmp_path / "a", answer) as path,
        pytest.raises(BpferryError, match="no valid answer"),
    ):
        read_addresses(path)


@pytest.mark.parametrize(
    "answer",
    [{}, [1], [{"hardware-address": 1, "ip-addresses": [{"ip-address": "1.2.3.4"}]}],
     [{"hardware-address": MAC, "ip-addresses": {"ip-address": "x"}}],
     [{"hardware-address": MAC, "ip-addresses": [{"ip-address": "\x1b[2J"}, 7]}]],
)  # fmt: skip
def test_an_agent_that_lies_about_types(tmp_path: Path, answer: object) -> None:
    """Nothing of that is an address."""
    with agent(tmp_path / "a", {"return": answer}) as path:
        assert read_addresses(path) == []


def test_the_name_of_an_interface_does_nothing_to_a_terminal(tmp_path: Path) -> None:
    """It is a guest's text."""
    told = {**interface(MAC, "192.0.2.5"), "name": "\x1b[2J"}
    with agent(tmp_path / "a", {"return": [told]}) as path:
        (found,) = read_addresses(path)

    assert found.interface == ""


def test_the_scope_of_an_address_does_nothing_to_a_terminal_or_to_ssh(tmp_path: Path) -> None:
    """Python takes any text after a percent sign for one."""
    told = interface(MAC, "2001:db8::1%\x1b[2J", "2001:db8::2%$(reboot)", "192.0.2.5")
    with agent(tmp_path / "a", {"return": [told]}) as path:
        assert [str(one.address) for one in read_addresses(path)] == ["192.0.2.5"]


def test_an_agent_that_does_not_answer(tmp_path: Path) -> None:
    """As with a guest that is still starting."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "a"))
        listener.listen()
        endpoint = {"name": "guest agent", "kind": "unix", "path": str(tmp_path / "a")}
        found = find_addresses(status(endpoint), seconds=0.2)

    assert found.addresses == []
    assert found.tried[0] == "guest agent: no answer within 0.2 s"
    assert found.tried[1] == f"neighbour table: this host has not talked to {MAC} lately"


@pytest.mark.privileged
def test_addresses_of_the_neighbour_table(namespace: str) -> None:
    """A link-local address says on which interface; one that nobody answered at does not count."""
    run = ["ip", "-netns", namespace]
    subprocess.run([*run, "link", "add", "v0", "type", "bridge"], check=True)
    subprocess.run([*run, "link", "set", "v0", "up"], check=True)
    for address in ("192.0.2.9", "fe80::9", "2001:db8::9"):
        words = ["neigh", "add", address, "lladdr", MAC, "dev", "v0", "nud", "reachable"]
        subprocess.run([*run, *words], check=True)
    words = ["neigh", "add", "192.0.2.8", "lladdr", MAC, "dev", "v0", "nud", "failed"]
    subprocess.run([*run, *words], check=True)
    ask = (
        "from bpferry.machine.guest_addresses import find_addresses as f;"
        f"print(*(a.address for a in f({status()!r}).addresses))"
    )
    done = subprocess.run(
        ["ip", "netns", "exec", namespace, sys.executable, "-c", ask],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "192.0.2.9 2001:db8::9 fe80::9%v0\n"


def test_an_unknown_card_is_named() -> None:
    """With those that there are."""
    with pytest.raises(BpferryError, match="has no card 'net1'") as raised:
        find_addresses(status(), "net1")

    assert raised.value.hint == "its cards: net0"


@pytest.mark.parametrize(
    ("name", "port", "way"),
    [
        ("net0, port 22 of the guest", 2222, ("127.0.0.1", 2222)),
        ("net0, ports 20-29 of the guest", "8020-8029", ("127.0.0.1", 8022)),
        ("net0, port 80 of the guest", 8080, None),
        ("net0, ports 23-29 of the guest", "8023-8029", None),
        ("serial0", 22, None),
    ],
)
def test_a_forwarded_port_is_a_way_to_ssh(
    name: str, port: int | str, way: tuple[str, int] | None
) -> None:
    """If it leads to the guest's port 22."""
    told = status({"name": name, "kind": "tcp", "port": port}, kind="user")
    ways = [(one.host, one.port) for one in ways_to_ssh(told, guest_addresses.Found())]

    assert ways == ([] if way is None else [way])


def test_an_address_inside_user_networking_is_no_way() -> None:
    """The host is not on that network; a vsock is."""
    inside = guest_addresses.Address("net0", "10.0.2.15", "guest agent", reachable=False)
    told = status({"name": "vsock", "kind": "vsock", "port": 77}, kind="user")
    ways = list(ways_to_ssh(told, guest_addresses.Found([inside])))

    assert [(one.cid, one.what) for one in ways] == [(77, "vsock, CID 77")]


def test_a_port_where_nobody_listens_is_no_way() -> None:
    """The reason is that of the kernel."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        way = guest_addresses.Way("127.0.0.1", server.getsockname()[1], "here")
        assert problem_of(way) == ""
    assert problem_of(way) == "Connection refused"
