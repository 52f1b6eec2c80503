# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry exec as a process: what QEMU finds when it begins, and what is said before."""

import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from bpferry.cli.main import main
from bpferry.network import tun
from bpferry_wire.errors import Code
from bpferry_wire.messages import Can, CanReply, Request, Tap, TapReply
from bpferry_wire.packets import decode_request
from tests import requires
from tests.client import fake_helper as fake
from tests.client import taps
from tests.client.support import QEMU, script

ROOT: Final = Path(__file__).parents[2]

FAKE_QEMU: Final = f"""#!{sys.executable} -I
import json, os, sys
if "none" in " ".join(sys.argv).split("-machine")[-1][:6]:
    os.execv("{QEMU}", ["{QEMU}", *sys.argv[1:]])
fds = {{}}
for fd in os.listdir("/proc/self/fd"):
    try:
        fds[fd] = os.readlink(f"/proc/self/fd/{{fd}}")
    except OSError:
        pass
ignored = [line for line in open("/proc/self/status") if line.startswith("SigIgn")]
print(json.dumps({{
    "argv": [os.fsencode(word).hex() for word in sys.argv], "pid": os.getpid(), "fds": fds,
    "environment": sorted(open("/proc/self/environ", "rb").read().decode().split("\\0")),
    "blocked": [line for line in open("/proc/self/status") if line.startswith("SigBlk")],
}}))
sys.exit(42)
"""
"""Answers a probe as QEMU does, and says in all other cases how it was started."""

