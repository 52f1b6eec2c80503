# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is found in a binary, and which binaries count."""

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import msgpack
import pytest

from bpferry_helper.bpf import embedded, trust
from bpferry_helper.bpf.binary import Binary, Untrusted, open_trusted
from bpferry_helper.bpf.embedded import (
    CHUNK_BYTES,
    ELF_HEADER,
    MAX_OBJECT_BYTES,
    MAX_OBJECTS_PER_BINARY,
    Embedded,
    scan,
)
from bpferry_helper.bpf.state import StateFolder
from bpferry_helper.bpf.trust import INDEX_FILE, TrustedObjects
from bpferry_helper.errors import RequestError
from bpferry_wire.errors import Code
from tests import requires
from tests.support.elf import SECTION_BYTES, fake_object, header
from tests.support.old_qemu import old_qemu_binary

pytestmark = pytest.mark.privileged

OBJECT = fake_object(b"content")


@pytest.fixture
def binary(roots_folder: Path) -> Path:
    """Return a trusted binary that holds OBJECT."""
    return write(roots_folder / "qemu-a", b"before" + OBJECT + b"after")


def write(path: Path, content: bytes) -> Path:
    """Write *content* as root would install it."""
    path.write_bytes(content)
    path.chmod(0o755)
    return path


def sha256(content: bytes) -> bytes:
    """Return the digest of *content*."""
    return hashlib.sha256(content).digest()


def found_in(path: Path) -> list[Embedded]:
    """Return what a scan of *path* finds."""
    opened = open_trusted(str(path))
    with opened.fd:
        return scan(opened)


def code_of(objects: TrustedObjects, digest: bytes, pattern: Path) -> Code:
    """Return the code with which looking for *digest* fails."""
    with pytest.raises(RequestError) as caught:
        objects.find(digest, [str(pattern)])
    return caught.value.code


# -- what a scan finds


@pytest.mark.qemu
def test_the_object_of_the_real_qemu_is_what_it_hands_out(rss: bytes) -> None:
    """What lies in the binary is byte for byte what request-ebpf gives."""
    assert [(sha256(rss), len(rss))] == [
        (found.digest, found.length) for found in found_in(Path(requires.qemu()))
    ]


def test_an_older_qemu_carries_another_object(rss: bytes) -> None:
    """QEMU 7.2 has one, of another digest: it is not a hand-over object."""
    requires.mmdebstrap()
    found = found_in(old_qemu_binary())

    assert sha256(rss) not in [embedded.digest for embedded in found]


def test_offset_and_length_are_those_of_the_object(binary: Path) -> None:
    """The length is read off the object's own header."""
    assert [Embedded(sha256(OBJECT), 6, len(OBJECT))] == found_in(binary)


