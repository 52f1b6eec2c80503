# SPDX-License-Identifier: LGPL-2.1-or-later
"""Mutated eBPF objects, wherever the helper could come across one: none reaches libbpf.

A client sends no object, so a mutated one has to lie where the helper looks. Each mutant lies at
each of these places in turn, and its request takes the whole way from the decoded packet on:
service, index and state folder, digest, loader, and the function of libbpf that gets the bytes.

    kept       in the state folder, as the object of the digest that is asked for
    replaced   in a trusted QEMU, at the place where the index says the real object is
    strangers  in a QEMU that another user owns, or may write, or that a link leads to; it is asked
               for by its own digest

What libbpf is handed is written down, and only the real object is really passed on to it. A mutant
in a QEMU that root alone can write is not refused, since root has installed it: so the last test
sees that what libbpf is handed is seen here.
"""

import ctypes
import errno
import hashlib
import mmap
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from bpferry_helper.bpf import census, service
from bpferry_helper.bpf.libbpf import library
from bpferry_helper.bpf.service import BpfService
from bpferry_helper.bpf.state import StateFolder
from bpferry_helper.errors import RequestError
from bpferry_helper.exchange import Asked, Paced
from bpferry_helper.identity import Peer
from bpferry_helper.policy import current
from bpferry_helper.policy.current import PolicyFile
from bpferry_wire.errors import Code
from bpferry_wire.messages import Load, LoadReply
from tests.abuse.amounts import IN_TWO_FORMS, amount
from tests.abuse.mutants import MOST_BYTES, mutants
from tests.fuzz import targets
from tests.support.helper_process import NO_LIMITS
from tests.support.policy_file import end

pytestmark = IN_TWO_FORMS

MUTANTS: Final = amount(2_000, 1_000_000)
SEED: Final = 7

INSTALLED: Final = 200
"""Mutants that root installs, to see that they would be seen."""

GROUP: Final = 1_700_000
USERS: Final = range(1_700_001, 1_700_101)
"""They ask in turn, so that nobody asks too often."""

OWNER: Final = 1001
AT: Final = 64
"""Where an object begins in a binary."""

Place = Callable[[bytes], bytes]
"""Puts some bytes where the helper looks, and returns the digest to ask for."""


class Gate:
    """A helper's service in this process, and what it hands to libbpf."""

    def __init__(self, service: BpfService, original: bytes) -> None:
        self.handed: list[bytes] = []
        self._service = service
        self._asked = 0
        self._passed = (original, Path(census.OBJECT).read_bytes())
        self._open = library().bpf_object__open_mem

    def open_mem(self, elf: bytes, size: int, options: None) -> int | None:
        """Stand in for libbpf's function."""
        assert size == len(elf)
        if elf != self._passed[1]:
            self.handed.append(elf)
        if elf in self._passed:
            opened: int | None = self._open(elf, size, options)
            return opened
        ctypes.set_errno(errno.EINVAL)
        return None

    def ask(self, digest: bytes) -> Code | None:
        """Ask for a set; return why there is none, or None after letting go of a whole one."""
        self._asked += 1
        peer = Peer(USERS[self._asked % len(USERS)], frozenset({GROUP}), 1)
        try:
            work = self._service.prepare(Asked(Load("rss", digest), peer))
            assert isinstance(work, Paced)
            answer = work.run()
        except RequestError as error:
            return error.code
        with answer.fds as fds:
            assert isinstance(answer.reply, LoadReply)
            assert len(fds) == 4
        return None


