# SPDX-License-Identifier: LGPL-2.1-or-later
"""Passwords and keys: the files that hold them, and the memory that QEMU inherits."""

import fcntl
import os
import stat
from pathlib import Path

import pytest

from bpferry.commandline.build import Built
from bpferry.commandline.parts import Secret
from bpferry.domain.document import read_bytes, read_file
from bpferry.errors import BadInput, NotReady
from bpferry.machine import secrets
from bpferry.machine.secret_map import read_map
from bpferry.machine.secrets import find_problems, open_secret
from tests import requires

UUID = "0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f"
WANTED = Secret("s0", "disks[0].encryption.secrets[0]", wanted="my disk")
KEY = Secret("s1", "disks[0].login.secret", wanted="ceph", form="base64")


def file(folder: Path, content: bytes, mode: int = 0o600) -> str:
    """Write the file of a secret and return its path."""
    path = folder / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


def read(secret: Secret, files: dict[str, str]) -> bytes:
    """Return what QEMU would read."""
    with open_secret(secret, files) as fd:
        return Path(f"/proc/self/fd/{fd}").read_bytes()


def problem_of(secret: Secret, files: dict[str, str]) -> NotReady:
    """Return what opening *secret* is refused for."""
    with pytest.raises(NotReady) as caught:
        read(secret, files)
    return caught.value


@pytest.mark.parametrize("content", [b"geheim", b"geheim\n"])
def test_file_is_read_without_the_end_of_its_line(content: bytes, tmp_path: Path) -> None:
    """An editor and ``echo`` write one."""
    assert b"geheim" == read(WANTED, {"my disk": file(tmp_path, content)})


def test_spaces_belong_to_a_secret(tmp_path: Path) -> None:
    """Only one end of a line does not."""
    assert b" two words \n" == read(WANTED, {"my disk": file(tmp_path, b" two words \n\n")})


def test_what_the_document_holds_needs_no_file() -> None:
    """Such as a password of VNC."""
    assert b"geheim" == read(Secret("v", "graphics[0]", text="geheim"), {})


def test_nobody_can_change_what_qemu_reads(tmp_path: Path) -> None:
    """The memory is sealed, and no other program inherits it by chance."""
    with open_secret(WANTED, {"my disk": file(tmp_path, b"x")}) as fd:
        with pytest.raises(PermissionError):
            os.write(fd, b"y")
        assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SEAL
        assert not os.get_inheritable(fd)


def test_memory_is_closed_after_use(tmp_path: Path) -> None:
    """Nothing is left open, also not after an error."""
    before = os.listdir("/proc/self/fd")  # noqa: PTH208 - only counted
    read(WANTED, {"my disk": file(tmp_path, b"x")})
    problem_of(WANTED, {"my disk": file(tmp_path, b"")})

    assert len(before) == len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def test_pipe() -> None:
    """A secret may come from another program, as with ``--secret NAME=<(pass show disk)``."""
    reader, writer = os.pipe()
    os.write(writer, b"geheim\n")
    os.close(writer)
    try:
        assert b"geheim" == read(WANTED, {"my disk": f"/dev/fd/{reader}"})
    finally:
        os.close(reader)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_file_that_others_can_use_is_refused(mode: int, tmp_path: Path) -> None:
    """With the command that mends it."""
    path = file(tmp_path, b"geheim", mode)
    found = problem_of(WANTED, {"my disk": path})

    assert f"cannot use '{path}' as the secret 'my disk'" in found.message
    assert f"(mode {mode:04o})" in found.message
    assert f"chmod 600 {path}" == found.hint
    assert "geheim" not in found.message


def test_file_of_another_user_is_refused(tmp_path: Path) -> None:
    """Who owns a file can change what is in it."""
    requires.root()
    path = file(tmp_path, b"geheim")
    os.chown(path, 12345, 12345)

    assert "belongs to user 12345" in problem_of(WANTED, {"my disk": path}).message


CONTENTS = [
    (WANTED, b"", "it is empty"),
    (WANTED, b"\n", "it is empty"),
    (WANTED, b"x" * 70000, "more than 65536 bytes"),
    (WANTED, b"\xff\xfe", "UTF-8"),
    (WANTED, b"a\0b", "UTF-8"),
    (KEY, b"not base64!", "base64"),
]


@pytest.mark.parametrize(("secret", "content", "words"), CONTENTS)
def test_content_that_qemu_would_not_take(
    secret: Secret, content: bytes, words: str, tmp_path: Path
) -> None:
    """It is found before QEMU starts, and not repeated."""
    path = file(tmp_path, content)

    assert words in problem_of(secret, {secret.wanted: path}).message


def test_key_of_ceph(tmp_path: Path) -> None:
    """As its tools print it."""
    text = b"AQDgG1pn5xkbMhAAnGmsyg2dpLVLBAsmFsC7Yw=="

    assert text == read(KEY, {"ceph": file(tmp_path, text + b"\n")})


def test_folder_is_refused(tmp_path: Path) -> None:
    """It is neither a file nor a pipe."""
    assert "neither a file nor a pipe" in problem_of(WANTED, {"my disk": str(tmp_path)}).message