@pytest.mark.parametrize("before", range(CHUNK_BYTES - 70, CHUNK_BYTES + 2))
def test_an_object_across_two_chunks_is_found_once(
    roots_folder: Path, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    """Whichever byte of its header is the first of the next chunk."""
    # The chunk is made small, not the file large.
    shift = CHUNK_BYTES - 128
    monkeypatch.setattr(embedded, "CHUNK_BYTES", 128)
    path = write(roots_folder / "qemu", bytes(before - shift) + OBJECT + bytes(300))

    assert [Embedded(sha256(OBJECT), before - shift, len(OBJECT))] == found_in(path)


def test_several_objects_are_found_in_order(roots_folder: Path) -> None:
    """Also without anything between them."""
    objects = [fake_object(bytes([n])) for n in range(3)]
    path = write(roots_folder / "qemu", b"".join(objects))

    assert [sha256(elf) for elf in objects] == [found.digest for found in found_in(path)]


def test_the_number_of_objects_is_bounded(roots_folder: Path) -> None:
    """A binary of nothing but objects does not fill the index."""
    path = write(roots_folder / "qemu", OBJECT * (MAX_OBJECTS_PER_BINARY + 5))

    assert len(found_in(path)) == MAX_OBJECTS_PER_BINARY


LYING = {
    "it ends before its sections": OBJECT[:-1],
    "it ends within its header": OBJECT[: ELF_HEADER.size - 1],
    "only the magic": b"\x7fELF",
    "sections at 0": header(0, 0) + bytes(500),
    "sections within the header": header(0) + bytes(500),
    "sections at 2^40": header(2**40) + bytes(500),
    "sections at -8": header(2**64 - 8) + bytes(500),
    "sections at 2^64-72": header(2**64 - 72) + bytes(500),
    "longer than allowed": header(MAX_OBJECT_BYTES) + bytes(MAX_OBJECT_BYTES + 500),
    "another machine": fake_object(b"x", machine=62),
    "an executable": OBJECT[:16] + b"\x02" + OBJECT[17:],
    "32 bits": OBJECT[:4] + b"\x01" + OBJECT[5:],
    "the other byte order": OBJECT[:5] + bytes([3 - OBJECT[5]]) + OBJECT[6:],
    "an empty file": b"",
    "no ELF": b"#!/bin/sh\nexit 0\n" * 100,
}


@pytest.mark.parametrize("content", LYING.values(), ids=LYING)
def test_what_lies_about_itself_is_not_an_object(roots_folder: Path, content: bytes) -> None:
    """Nothing is found, nothing is read beyond the file, nothing crashes."""
    assert found_in(write(roots_folder / "qemu", content)) == []


def test_the_longest_object_is_found(roots_folder: Path) -> None:
    """The bound itself is allowed."""
    longest = fake_object(bytes(MAX_OBJECT_BYTES - ELF_HEADER.size - SECTION_BYTES))

    assert [found.length for found in found_in(write(roots_folder / "qemu", longest))] == [
        MAX_OBJECT_BYTES
    ]


# -- which binaries count


def not_root(path: Path) -> None:
    """Give the file to somebody else."""
    os.chown(path, 1001, 0)


def not_root_folder(path: Path) -> None:
    """Give its folder to somebody else."""
    os.chown(path.parent, 1001, 0)


def mode(bits: int) -> Callable[[Path], None]:
    """Return what sets *bits* of the file."""
    return lambda path: path.chmod(bits)


def folder_mode(bits: int) -> Callable[[Path], None]:
    """Return what sets *bits* of its folder."""
    return lambda path: path.parent.chmod(bits)


def replaced_by_link(path: Path) -> None:
    """Put a link to a good binary in its place."""
    path.rename(path.with_name("real"))
    path.symlink_to(path.with_name("real"))


def replaced_by_fifo(path: Path) -> None:
    """Put a FIFO in its place."""
    path.unlink()
    os.mkfifo(path, 0o600)


def replaced_by_folder(path: Path) -> None:
    """Put a folder in its place."""
    path.unlink()
    path.mkdir(mode=0o755)


def gone(path: Path) -> None:
    """Remove it."""
    path.unlink()


SPOILED = {
    "not root's": not_root,
    "writable by its group": mode(0o775),
    "writable by others": mode(0o757),
    "in a folder that is not root's": not_root_folder,
    "in a folder that a group may write": folder_mode(0o775),
    "in a folder that all may write": folder_mode(0o1777),
    "a symbolic link": replaced_by_link,
    "a FIFO": replaced_by_fifo,
    "a folder": replaced_by_folder,
    "gone": gone,
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_binary_that_others_could_have_changed_does_not_count(
    binary: Path, state: StateFolder, spoil: Callable[[Path], None]
) -> None:
    """The object in it is unknown, and looking there neither waits nor fails."""
    spoil(binary)

    assert code_of(TrustedObjects(state), sha256(OBJECT), binary) == Code.UNKNOWN_OBJECT


@pytest.mark.parametrize("spoil", list(SPOILED.values())[:6], ids=list(SPOILED)[:6])
def test_what_makes_it_untrusted_is_said(binary: Path, spoil: Callable[[Path], None]) -> None:
    """The message names the part of the path that is not root's alone."""
    spoil(binary)

    with pytest.raises(Untrusted, match=str(binary.parent)):
        open_trusted(str(binary))


def test_a_folder_further_up_counts_too(roots_folder: Path, state: StateFolder) -> None:
    """A user who can rename a folder can change what is in it."""
    inner = roots_folder / "open" / "inner"
    inner.mkdir(parents=True, mode=0o755)
    path = write(inner / "qemu", OBJECT)
    inner.parent.chmod(0o777)

    assert code_of(TrustedObjects(state), sha256(OBJECT), path) == Code.UNKNOWN_OBJECT


def test_a_link_among_the_folders_is_not_followed(roots_folder: Path, state: StateFolder) -> None:
    """As little as one in the last part."""
    (roots_folder / "real").mkdir(mode=0o755)
    write(roots_folder / "real" / "qemu", OBJECT)
    (roots_folder / "link").symlink_to("real")
    path = roots_folder / "link" / "qemu"

    assert code_of(TrustedObjects(state), sha256(OBJECT), path) == Code.UNKNOWN_OBJECT


# -- find


def test_an_object_is_found_by_its_digest(binary: Path, state: StateFolder) -> None:
    """What comes back are its bytes."""
    assert TrustedObjects(state).find(sha256(OBJECT), [str(binary)]) == OBJECT


def test_a_pattern_finds_among_several(roots_folder: Path, state: StateFolder) -> None:
    """The last part of a pattern may have wildcards."""
    write(roots_folder / "qemu-a", b"nothing")
    write(roots_folder / "qemu-b", OBJECT)

    assert TrustedObjects(state).find(sha256(OBJECT), [str(roots_folder / "qemu-*")]) == OBJECT


def test_one_changed_bit_is_not_found(binary: Path, state: StateFolder) -> None:
    """Whichever bit of the digest it is."""
    objects = TrustedObjects(state)
    digest = sha256(OBJECT)
    for bit in range(0, 256, 37):
        changed = bytearray(digest)
        changed[bit // 8] ^= 1 << bit % 8

        assert code_of(objects, bytes(changed), binary) == Code.UNKNOWN_OBJECT


def test_an_object_with_one_changed_bit_is_not_found(binary: Path, state: StateFolder) -> None:
    """A changed binary does not give a changed object under the old digest."""
    content = bytearray(binary.read_bytes())
    content[6 + ELF_HEADER.size] ^= 1
    write(binary, bytes(content))

    assert code_of(TrustedObjects(state), sha256(OBJECT), binary) == Code.UNKNOWN_OBJECT


def test_a_binary_is_read_once(
    binary: Path, state: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index answers the second time, also in the next process."""
    TrustedObjects(state).find(sha256(OBJECT), [str(binary)])
    monkeypatch.setattr(trust, "scan", lambda _: pytest.fail("read again"))

    assert TrustedObjects(state).find(sha256(OBJECT), [str(binary)]) == OBJECT


def test_a_replaced_binary_is_read_again(binary: Path, state: StateFolder) -> None:
    """An upgrade of QEMU needs no restart of the helper."""
    objects = TrustedObjects(state)
    objects.find(sha256(OBJECT), [str(binary)])
    newer = fake_object(b"newer")
    write(binary.with_name("new"), newer).rename(binary)

    assert newer == objects.find(sha256(newer), [str(binary)])


def test_a_lying_index_is_not_believed(binary: Path, state: StateFolder, tmp_path: Path) -> None:
    """Bytes are hashed each time: who could write the index gains nothing by it."""
    objects = TrustedObjects(state)
    code_of(objects, bytes(32), binary)
    index = msgpack.unpackb((tmp_path / INDEX_FILE).read_bytes())
    (key,) = index["binaries"]
    wanted = sha256(b"anything")
    index["binaries"][key] = [[wanted, 0, 20]]
    (tmp_path / INDEX_FILE).write_bytes(msgpack.packb(index))

    assert code_of(TrustedObjects(state), wanted, binary) == Code.UNKNOWN_OBJECT


def test_a_file_that_changed_between_scan_and_read_is_not_used(
    binary: Path, state: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes that are handed on are those that were hashed."""
    real_scan = scan

    def scan_then_overwrite(opened: Binary) -> list[Embedded]:
        found = real_scan(opened)
        with binary.open("r+b") as file:
            file.seek(6 + ELF_HEADER.size)
            file.write(b"CHANGED")
        return found

    monkeypatch.setattr(trust, "scan", scan_then_overwrite)

    assert code_of(TrustedObjects(state), sha256(OBJECT), binary) == Code.UNKNOWN_OBJECT


def test_a_found_object_is_remembered(binary: Path, state: StateFolder) -> None:
    """A VM that runs on after its QEMU was upgraded can still get a card."""
    TrustedObjects(state).find(sha256(OBJECT), [str(binary)])
    binary.unlink()

    assert TrustedObjects(state).find(sha256(OBJECT), [str(binary)]) == OBJECT


def test_a_remembered_object_that_was_damaged_is_not_used(
    binary: Path, state: StateFolder, tmp_path: Path
) -> None:
    """It is hashed too."""
    TrustedObjects(state).find(sha256(OBJECT), [str(binary)])
    binary.unlink()
    (tmp_path / f"object-{sha256(OBJECT).hex()}").write_bytes(OBJECT[:-1] + b"x")

    assert code_of(TrustedObjects(state), sha256(OBJECT), binary) == Code.UNKNOWN_OBJECT


def test_what_nobody_asked_for_is_not_remembered(
    binary: Path, state: StateFolder, tmp_path: Path
) -> None:
    """Only a found object is kept."""
    code_of(TrustedObjects(state), bytes(32), binary)

    assert list(tmp_path.glob("object-*")) == []


def test_no_more_than_some_objects_are_remembered(
    roots_folder: Path, state: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest is forgotten."""
    monkeypatch.setattr(trust, "MAX_REMEMBERED", 3)
    elves = [fake_object(bytes([n])) for n in range(5)]
    path = write(roots_folder / "qemu", b"".join(elves))
    objects = TrustedObjects(state)
    for elf in elves:
        objects.find(sha256(elf), [str(path)])

    assert [f"object-{sha256(elf).hex()}" for elf in elves[2:]] == state.names("object-")


def test_a_full_disk_does_not_stop_a_load(
    binary: Path, state: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Index and memory save time; the object is found without them."""

    def full(_name: str, _content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state, "write", full)

    assert TrustedObjects(state).find(sha256(OBJECT), [str(binary)]) == OBJECT


BROKEN = {
    "empty": b"",
    "no msgpack": b"\xc1",
    "a list": msgpack.packb([]),
    "another format": msgpack.packb({"format": 99, "binaries": {}}),
    "no binaries": msgpack.packb({"format": 1}),
    "binaries as a list": msgpack.packb({"format": 1, "binaries": []}),
    "an entry too short": msgpack.packb({"format": 1, "binaries": {"k": [[b"", 1]]}}),
    "an entry of text": msgpack.packb({"format": 1, "binaries": {"k": ["abc"]}}),
    "an entry that is a number": msgpack.packb({"format": 1, "binaries": {"k": 5}}),
    "trailing bytes": msgpack.packb({"format": 1, "binaries": {}}) + b"x",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_index_is_made_again(
    binary: Path, state: StateFolder, tmp_path: Path, content: bytes
) -> None:
    """Losing it costs time only."""
    (tmp_path / INDEX_FILE).write_bytes(content)

    assert TrustedObjects(state).find(sha256(OBJECT), [str(binary)]) == OBJECT


def test_an_index_that_is_a_folder_is_passed_over(
    binary: Path, state: StateFolder, tmp_path: Path
) -> None:
    """Whatever lies there, it is a hint that is missing; the fixture counts the fds."""
    (tmp_path / INDEX_FILE).mkdir()

    assert TrustedObjects(state).find(sha256(OBJECT), [str(binary)]) == OBJECT


def test_several_workers_may_look_at_the_same_time(roots_folder: Path, state: StateFolder) -> None:
    """The index is replaced and never changed under somebody's eyes."""
    for number in range(40):
        write(roots_folder / f"qemu-{number}", fake_object(bytes([number])))
    objects = TrustedObjects(state)
    missed: list[BaseException] = []

    def look(number: int) -> None:
        try:
            elf = fake_object(bytes([number]))
            objects.find(sha256(elf), [str(roots_folder / "qemu-*")])
        except BaseException as error:  # noqa: BLE001 - the test shows it
            missed.append(error)

    threads = [threading.Thread(target=look, args=(n % 40,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert missed == []


# -- before anybody asks


def test_objects_that_were_kept_outlive_their_binary(roots_folder: Path, tmp_path: Path) -> None:
    """No client has asked for one before the upgrade. The control: without it, it is unknown."""
    first, second = fake_object(b"first"), fake_object(b"second")
    old = write(roots_folder / "qemu-old", first + second)
    write(roots_folder / "qemu-twin", first)
    control, state = tmp_path / "control", tmp_path / "state"
    control.mkdir()
    state.mkdir()
    pattern = roots_folder / "qemu-*"
    number = TrustedObjects(StateFolder(str(state))).keep_all([str(pattern)])
    for path in (old, roots_folder / "qemu-twin"):
        path.unlink()
    kept = TrustedObjects(StateFolder(str(state)))

    assert 2 == number
    assert [first, second] == [kept.find(sha256(elf), [str(pattern)]) for elf in (first, second)]
    forgetful = TrustedObjects(StateFolder(str(control)))
    assert Code.UNKNOWN_OBJECT == code_of(forgetful, sha256(first), pattern)