BRIDGED: Final = ("-smp", "4", "-netdev", "bridge,id=n0", "-device", "virtio-net-pci,netdev=n0")

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def qemu(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the path of a program that says how it was started."""
    requires.qemu()
    folder = tmp_path_factory.mktemp("qemu")
    path = folder / "fake-qemu"
    path.write_text(FAKE_QEMU, encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a user whose helpers are in *folder*."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("client", "shared")),
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),
        "BPFERRY_TAP_SOCKET": str(folder / "tap.sock"),
        "BPFERRY_BPF_SOCKET": str(folder / "bpf.sock"),
    }


def started(
    folder: Path,
    words: Sequence[str | bytes],
    fds: Sequence[int] = (),
    before: Callable[[], None] | None = None,
) -> tuple[dict[str, Any], subprocess.CompletedProcess[str]]:
    """Run ``bpferry exec`` with *words*; return what the fake QEMU says, and the process."""
    done = subprocess.run(
        [sys.executable, "-m", "bpferry", "exec", *words],
        env=environment(folder), capture_output=True, text=True, check=False, timeout=120,
        pass_fds=fds, preexec_fn=before,
    )  # fmt: skip
    return (json.loads(done.stdout) if done.returncode == 42 else {}), done


def argv_of(found: dict[str, Any]) -> list[str]:
    """Return the words that the fake QEMU got."""
    return [os.fsdecode(bytes.fromhex(word)) for word in found["argv"]]


@contextmanager
def helpers(folder: Path, namespace: str, asked: list[Request], most: int = 4) -> Iterator[None]:
    """Give each card a tap with *most* queues at most, and a set."""

    def answers(connection: socket.socket, request: bytes) -> None:
        read = decode_request(request)
        asked.append(read)
        wanted = read.request if isinstance(read, Can) else read
        assert isinstance(wanted, Tap)
        allowed = wanted.queues <= most
        if isinstance(read, Can):
            code = "" if allowed else Code.QUOTA.value
            fake.replies(CanReply(allowed, "the policy says so", code))(connection, request)
            return
        if not allowed:
            fake.refuses(Code.QUOTA)(connection, request)
            return
        made = taps.made(namespace, wanted.queues)
        fake.gives_tap(made, TapReply(taps.NAME, wanted.source, 1500))(connection, request)

    with (
        fake.helper(folder / "tap.sock", answers),
        fake.helper(folder / "bpf.sock", fake.grants()),
    ):
        yield


def test_qemu_is_the_same_process_with_everything_that_it_was_given(
    qemu: str, tmp_path: Path
) -> None:
    """Its process id, its words to the byte, its fds, its environment, its exit status.

    Also a word that is not UTF-8, an fd far above ours, and no LC_CTYPE, which Python adds where
    no locale is set (PEP 538).
    """
    reader, writer = os.pipe()
    high = 200
    os.dup2(reader, high, inheritable=True)
    words = [os.fsencode(qemu), b"-name", b"\xff\xfe,,", b"--dry-run", b"--json", b"-append", b"--"]
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "bpferry", "exec", "--", *words],
            env=environment(tmp_path), pass_fds=[writer, high],
            stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        said, _ = process.communicate(timeout=120)
    finally:
        for fd in (reader, writer, high):
            os.close(fd)
    found = json.loads(said)

    assert (42, process.pid) == (process.returncode, found["pid"])
    assert [os.fsencode(word) for word in argv_of(found)] == words
    assert {"0", "1", "2", str(writer), str(high)} == set(found["fds"]) - {"3"} | (
        {"3"} & {str(writer)}
    )
    assert found["environment"][1:] == sorted(
        f"{name}={value}" for name, value in environment(tmp_path).items()
    )
    assert ["SigBlk:\t0000000000000000\n"] == found["blocked"]


@pytest.mark.privileged
@pytest.mark.kernel
@pytest.mark.qemu
def test_the_fds_are_open_in_qemu(qemu: str, namespace: str, tmp_path: Path) -> None:
    """Four queues and four of the set, under the numbers that its command line has."""
    asked: list[Request] = []
    with helpers(tmp_path, namespace, asked):
        found, done = started(tmp_path, ["--", qemu, *BRIDGED])

    assert 42 == done.returncode, done.stderr
    argv = argv_of(found)
    queues = argv[4].removeprefix("tap,id=n0,fds=").split(":")
    card = json.loads(argv[6])
    assert ["/dev/net/tun"] * 4 == [found["fds"][fd] for fd in queues]
    assert ["anon_inode:bpf-prog"] + ["anon_inode:bpf-map"] * 3 == [
        found["fds"][fd] for fd in card.pop("ebpf-rss-fds")
    ]
    assert card == {
        "driver": "virtio-net-pci", "netdev": "n0", "mq": True, "vectors": 10, "rss": True,
    }  # fmt: skip
    assert 4 + 4 == sum(
        target.startswith(("/dev/net/tun", "anon_inode:bpf")) for target in found["fds"].values()
    )
    assert done.stderr.splitlines()[0] == (
        f"bpferry: n0: tap '{taps.NAME}' on bridge 'br0', 4 queues, in place of "
        "'-netdev bridge,id=n0'"
    )
    assert "bpferry: n0: steering by eBPF: " in done.stderr


@pytest.mark.privileged
@pytest.mark.qemu
def test_a_number_that_the_launcher_names_is_not_taken(
    qemu: str, namespace: str, tmp_path: Path
) -> None:
    """Otherwise QEMU would take a tap for the fd that the launcher forgot to open."""
    with helpers(tmp_path, namespace, []):
        named = ["-chardev", "socket,fd=5,id=c", "-add-fd", "fd=7,set=3"]
        found, done = started(tmp_path, ["--", qemu, *BRIDGED, *named])

    assert 42 == done.returncode, done.stderr
    assert not {"3", "4", "5", "7"} & set(argv_of(found)[4].rpartition("=")[2].split(":"))


@pytest.mark.privileged
@pytest.mark.qemu
def test_the_policy_bounds_the_queues(qemu: str, namespace: str, tmp_path: Path) -> None:
    """The most that it allows are asked for, and the rest is a warning."""
    asked: list[Request] = []
    with helpers(tmp_path, namespace, asked, most=3):
        found, done = started(tmp_path, ["--queues", "16", "--", qemu, *BRIDGED])

    assert 42 == done.returncode, done.stderr
    assert asked[-1] == Tap("br0", is_network=False, queues=3)
    assert 3 == len(argv_of(found)[4].split(":"))
    assert (
        "bpferry: warning: n0: the policy allows 3 queues, where 16 are wanted (hint: see: "
        "bpferry can-i)" in done.stderr.splitlines()
    )


@pytest.mark.privileged
@pytest.mark.qemu
def test_without_a_helper_the_line_stays(qemu: str, tmp_path: Path) -> None:
    """QEMU starts as it did before, and it is said why; unless eBPF is required."""
    found, done = started(tmp_path, ["--", qemu, *BRIDGED])
    required = started(tmp_path, ["--require-ebpf", "--", qemu, *BRIDGED])[1]

    assert [qemu, *BRIDGED] == argv_of(found)
    assert done.stderr.startswith(
        "bpferry: warning: n0 stays as it is: cannot connect to the helper at "
    )
    assert (5, "") == (required.returncode, required.stdout)


@pytest.mark.privileged
@pytest.mark.qemu
@pytest.mark.parametrize("limit", [12, 16, 20, 24])
def test_few_fds_are_no_reason_to_fail(
    limit: int, qemu: str, namespace: str, tmp_path: Path
) -> None:
    """A card for which there is no room stays as it is, and its tap is given back."""
    with helpers(tmp_path, namespace, [], most=16):
        found, done = started(
            tmp_path,
            ["--queues", "16", "--", qemu, *BRIDGED],
            before=lambda: _limit(limit),
        )

    assert 42 == done.returncode, done.stderr
    assert [qemu, *BRIDGED] == argv_of(found)
    assert not any("tun" in target for target in found["fds"].values())
    assert "n0 stays as it is: " in done.stderr


def _limit(number: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, number))


@pytest.mark.privileged
@pytest.mark.qemu
def test_closed_standard_streams_stay_closed(qemu: str, namespace: str, tmp_path: Path) -> None:
    """No fd of ours gets the number of one, and QEMU finds them as the launcher left them."""
    out = tmp_path / "out"
    words = [sys.executable, "-m", "bpferry", "exec", "--", qemu, *BRIDGED]
    with helpers(tmp_path, namespace, []):
        subprocess.run(
            ["sh", "-c", f'exec >{out} 0<&- 2>&-; exec "$@"', "sh", *words],
            env=environment(tmp_path), check=False, timeout=120,
        )  # fmt: skip
    found = json.loads(out.read_text())

    assert not {"0", "2"} & set(found["fds"])
    assert "/dev/net/tun" in found["fds"].values()


@pytest.mark.privileged
@pytest.mark.qemu
def test_a_tap_that_is_there_is_opened(qemu: str, tmp_path: Path) -> None:
    """With as many queues as it should have; one that was made with one queue, with one."""
    for name, flags, count in (("exec-many", ["multi_queue"], 4), ("exec-one", [], 1)):
        make = ["ip", "tuntap", "add", "dev", name, "mode", "tap", *flags, "vnet_hdr"]
        subprocess.run(make, check=True)
        try:
            netdev = f"tap,id=n0,ifname={name},script=no,downscript=no"
            found, done = started(
                tmp_path, ["--", qemu, "-smp", "4", "-netdev", netdev, *BRIDGED[4:]]
            )
        finally:
            subprocess.run(["ip", "link", "delete", "dev", name], check=True)

        assert 42 == done.returncode, done.stderr
        queues = argv_of(found)[4].rpartition("=")[2].split(":")
        assert ["/dev/net/tun"] * count == [found["fds"][fd] for fd in queues]


@pytest.fixture(params=["tap{}", "bft{:012x}"])
def launcher_tap(request: pytest.FixtureRequest) -> Iterator[int]:
    """Make a bridge and a tap on it as qemu-bridge-helper does, or ours; yield the tap's fd."""
    subprocess.run(["ip", "link", "add", "exec-br0", "type", "bridge"], check=True)
    name = request.param.format(os.getpid())
    fd = taps.open_queue(name, tun.queue_flags(1))
    subprocess.run(["ip", "link", "set", "dev", name, "master", "exec-br0"], check=True)
    try:
        yield fd
    finally:
        os.close(fd)
        subprocess.run(["ip", "link", "delete", "exec-br0"], check=True)


@pytest.mark.privileged
@pytest.mark.qemu
def test_the_tap_of_qemu_bridge_helper_is_replaced(
    launcher_tap: int, qemu: str, namespace: str, tmp_path: Path
) -> None:
    """By one on the same bridge, for the same address; QEMU does not get the old one."""
    asked: list[Request] = []
    card = (
        '{"driver":"virtio-net-pci","netdev":"hostnet0","id":"net0",'
        '"mac":"52:54:00:00:00:07","bus":"pcie.0"}'
    )
    netdev = f'{{"type":"tap","fd":"{launcher_tap}","id":"hostnet0"}}'
    line = ["-smp", "4", "-netdev", netdev, "-device", card]
    with helpers(tmp_path, namespace, asked):
        found, done = started(tmp_path, ["--", qemu, *line], [launcher_tap])

    assert 42 == done.returncode, done.stderr
    assert asked[-1] == Tap(
        "exec-br0", is_network=False, queues=4, mac=bytes.fromhex("525400000007")
    )
    new = json.loads(argv_of(found)[4])
    assert {"type": "tap", "id": "hostnet0"} == {key: new[key] for key in new if key != "fds"}
    queues = new["fds"].split(":")
    assert ["/dev/net/tun"] * 4 == [found["fds"][fd] for fd in queues]
    assert str(launcher_tap) not in found["fds"]


@pytest.mark.parametrize(
    ("make", "status", "words"),
    [
        (lambda _: "/no/such/qemu", 127, "No such file or directory"),
        (lambda _: "no-such-qemu-anywhere", 127, "there is no such program"),
        (str, 126, "Permission denied"),
        (lambda folder: f"{folder}/text", 126, "Permission denied"),
    ],
)
def test_the_status_is_a_shell_s(
    make: Callable[[Path], str], status: int, words: str, tmp_path: Path
) -> None:
    """127 if there is no such program, 126 if it cannot be started; both say so."""
    (tmp_path / "text").write_text("no program")
    _, done = started(tmp_path, ["--", make(tmp_path), "-S"])

    assert status == done.returncode
    assert words in done.stderr


@pytest.mark.parametrize(
    "words", [[], ["--"], ["--queues", "2"], ["qemu"], ["--queues", "x", "--"]]
)
def test_wrong_usage(words: list[str], capsys: Captured) -> None:
    """Without a command line, or with options that are wrong."""
    assert 2 == main(["exec", *words])
    assert "wrong usage" in capsys.readouterr().err


def test_a_command_line_without_its_dashes_is_told_of_them(capsys: Captured) -> None:
    """As for a program of systemd-run or sudo, which need none."""
    assert 2 == main(["exec", "qemu-system-x86_64", "-S"])
    assert "hint: write '--' before the command that starts QEMU; see: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "reasons"),
    [
        (
            "-nic bridge,br=br0",
            ["nic0 stays as it is: its model (the machine's own) is not virtio"],
        ),
        (
            "-netdev tap,id=n0,script=up -device virtio-net-pci,netdev=n0 -nic user",
            ["n0 stays as it is: QEMU makes its tap itself", "nic0 stays as it is: its model"],
        ),
        ("-nic user -nic none", []),
    ],
)
def test_a_tap_that_nothing_can_be_done_for_is_named(
    line: str, reasons: list[str], capsys: Captured, tmp_path: Path
) -> None:
    """Also if it is the only one; for a QEMU without a tap nothing is said."""
    qemu = script(tmp_path, "exit 0")
    assert 0 == main(["exec", "--dry-run", "--", qemu, *line.split()])
    said = [one[2:] for one in capsys.readouterr().out.splitlines() if "stays as it is" in one]

    assert len(reasons) == len(said)
    for reason, words in zip(reasons, said, strict=True):
        assert words.startswith(reason)


