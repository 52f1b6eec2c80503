# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry create: a VM that starts, or nothing at all."""

import contextlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpferry.cli.main import main
from bpferry.machine.creation import networks
from bpferry_wire.messages import Can, CanReply, Request, Tap
from bpferry_wire.packets import decode_request
from tests import requires
from tests.client import fake_helper as fake
from tests.client import guest
from tests.client.images import write_qcow2
from tests.client.support import let_in, script, wait_until
from tests.support.people import ALICE, acting_as

Captured = pytest.CaptureFixture[str]

YES = CanReply(allowed=True, because="/etc/bpferry/policy.toml:1")
NO = CanReply(allowed=False, because="/etc/bpferry/policy.toml:3 (users.bob) has no 'br0'")

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIM7OVQ97XuPCtNpu+3bGuvbUObTIx2XunoWQe2hyrCOw me@host"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with an image and a key, below which all of the user's folders are."""
    requires.program("qemu-img")
    guest.write_disk(tmp_path / "base.img")
    (tmp_path / "id.pub").write_text(f"{KEY}\n", encoding="utf-8")
    (tmp_path / "net" / "br0" / "bridge").mkdir(parents=True)
    monkeypatch.setattr(networks, "INTERFACES", tmp_path / "net")
    for name, value in {
        "XDG_CONFIG_HOME": "config", "XDG_DATA_HOME": "data", "XDG_RUNTIME_DIR": "run",
        "XDG_STATE_HOME": "state", "BPFERRY_TAP_SOCKET": "tap.sock",
        "BPFERRY_BPF_SOCKET": "bpf.sock",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, str(tmp_path / value))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(folder: Path) -> list[str]:
    """Return what is in the folders that a new VM gets."""
    roots = (folder / "config", folder / "data")
    return [str(path.relative_to(folder)) for root in roots for path in sorted(root.rglob("*"))] + [
        root.name for root in roots if root.exists()
    ]


def description(folder: Path) -> dict[str, object]:
    """Return what the description of the new VM says."""
    path = folder / "config" / "bpferry" / "vms" / "web.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


def card_of(folder: Path) -> dict[str, str | int]:
    """Return what the description says about its only card."""
    cards = description(folder)["cards"]
    assert isinstance(cards, list)
    (card,) = cards
    assert isinstance(card, dict)
    return card


def seed_file(folder: Path, name: str, way: str) -> str:
    """Return a file of the seed, as a program that is not ours reads it."""
    isoinfo = requires.program("isoinfo")
    seed = folder / "data" / "bpferry" / "vms" / "web" / "seed.iso"
    argv = [isoinfo, way, "-x", f"/{name}", "-i", str(seed)]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@contextlib.contextmanager
def policy(folder: Path, allowed: set[tuple[str, int]]) -> Iterator[list[Request]]:
    """Serve as a helper that allows taps on these bridges with at most so many queues."""
    asked: list[Request] = []

    def answer(conn: socket.socket, request: bytes) -> None:
        wanted = decode_request(request)
        assert isinstance(wanted, Can)
        assert isinstance(wanted.request, Tap)
        asked.append(wanted.request)
        source, queues = wanted.request.source, wanted.request.queues
        is_fine = any(source == name and queues <= most for name, most in allowed)
        fake.replies(YES if is_fine else NO)(conn, request)

    with fake.helper(folder / "tap.sock", answer):
        yield asked


def test_what_is_made(folder: Path, capsys: Captured) -> None:
    """A description, a disk and a seed, for the user alone; and what to run next is printed."""
    assert main(["create", "web", "--image", "base.img", "--ssh-key", "id.pub"]) == 0

    said = capsys.readouterr()
    assert [
        "config/bpferry", "config/bpferry/vms", "config/bpferry/vms/web.toml", "data/bpferry",
        "data/bpferry/vms", "data/bpferry/vms/web", "data/bpferry/vms/web/disk.qcow2",
        "data/bpferry/vms/web/seed.iso", "config", "data",
    ] == made(folder)  # fmt: skip
    modes = {stat.S_IMODE((folder / name).stat().st_mode) for name in made(folder)}
    assert {0o700, 0o600} == modes
    assert "\n  bpferry run web " in said.out
    assert re.search(r"^  bpferry ssh --user \S+ web +# the same by ssh$", said.out, re.MULTILINE)
    assert "is used as a raw image" in said.err