@contextmanager
def trusted_memory(folder: Path) -> Iterator[None]:
    """Let *folder* be in memory, where a file that is mapped can change without a new time."""
    mount = ["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", str(folder)]
    subprocess.run(mount, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def folder(roots_folder: Path) -> Iterator[Path]:
    """Yield an empty folder, in memory, that root alone can write."""
    with trusted_memory(roots_folder):
        (roots_folder / "state").mkdir()
        (roots_folder / "qemu").mkdir(mode=0o755)
        yield roots_folder


@pytest.fixture
def gate(folder: Path, rss: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Yield a service that trusts QEMUs of the folder, in place of libbpf's own function."""
    monkeypatch.setattr(current, "SETTLE_S", 20.0)
    policy = folder / "policy.toml"
    policy.write_text(
        f'{NO_LIMITS}[load]\ngroups = [{GROUP}]\n[qemu]\ntrusted = ["{folder}/qemu/*"]\n'
    )
    file = PolicyFile(str(policy), GROUP)
    counting = census.Census()
    monkeypatch.setattr(service, "Census", lambda: counting)
    gate = Gate(BpfService(file, StateFolder(str(folder / "state"))), rss)
    monkeypatch.setattr(library(), "bpf_object__open_mem", gate.open_mem)
    yield gate
    if counting._link is not None:
        counting._link.close()
    end(file)


@pytest.fixture
def places(folder: Path, gate: Gate, rss: bytes) -> Iterator[dict[str, Place]]:
    """Yield every place for a mutant; where root's QEMU was read, it had the real object."""
    digest = hashlib.sha256(rss).digest()
    binary = folder / "qemu/ours"
    binary.write_bytes(bytes(AT + MOST_BYTES))
    kept = folder / f"state/object-{digest.hex()}"
    with binary.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        # Not with zeros, with which an object ends: a mutant that lacks some would have them again.
        blank = b"\xff" * len(mapped)
        # Only the first time that a page is written to gives the file a new time.
        mapped[:] = blank
        mapped[AT : AT + len(rss)] = rss
        before = binary.stat()
        assert gate.ask(digest) is None
        assert kept.read_bytes() == rss
        kept.unlink()

        def keep(content: bytes) -> bytes:
            mapped[:] = blank
            kept.write_bytes(content)
            return digest

        def replace(content: bytes) -> bytes:
            kept.unlink(missing_ok=True)
            mapped[:] = blank
            mapped[AT : AT + len(content)] = content
            return digest

        yield {"kept": keep, "replaced": replace, **strangers(folder)}
        after = binary.stat()
        # Otherwise it would have been read anew, and the index would not have been put to test.
        assert (after.st_mtime_ns, after.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)
    gate.handed.clear()


def strangers(folder: Path) -> dict[str, Place]:
    """Return places in QEMUs that others could have changed."""
    owned, written, linked = (folder / f"qemu/{name}" for name in ("owned", "written", "linked"))
    target = folder / "target"
    linked.symlink_to(target)
    for path in (owned, written, target):
        path.touch(mode=0o755)
    os.chown(owned, OWNER, OWNER)
    written.chmod(0o775)

    def into(path: Path) -> Place:
        def put(content: bytes) -> bytes:
            path.write_bytes(bytes(AT) + content)
            return hashlib.sha256(content).digest()

        return put

    return {"owned": into(owned), "written": into(written), "linked": into(target)}


def mend(folder: Path) -> None:
    """Make root's alone what others could have changed."""
    os.chown(folder / "qemu/owned", 0, 0)
    (folder / "qemu/written").chmod(0o755)
    (folder / "qemu/linked").unlink()
    (folder / "target").rename(folder / "qemu/linked")


def test_no_mutant_reaches_libbpf(
    gate: Gate, places: dict[str, Place], rss: bytes, say: Callable[[str], None]
) -> None:
    """Each is unknown at every place, and a QEMU that carries it is read within its bounds."""
    gate.handed.clear()
    for mutant in mutants(rss, MUTANTS, SEED):
        codes = {name: gate.ask(put(mutant)) for name, put in places.items()}
        assert set(codes.values()) == {Code.UNKNOWN_OBJECT}, codes
        targets.elf(bytes(AT) + mutant)
        assert gate.handed == []
    say(f"mutated objects: N = {MUTANTS}, each at {len(places)} places: 0 reached libbpf")


@pytest.mark.parametrize("place", ["kept", "replaced", "owned", "written", "linked"])
def test_the_real_object_reaches_libbpf(
    gate: Gate, places: dict[str, Place], folder: Path, rss: bytes, place: str
) -> None:
    """From each of these places, once the strangers' are root's: so the helper looks there."""
    gate.handed.clear()
    digest = places[place](rss)
    if place not in ("kept", "replaced"):
        places["replaced"](b"")
        assert gate.ask(digest) == Code.UNKNOWN_OBJECT
        mend(folder)
    assert gate.ask(digest) is None

    assert gate.handed == [rss]


def test_a_mutant_that_reached_libbpf_would_be_seen(
    gate: Gate, places: dict[str, Place], folder: Path, rss: bytes
) -> None:
    """Root's own QEMU is trusted, whatever it carries: about half look like objects there."""
    gate.handed.clear()
    mend(folder)
    installed = list(mutants(rss, INSTALLED, SEED))
    codes = [gate.ask(places["owned"](mutant)) for mutant in installed]

    seen = [one for one, code in zip(installed, codes, strict=True) if code == Code.UNSUPPORTED]
    assert gate.handed == seen
    assert len(seen) > INSTALLED / 4
