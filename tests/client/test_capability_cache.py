# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is kept from one run to the next, and what is never believed."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from bpferry.errors import QemuError
from bpferry.qemu import cache, probe, store
from bpferry.qemu.capabilities import Capabilities
from tests import requires
from tests.client.support import QEMU, script
from tests.support.golden import capabilities_of
from tests.support.people import ALICE, acting_as

REPOSITORY = Path(__file__).parent.parent.parent


class Counted:
    """A QEMU that counts how often it is asked, and a folder of its own to be kept in."""

    def __init__(self, folder: Path) -> None:
        self.cache = folder / "cache/bpferry/capabilities"
        self.asked = folder / "asked"
        self.qemu = script(folder, f'echo once >> {self.asked}; exec {QEMU} "$@"')
        self.notes: list[str] = []

    def ask(self, *, refresh: bool = False) -> Capabilities:
        """Find out what it can do."""
        return cache.find_or_probe(self.qemu, refresh=refresh, note=self.notes.append)

    def answer(self, qemu: str) -> Capabilities:
        """Say what a real one said once, in place of a probe."""
        with self.asked.open("a", encoding="ascii") as file:
            file.write("once\n")
        return msgspec.structs.replace(capabilities_of("10.0.2"), qemu=qemu)

    @property
    def count(self) -> int:
        """How often it was asked."""
        return len(self.asked.read_text(encoding="ascii").split())

    @property
    def kept(self) -> Path:
        """The one file that was kept."""
        (found,) = self.cache.iterdir()
        return found


@pytest.fixture(name="real")
def _real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counted:
    requires.qemu()
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Counted(tmp_path)


@pytest.fixture(name="counted")
def _counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counted:
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    counted = Counted(tmp_path)
    monkeypatch.setattr(probe, "probe", counted.answer)
    return counted


@pytest.mark.qemu
def test_second_time_asks_nobody(real: Counted) -> None:
    """What was found is found again, whole, without starting QEMU."""
    first = real.ask()

    assert first == real.ask()
    assert (1, []) == (real.count, real.notes)


def test_refresh(counted: Counted) -> None:
    """Who asks for it gets a new answer, and that one is kept."""
    counted.ask()
    before = counted.kept.stat().st_ino

    counted.ask(refresh=True)

    assert counted.count == 2
    assert before != counted.kept.stat().st_ino


def test_other_name_of_the_same_binary(counted: Counted, tmp_path: Path) -> None:
    """By a symbolic link it is the same QEMU, under the name that it was asked for by."""
    counted.ask()
    link = tmp_path / "link"
    link.symlink_to(counted.qemu)

    assert str(link) == cache.find_or_probe(str(link)).qemu
    assert counted.count == 1


def _touch(path: Path) -> None:
    path.touch()


def _rewrite(path: Path) -> None:
    """Put other bytes of the same number there, and the old mtime back."""
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b"once", b"more"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace(path: Path) -> None:
    """Put a copy in its place, with the old mtime."""
    before = path.stat()
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.chmod(before.st_mode)
    os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))
    copy.rename(path)


@pytest.mark.parametrize("change", [_touch, _rewrite, _replace])
def test_changed_binary_is_asked_again(counted: Counted, change: Callable[[Path], None]) -> None:
    """Another file, or the same one in another state, is asked again."""
    counted.ask()
    change(Path(counted.qemu))

    counted.ask()

    assert counted.count == 2