def test_the_guest_agent_has_a_channel_and_nothing_is_installed_for_it(folder: Path) -> None:
    """`bpferry ip` asks it; what is in the image stays the user's matter."""
    assert main(["create", "web", "--image", "base.img"]) == 0

    channel = {"type": "unix", "name": "org.qemu.guest_agent.0"}
    assert [channel] == description(folder)["channels"]
    seed = seed_file(folder, "user-data", "-R")
    assert {"users", "ssh_pwauth"} == set(json.loads(seed.removeprefix("#cloud-config\n")))


def test_the_description_says_what_was_asked_for(folder: Path) -> None:
    """Memory, processors, bridge and queues; the disk has the size that was asked for."""
    words = "--memory 4GiB --vcpus 4 --queues 3 --disk-size 20GiB --bridge br0 --firmware efi"
    with policy(folder, {("br0", 4)}) as asked:
        assert main(["create", "web", "--image", "base.img", *words.split()]) == 0

    said = description(folder)
    card = card_of(folder)
    mac = bytes.fromhex(str(card["mac"]).replace(":", ""))
    assert ("4 GiB", 4, "efi") == (said["memory"], said["vcpus"], said["firmware"])
    assert ("br0", 3) == (card["bridge"], card["queues"])
    assert [Tap("br0", is_network=False, queues=3, mac=mac)] == asked
    info = ["qemu-img", "info", "--output=json", "data/bpferry/vms/web/disk.qcow2"]
    disk = json.loads(subprocess.run(info, check=True, capture_output=True).stdout)
    assert 20 * 2**30 == disk["virtual-size"]
    assert (str(folder / "base.img"), "raw") == (
        disk["backing-filename"],
        disk["backing-filename-format"],
    )


@pytest.mark.qemu
@pytest.mark.parametrize("keys", [[], ["--ssh-key", "id.pub"]], ids=["alone", "with ssh"])
def test_what_is_made_passes_the_check(folder: Path, capsys: Captured, keys: list[str]) -> None:
    """The description of a new VM has nothing wrong in it."""
    assert main(["create", "web", "--image", "base.img", *keys]) == 0
    capsys.readouterr()

    assert main(["check", "--json", str(folder / "config/bpferry/vms/web.toml")]) == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    # Whether KVM works is this host's.
    assert [] == [one for one in findings if "KVM" not in one["message"]]