def test_unnamed_secret_says_how_to_name_it() -> None:
    """The words can be pasted into a shell."""
    found = problem_of(WANTED, {})

    assert "it needs the secret 'my disk', and no file is named for it" == found.message
    assert "--secret 'my disk=FILE'" in found.hint
    assert 'name = "my disk"' in found.hint
    assert WANTED.key == found.element


def built(*parts: Secret) -> Built:
    """Return a command line with *parts* alone."""
    return Built((), parts, ())


def test_problems_are_found_without_opening(tmp_path: Path) -> None:
    """A dry run looks at the files, and does not read them."""
    path = file(tmp_path, b"", 0o644)
    first = find_problems(built(WANTED, KEY), {"my disk": path})

    assert ["others can use it too", "it needs the secret 'ceph'"] == [
        next(words for words in ("others can use it too", "it needs the secret 'ceph'")
             if words in one.message)
        for one in first
    ]  # fmt: skip


def test_nothing_to_say(tmp_path: Path) -> None:
    """A file that is there and private, and a secret that the document holds."""
    files = {"my disk": file(tmp_path, b"x")}

    assert [] == list(find_problems(built(WANTED, Secret("v", "k", text="x")), files))


def test_file_that_is_not_there(tmp_path: Path) -> None:
    """It is said before QEMU starts."""
    (found,) = find_problems(built(WANTED), {"my disk": f"{tmp_path}/none"})

    assert "No such file" in found.message


DOCUMENT = f"""\
name = "vm"
memory = "64 MiB"

[[secrets]]
name = "{UUID}"
file = "luks.key"

[[secrets]]
name = "my disk"
file = "/k"
"""


def test_description_names_files_and_the_user_more() -> None:
    """What the user says counts; a UUID is the same in each spelling."""
    document = read_bytes(DOCUMENT.encode(), Path("/vms/vm.toml"))
    given = {UUID.upper().replace("-", ""): "/given"}
    files = secrets.files_of(document, given)

    wanted = Secret("s", "k", wanted=UUID)
    assert "/given" == files[secrets.name_of(wanted.wanted)]
    assert "/k" == files["my disk"]
    assert "/vms/luks.key" == secrets.files_of(document, {})[secrets.name_of(UUID)]


def test_map(tmp_path: Path) -> None:
    """A file that says where secrets are begins its paths at its own folder."""
    path = tmp_path / "secrets.toml"
    path.write_text('[[secrets]]\nname = "a"\nfile = "a.key"\n')

    assert {"a": f"{tmp_path}/a.key"} == read_map(str(path))


@pytest.mark.parametrize("text", ["name = 'x'", "[[secrets]]\nname = 'x'", "secrets = 3", "[["])
def test_map_that_says_something_else(text: str, tmp_path: Path) -> None:
    """It is refused with its path."""
    path = tmp_path / "secrets.toml"
    path.write_text(text)

    with pytest.raises(BadInput, match=str(path)):
        read_map(str(path))


def test_map_that_is_not_there() -> None:
    """So is one that cannot be read."""
    with pytest.raises(BadInput, match="No such file"):
        read_map("/nowhere/secrets.toml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[secrets]]\nname = "a"', "'secrets[0].file' is missing"),
        ("vcpus = 4", "unknown key 'vcpus'"),
        ("[[secrets]]\nname = 4", "'secrets[0].name' is not of the right type"),
    ],
)
def test_list_of_secrets_that_is_wrong(text: str, words: str, tmp_path: Path) -> None:
    """It is said in words of people what is wrong, and how such a list looks."""
    path = tmp_path / "secrets.toml"
    path.write_text(text)

    with pytest.raises(BadInput) as caught:
        read_map(str(path))

    assert caught.value.message == f"'{path}' is no list of secrets: {words}"
    assert "write [[secrets]]" in caught.value.hint


def test_secret_is_not_in_the_representation_of_its_part() -> None:
    """No traceback and no log of ours shows it."""
    assert "geheim" not in repr(Secret("v", "k", text="geheim"))


def test_memory_belongs_to_the_user() -> None:
    """QEMU opens it once more, by its own number."""
    with open_secret(Secret("v", "k", text="x"), {}) as fd:
        found = os.fstat(fd)

    assert os.geteuid() == found.st_uid
    assert stat.S_ISREG(found.st_mode)


SECRETIVE = 'name = "vm"\nmemory = "64 MiB"\n[[graphics]]\ntype = "vnc"\npassword = "{}"\n'


@pytest.mark.parametrize(("mode", "count"), [(0o644, 1), (0o604, 1), (0o600, 0)])
def test_description_with_a_password_that_others_can_read(
    mode: int, count: int, tmp_path: Path
) -> None:
    """It is said, with the command that mends it."""
    path = tmp_path / "vm.toml"
    path.write_text(SECRETIVE.format("x"))
    path.chmod(mode)
    found = list(secrets.find_exposed(read_file(path)))

    assert count == len(found)
    for one in found:
        assert "'graphics[0].password': others can read this secret" in one.message
        assert f"chmod 600 {path}" == one.hint


def test_description_without_a_secret_is_as_open_as_it_likes(tmp_path: Path) -> None:
    """Nobody is told anything."""
    path = tmp_path / "vm.toml"
    path.write_text('name = "vm"\nmemory = "64 MiB"\n')
    path.chmod(0o644)

    assert [] == list(secrets.find_exposed(read_file(path)))