def test_new_module_is_noticed(
    counted: Counted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a package adds a module of QEMU's, it is asked again."""
    modules = tmp_path / "modules"
    modules.mkdir()
    monkeypatch.setenv("QEMU_MODULE_DIR", str(modules))
    counted.ask()
    (modules / "hw-display-new.so").touch()

    counted.ask()

    assert counted.count == 2


@pytest.mark.parametrize("folder", ["lib/qemu", "lib64/qemu", "lib/ARCH-linux-gnu/qemu"])
def test_folders_of_modules_beside_the_binary(folder: str, tmp_path: Path) -> None:
    """The folders are watched in which distributions have QEMU's modules."""
    modules = tmp_path / folder.replace("ARCH", os.uname().machine)
    modules.mkdir(parents=True)
    (tmp_path / "bin").mkdir()

    found = cache.identify(script(tmp_path / "bin", "exit 1"))

    assert found is not None
    assert [str(modules)] == [entry[0] for entry in found.modules]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _other_content(path: Path) -> None:
    store.write(path.name, b"\x93\x01\x02\x03")


def _other_format(path: Path) -> None:
    kept = msgspec.msgpack.decode(store.read(path.name) or b"")
    kept[0] += 1
    store.write(path.name, msgspec.msgpack.encode(kept))


def _foreign(path: Path) -> None:
    os.chown(path, ALICE.uid, -1)


def _writable(path: Path) -> None:
    path.chmod(0o620)


def _link(path: Path) -> None:
    elsewhere = path.parent.parent / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


SPOILT = [
    _cut, _empty, _flip, _other_content, _other_format, _foreign, _writable, _link, _fifo,
]  # fmt: skip


@pytest.mark.privileged
@pytest.mark.timeout(20)
@pytest.mark.parametrize("spoil", SPOILT)
def test_spoilt_file_is_not_believed(counted: Counted, spoil: Callable[[Path], None]) -> None:
    """What is broken, not ours, or open to others is asked again, and then kept again."""
    first = counted.ask()
    spoil(counted.kept)

    assert first == counted.ask()
    assert first == counted.ask()
    assert (2, []) == (counted.count, counted.notes)


def test_place_that_is_taken(counted: Counted) -> None:
    """Where a folder is in the file's place, nothing is kept, and that is said."""
    counted.ask()
    _folder(counted.kept)

    counted.ask()

    assert len(counted.notes) == 1
    assert counted.notes[0].startswith("warning: cannot save in '")
    assert (
        f"' what '{counted.qemu}' can do: Is a directory; QEMU is asked again" in counted.notes[0]
    )


def test_modes(counted: Counted) -> None:
    """The file is for its owner alone, and so is its folder; nothing else is left there."""
    counted.ask()

    assert 0o100600 == counted.kept.stat().st_mode
    assert 0o040700 == counted.cache.stat().st_mode


@pytest.mark.privileged
@pytest.mark.parametrize("spoil", [_foreign, lambda path: path.chmod(0o777)])
def test_folder_that_is_not_ours_alone(counted: Counted, spoil: Callable[[Path], None]) -> None:
    """A folder of somebody else's, or open to all, is not read and not written to."""
    counted.ask()
    spoil(counted.cache)
    before = counted.kept.stat().st_ino

    counted.ask()

    assert (2, before) == (counted.count, counted.kept.stat().st_ino)
    assert "only you can write to" in counted.notes[0]


@pytest.mark.qemu
@pytest.mark.privileged
def test_folder_that_cannot_be_written_to(real: Counted) -> None:
    """Where nothing can be kept, the answer is the same, and one line says so."""
    with acting_as(ALICE):
        found = cache.find_or_probe(QEMU, note=real.notes.append)

    assert found.version >= (9, 0, 0)
    assert len(real.notes) == 1
    assert "Permission denied; QEMU is asked again" in real.notes[0]


def test_file_that_cannot_be_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a file is not writable to its end, nothing half written stays."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            store.write("name", bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert [] == list(Path(store.folder()).iterdir())


def test_qemu_that_dies_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A QEMU that ends while it is asked leaves nothing behind."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    with pytest.raises(QemuError):
        cache.find_or_probe(script(tmp_path, "exit 3"))

    assert not (tmp_path / "bpferry").exists()


def test_binary_that_changes_while_it_is_asked(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a QEMU said that was replaced meanwhile is not kept for its successor."""

    def answer(qemu: str) -> Capabilities:
        Path(qemu).touch()
        return counted.answer(qemu)

    monkeypatch.setattr(probe, "probe", answer)

    counted.ask()

    assert not counted.cache.exists()


@pytest.mark.qemu
def test_two_at_once(real: Counted) -> None:
    """Two who ask at the same time both get the answer, and one whole file is left."""
    code = "import sys; from bpferry.qemu import cache; cache.find_or_probe(sys.argv[1], note=exit)"
    command = [sys.executable, "-c", code, real.qemu]
    environment = os.environ | {"PYTHONPATH": f"{REPOSITORY}/client:{REPOSITORY}/shared"}
    both = [subprocess.Popen(command, env=environment) for _ in range(2)]

    assert [0, 0] == [process.wait(60) for process in both]
    real.ask()
    assert real.count == 2


@pytest.mark.qemu
def test_hit_imports_no_event_loop(real: Counted) -> None:
    """Reading what was kept brings neither asyncio nor QMP."""
    real.ask()
    code = (
        "import sys; from bpferry.qemu import cache; cache.find_or_probe(sys.argv[1]);"
        "print({'asyncio', 'qemu.qmp', 'tempfile'} & sys.modules.keys())"
    )
    environment = os.environ | {"PYTHONPATH": f"{REPOSITORY}/client:{REPOSITORY}/shared"}
    done = subprocess.run(
        [sys.executable, "-c", code, real.qemu],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert done.stdout == "set()\n"


def test_hit_is_fast(counted: Counted) -> None:
    """Reading what was kept takes at most 3 ms, at the best of some times."""
    counted.ask()

    def once() -> float:
        began = time.perf_counter()
        counted.ask()
        return time.perf_counter() - began

    assert min(once() for _ in range(20)) < 0.003


def test_clear_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing was kept, there is nothing to remove."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "nothing"))

    assert cache.clear() == 0


def test_clear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that was kept is removed, and what a killed process left half written."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("one", "two", ".new-left"):
        store.write(name, b"kept")

    assert (3, 0) == (cache.clear(), cache.clear())


def test_relative_cache_home_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that is not absolute counts as none, as the XDG specification has it."""
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", "/home/somebody")

    assert store.folder() == "/home/somebody/.cache/bpferry/capabilities"


FIELDS = (
    "qemu", "version", "package", "arch", "objects", "devices", "object_types", "machines",
    "machine_properties", "cpu_models", "cpu_properties", "accelerators", "options", "commands",
    "netdevs", "blockdevs", "chardevs", "audiodevs", "displays", "tpm_types",
)  # fmt: skip


def test_number_of_the_format() -> None:
    """Who adds or renames a field gives the format another number, and says so here."""
    assert (2, FIELDS) == (cache.FORMAT, Capabilities.__struct_fields__)