@pytest.mark.qemu
def test_the_new_vm_starts(folder: Path) -> None:
    """The guest in the image greets, and the image stays as it was."""
    image = (folder / "base.img").read_bytes()
    assert main(["create", "web", "--image", "base.img", "--memory", "64MiB"]) == 0
    path = folder / "config/bpferry/vms/web.toml"
    path.write_text('accelerator = "tcg"\n' + path.read_text())
    log = folder / "log"
    with log.open("wb") as out:
        run = subprocess.Popen(
            [sys.executable, "-m", "bpferry", "run", str(path)],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
    try:
        assert wait_until(lambda: guest.GREETING.strip() in log.read_bytes(), 60), log.read_text()
        run.communicate(b"q", timeout=60)
    finally:
        run.kill()
        run.communicate()

    assert (0, image) == (run.returncode, (folder / "base.img").read_bytes())


@pytest.mark.parametrize("way", ["-R", "-J"], ids=["Rock Ridge", "Joliet"])
def test_the_seed_is_what_cloud_init_reads(folder: Path, capsys: Captured, way: str) -> None:
    """Another program finds the three files, with the name, user, key, password and address."""
    words = ["create", "web", "--json", "--image", "base.img", "--ssh-key", "id.pub"]
    assert main([*words, "--user", "alice"]) == 0

    told = json.loads(capsys.readouterr().out)
    meta = json.loads(seed_file(folder, "meta-data", way))
    head, _, data = seed_file(folder, "user-data", way).partition("\n")
    network = json.loads(seed_file(folder, "network-config", way))
    (user,) = json.loads(data)["users"]
    assert "web" == meta["local-hostname"]
    assert re.fullmatch(r"[0-9a-f-]{36}", meta["instance-id"])
    assert ("#cloud-config", "alice", [KEY]) == (head, user["name"], user["ssh_authorized_keys"])
    assert told["password"] == user["plain_text_passwd"]
    assert told["card"]["mac"] == network["ethernets"]["net0"]["match"]["macaddress"]


def test_the_seed_has_the_label_that_cloud_init_looks_for(folder: Path) -> None:
    """Its file system is called cidata."""
    assert main(["create", "web", "--image", "base.img"]) == 0

    seed = folder / "data/bpferry/vms/web/seed.iso"
    isoinfo = [requires.program("isoinfo"), "-d", "-i", str(seed)]
    said = subprocess.run(isoinfo, check=True, capture_output=True, text=True).stdout
    assert "Volume id: cidata\n" in said


def test_without_a_bridge_the_user_is_told_which_there_are(folder: Path, capsys: Captured) -> None:
    """The card has user networking, and the helper's answer says what else could be had."""
    with policy(folder, {("br0", 1)}):
        assert main(["create", "web", "--image", "base.img"]) == 0

    said = capsys.readouterr().err
    assert "has user networking, since no bridge is named; you may use: --bridge br0\n" in said


def test_without_a_bridge_that_may_be_used_this_is_said(folder: Path, capsys: Captured) -> None:
    """A policy that allows none is no failure."""
    with policy(folder, set()):
        assert main(["create", "web", "--image", "base.img"]) == 0

    assert "no bridge is named; you may not use any bridge\n" in capsys.readouterr().err


def test_without_a_helper_there_is_still_user_networking(folder: Path, capsys: Captured) -> None:
    """And it is said why no bridge can be named."""
    assert main(["create", "web", "--image", "base.img"]) == 0
    assert "you may use is not known: cannot connect to the helper" in capsys.readouterr().err
    assert card_of(folder)["type"] == "user"


def test_fewer_queues_than_processors_are_announced(folder: Path, capsys: Captured) -> None:
    """If the policy allows one queue only, the card has one, and the user reads why."""
    words = ["create", "web", "--image", "base.img", "--vcpus", "4", "--bridge", "br0"]
    with policy(folder, {("br0", 1)}):
        assert main(words) == 0

    assert "the card has one queue, not 4: the helper refused: " in capsys.readouterr().err
    assert card_of(folder)["queues"] == 1


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--bridge", "br0"], 4, r"you may use: --network default; or leave '--bridge' out"),
        (["--bridge", "br9"], 1, r"this host has no bridge 'br9'"),
        (["--network", "lan"], 4, r"or leave '--network' out"),
        (["--network", "default", "--queues", "3"], 4, r"the helper refused"),
    ],
)
def test_a_network_that_is_not_allowed(
    folder: Path, capsys: Captured, words: list[str], status: int, said: str
) -> None:
    """Nothing is made, and the user reads what is allowed."""
    with policy(folder, {("default", 2)}):
        assert main(["create", "web", "--image", "base.img", *words]) == status

    assert re.search(said, capsys.readouterr().err)
    assert [] == made(folder)


def test_a_bridge_without_a_helper(folder: Path, capsys: Captured) -> None:
    """Status 5, the way without a helper, and nothing made."""
    assert main(["create", "web", "--image", "base.img", "--bridge", "br0"]) == 5
    assert "or leave '--bridge' out" in capsys.readouterr().err
    assert [] == made(folder)