@pytest.mark.qemu
def test_a_program_that_is_no_qemu_gets_its_words(tmp_path: Path) -> None:
    """What cannot be asked is started all the same."""
    program = script(tmp_path, 'echo "$@"; exit 3')
    _, done = started(tmp_path, ["--", program, *BRIDGED])

    assert (3, " ".join(BRIDGED)) == (done.returncode, done.stdout.strip())
    assert "its command line stays as it is" in done.stderr


@pytest.mark.qemu
def test_dry_run_as_json(capsys: Captured) -> None:
    """One object with both lines, what would be asked for, and the plans."""
    requires.qemu()
    assert 0 == main(["exec", "--dry-run=json", "--", QEMU, *BRIDGED, "-nic", "user"])
    said = json.loads(capsys.readouterr().out)

    assert [QEMU, *BRIDGED, "-nic", "user"] == said["was"]
    assert "tap,id=n0,fds=n0.tap0:n0.tap1:n0.tap2:n0.tap3" == said["argv"][4]
    assert ["tap", "load"] == [request["op"] for request in said["requests"]]
    assert [{"id": "n0", "steering": "ebpf", "vhost": False, "queues": 4}] == [
        {key: nic[key] for key in ("id", "steering", "vhost", "queues")} for nic in said["nics"]
    ]
    assert ["nic0"] == [left["id"] for left in said["left"]]


@pytest.mark.qemu
def test_dry_run_shows_both_lines(capsys: Captured) -> None:
    """As a diff: what goes, what comes, and what stays."""
    requires.qemu()
    assert 0 == main(["exec", "--dry-run", "--", QEMU, *BRIDGED, "-S"])
    lines = capsys.readouterr().out.splitlines()

    assert "- -netdev bridge,id=n0" in lines
    assert "+ -netdev tap,id=n0,fds=n0.tap0:n0.tap1:n0.tap2:n0.tap3" in lines
    assert {"  -smp 4", "  -S", f"  {QEMU}"} <= set(lines)


def test_a_guest_from_elsewhere_is_a_warning(capsys: Captured) -> None:
    """Its cards have to be those that it had, which exec cannot know."""
    requires.qemu()
    assert 0 == main(["exec", "--dry-run", "--", QEMU, *BRIDGED, "-incoming", "defer"])

    assert "# warning: the guest comes from another QEMU" in capsys.readouterr().out