def test_an_existing_vm_is_not_overwritten(folder: Path, capsys: Captured) -> None:
    """Neither a description of either kind, nor a folder that was left."""
    vms = folder / "config/bpferry/vms"
    vms.mkdir(parents=True)
    (vms / "web.toml").write_text("mine", encoding="utf-8")
    (vms / "old.xml").write_text("mine", encoding="utf-8")
    (folder / "data/bpferry/vms/left").mkdir(parents=True)
    before = made(folder)

    for name in ("web", "old", "left"):
        assert main(["create", name, "--image", "base.img"]) == 1
        assert f"choose another name; or {'look' if name == 'left' else 'remove'}" in (
            capsys.readouterr().err
        )
    assert before == made(folder)
    assert "mine" == (vms / "web.toml").read_text(encoding="utf-8")


def test_two_at_once(folder: Path) -> None:
    """Of two that make a VM of the same name at the same time, one succeeds, and it is whole."""
    argv = [sys.executable, "-m", "bpferry", "create", "web", "--image", str(folder / "base.img")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    both = [subprocess.Popen(argv, env=env, stdout=-3, stderr=-3) for _ in range(2)]
    statuses = sorted(one.wait(60) for one in both)

    assert [0, 1] == statuses
    assert len(made(folder)) == 10


BAD_NAMES = ["", ".web", "-web", "web.", "we b", "a/b", "..", "ä", "n" * 33, "web\n"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_no_vm_can_have(folder: Path, capsys: Captured, name: str) -> None:
    """Status 2, with what a name may have in it."""
    assert main(["create", "--image", "base.img", "--", name]) == 2
    assert "use up to 32 letters" in capsys.readouterr().err
    assert [] == made(folder)


def write_images(folder: Path) -> None:
    """Write what users give in place of an image."""
    (folder / "empty").touch()
    (folder / "cd.iso").write_bytes(b"\0" * 0x8001 + b"CD001" + b"\0" * 100)
    (folder / "page.html").write_text("<html>404 not found", encoding="utf-8")
    (folder / "disk.vmdk").write_bytes(b"KDMV" + b"\0" * 600)
    (folder / "disk.xz").write_bytes(b"\xfd7zXZ\0" + b"\0" * 600)
    (folder / "disk.tar").write_bytes(b"\0" * 257 + b"ustar" + b"\0" * 600)
    (folder / "luks").write_bytes(b"LUKS\xba\xbe" + b"\0" * 600)
    (folder / "dir").mkdir()
    os.mkfifo(folder / "fifo")
    write_qcow2(folder / "over.qcow2", backing="/etc/shadow", of="raw")
    (folder / "broken.qcow2").write_bytes(b"QFI\xfb\0\0\0\x03" + b"\xff" * 600)


@pytest.mark.parametrize(
    ("image", "status", "said"),
    [
        ("missing.qcow2", 2, "No such file or directory\n.*https://cloud.debian.org"),
        ("dir", 2, "it is a directory"),
        ("fifo", 2, "it is not a file or a block device"),
        ("/dev/null", 2, "it is not a file or a block device"),
        ("https://host/debian.qcow2", 2, "it is an address.*\n.*curl -LO"),
        ("empty", 2, "it is empty"),
        ("cd.iso", 2, "it is an ISO image"),
        ("page.html", 2, "neither the header of an image format nor a boot sector\n.*--image-f"),
        ("disk.vmdk", 2, "it is vmdk\n.*qemu-img convert -f vmdk -O qcow2 disk.vmdk"),
        ("disk.xz", 2, "it is packed\n.*unxz -k disk.xz"),
        ("disk.tar", 2, "it is a tar archive"),
        ("luks", 2, "it is luks"),
        ("over.qcow2", 2, "in another file, '/etc/shadow'"),
        ("broken.qcow2", 1, "qemu-img: "),
        ("\udcff", 2, "is not UTF-8"),
    ],
)
def test_an_image_that_cannot_be_used(
    folder: Path, capsys: Captured, image: str, status: int, said: str
) -> None:
    """The user reads what it is and what to do; nothing is made."""
    write_images(folder)

    assert main(["create", "web", "--image", image]) == status
    assert re.search(said, capsys.readouterr().err)
    assert [] == made(folder)


@pytest.mark.privileged
def test_an_image_that_this_user_may_not_read(folder: Path, capsys: Captured) -> None:
    """Status 2, with the kernel's reason."""
    requires.root()
    let_in(folder)
    (folder / "base.img").chmod(0o600)
    with acting_as(ALICE):
        assert main(["create", "web", "--image", "base.img"]) == 2
    assert "cannot read the image 'base.img': Permission denied" in capsys.readouterr().err


def test_a_format_is_in_the_header_and_else_said(folder: Path, capsys: Captured) -> None:
    """A qcow2 image is known by its header; a raw one is told; one that was said is not."""
    write_qcow2(folder / "base.qcow2")
    for name, image, words in (
        ("a", "base.qcow2", []),
        ("b", "base.img", []),
        ("c", "base.img", ["--image-format", "raw"]),
    ):
        assert main(["create", name, "--json", "--image", image, *words]) == 0
        said = capsys.readouterr()
        assert ("qcow2" if name == "a" else "raw") == json.loads(said.out)["image"]["format"]
        assert (name == "b") == ("is used as a raw image" in said.err)

    assert main(["create", "d", "--image", "base.img", "--image-format", "qcow2"]) == 2
    assert "it has no header of that format" in capsys.readouterr().err


def test_a_container_that_is_said_to_be_raw_is_told(folder: Path, capsys: Captured) -> None:
    """The user decides, and reads what it looks like."""
    write_qcow2(folder / "base.qcow2")

    assert main(["create", "a", "--image", "base.qcow2", "--image-format", "raw"]) == 0
    assert "has a header of qcow2, and is used as raw, as you said" in capsys.readouterr().err


def test_without_a_home_folder_nothing_is_made_in_this_one(
    folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user who has no home is told which variables say where files go."""
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "~")

    assert main(["create", "a", "--image", "base.img"]) == 1
    assert "you have no home folder" in capsys.readouterr().err
    assert not (folder / "~").exists()


def test_the_disk_is_on_the_image_behind_a_link(folder: Path, capsys: Captured) -> None:
    """A link that leads to a newer image tomorrow does not change the disk below the VM."""
    (folder / "latest").symlink_to("base.img")

    assert main(["create", "web", "--json", "--image", "latest"]) == 0
    assert str(folder / "base.img") == json.loads(capsys.readouterr().out)["image"]["path"]


def test_a_disk_smaller_than_its_image(folder: Path, capsys: Captured) -> None:
    """Status 2, with the smallest size."""
    assert main(["create", "web", "--image", "base.img", "--disk-size", "512KiB"]) == 2
    assert "say at least '--disk-size \"1 MiB\"'" in capsys.readouterr().err
    assert [] == made(folder)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read the public key"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\n", "is a private key.*\n.*'key.pub'"),
        ("hello\n", "is not a file of public keys"),
        ("", "is not a file of public keys"),
        ("# only a comment\n", "is not a file of public keys"),
    ],
)
def test_a_file_without_a_public_key(
    folder: Path, capsys: Captured, content: str | None, said: str
) -> None:
    """Status 2; a private key never gets into a guest."""
    if content is not None:
        (folder / "key").write_text(content, encoding="utf-8")

    assert main(["create", "web", "--image", "base.img", "--ssh-key", "key"]) == 2
    assert re.search(said, capsys.readouterr().err)
    assert [] == made(folder)


@pytest.mark.parametrize("user", ["root", "Alice", "a b", "a:b", "", "1a", "x" * 33])
def test_a_user_that_a_guest_cannot_have(folder: Path, capsys: Captured, user: str) -> None:
    """Status 2, with a way out."""
    assert main(["create", "web", "--image", "base.img", "--user", user]) == 2
    assert "bpferry: hint: " in capsys.readouterr().err
    assert [] == made(folder)


@pytest.mark.parametrize(
    "words",
    [
        ["--memory", "0GiB"],
        ["--memory", "4"],
        ["--memory", "much"],
        ["--vcpus", "0"],
        ["--vcpus", "two"],
        ["--queues", "2"],
        ["--disk-size", "-1GiB"],
        ["--bridge", "br0", "--network", "lan"],
        ["--image-format", "vmdk"],
    ],
)
def test_a_wrong_option(folder: Path, words: list[str]) -> None:
    """Status 2, and nothing is made."""
    assert main(["create", "web", "--image", "base.img", *words]) == 2
    assert [] == made(folder)


def test_an_address_that_the_policy_wants(folder: Path, capsys: Captured) -> None:
    """--mac is asked about, and is the card's in the description and in the seed."""
    words = ["create", "web", "--image", "base.img", "--bridge", "br0"]
    with policy(folder, {("br0", 4)}) as asked:
        assert main([*words, "--mac", "52:54:00:12:34:56"]) == 0

    assert [bytes.fromhex("525400123456")] == [tap.mac for tap in asked if isinstance(tap, Tap)]
    assert card_of(folder)["mac"] == "52:54:00:12:34:56"
    assert '"52:54:00:12:34:56"' in seed_file(folder, "network-config", "-R")
    assert "MAC 52:54:00:12:34:56" in capsys.readouterr().out


def test_each_vm_has_its_own_port_for_ssh(folder: Path, capsys: Captured) -> None:
    """Two VMs that do not run yet get different ports of the host."""
    ports = []
    for name in ("a", "b"):
        words = ["--json", "--image", "base.img", "--ssh-key", "id.pub"]
        assert main(["create", name, *words]) == 0
        ports.append(json.loads(capsys.readouterr().out)["card"]["ssh_port"])

    assert len(set(ports)) == 2
    assert folder.exists()


def test_a_missing_qemu_img_is_named_with_its_package(
    folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status 1, and nothing made."""
    monkeypatch.setattr("bpferry.machine.creation.qemu_img.PROGRAM", "no-such-qemu-img")

    assert main(["create", "web", "--image", "base.img"]) == 1
    assert "Debian's package is 'qemu-utils'" in capsys.readouterr().err
    assert [] == made(folder)


FAILING = {
    "create": 'case $1 in create) echo "qemu-img: disk full" >&2; exit 1;; esac; exec {} "$@"',
    "info": 'echo "not json"',
}


@pytest.mark.parametrize("step", FAILING)
def test_nothing_is_left_when_qemu_img_fails(
    folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Neither files nor the folders that were made for them."""
    body = FAILING[step].format(requires.program("qemu-img"))
    fake_program = script(folder, body, "fake-qemu-img")
    monkeypatch.setattr("bpferry.machine.creation.qemu_img.PROGRAM", fake_program)

    assert main(["create", "web", "--image", "base.img"]) == 1
    assert "qemu-img" in capsys.readouterr().err
    assert [] == made(folder)


@pytest.mark.privileged
def test_nothing_is_left_if_the_description_cannot_be_written(
    folder: Path, capsys: Captured
) -> None:
    """The disk and the seed that were there already are removed again."""
    requires.root()
    let_in(folder)
    (folder / "config").mkdir(0o755)
    (folder / "data").mkdir()
    (folder / "data").chmod(0o777)
    with acting_as(ALICE):
        assert main(["create", "web", "--image", "base.img"]) == 1

    assert f"cannot make '{folder}/config/bpferry': Permission denied" in capsys.readouterr().err
    assert ["config", "data"] == made(folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_at_ctrl_c(folder: Path, number: signal.Signals) -> None:
    """A signal in the middle ends it, qemu-img too, and all that was made is removed."""
    body = f'case $1 in create) touch {folder}/here; sleep 60;; esac; exec {{}} "$@"'
    program = script(folder, body.format(requires.program("qemu-img")), "qemu-img")
    path = f"{Path(program).parent}{os.pathsep}{os.environ['PATH']}"
    argv = [sys.executable, "-m", "bpferry", "create", "web", "--image", str(folder / "base.img")]
    run = subprocess.Popen(
        argv,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PATH": path},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    assert wait_until((folder / "here").exists)
    assert made(folder)
    run.send_signal(number)
    started = time.monotonic()
    _, said = run.communicate(timeout=50)

    assert 128 + number == run.returncode
    assert f"error: stopped by {number.name}".encode() in said
    assert time.monotonic() - started < 30
    assert [] == made(folder)
