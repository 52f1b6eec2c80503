# SPDX-License-Identifier: LGPL-2.1-or-later
"""The policy file as it is now: who may have written it, and when it is read again."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpferry_helper.errors import PolicyError
from bpferry_helper.policy import current as policy_current
from bpferry_helper.policy.current import PolicyFile
from bpferry_helper.policy.file import read_policy
from bpferry_helper.policy.rules import DEFAULT_TRUSTED
from tests.helper.policy.conftest import GROUP
from tests.support.late_writes import late_writes
from tests.support.policy_file import end

pytestmark = pytest.mark.privileged


@pytest.fixture
def file(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PolicyFile]:
    """Yield the policy of now, at first without a file; its thread waits for ever, as it does."""
    monkeypatch.setattr(policy_current, "SETTLE_S", 20.0)
    file = PolicyFile(str(path), GROUP)
    yield file
    end(file)


def test_a_thread_that_writes_late_writes_into_no_other_test_s_fd(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The eventfd is closed after that, though the policy could be had before."""
    written = late_writes(monkeypatch)
    file = PolicyFile(str(path), GROUP)
    file.current()
    end(file)

    assert [file.wake_fd] == written


def test_no_file_is_the_default(path: Path) -> None:
    """So it is on a host where nobody wrote a policy."""
    read_back = read_policy(str(path), GROUP)

    assert (frozenset({GROUP}), DEFAULT_TRUSTED) == (read_back.groups, read_back.trusted)


def test_without_a_file_no_bridge_is_open(path: Path) -> None:
    """Nobody gets a tap before the administrator said so."""
    policy = read_policy(str(path), GROUP)

    assert ((), (), {}, False) == (
        policy.rules, policy.ports, policy.networks, policy.bridge_conf
    )  # fmt: skip


@pytest.mark.parametrize(("length", "allowed"), [(65_536, True), (65_537, False)])
def test_the_file_s_length_is_bounded(path: Path, length: int, *, allowed: bool) -> None:
    """64 KiB is read, one byte more is a mistake."""
    path.write_text("#" * length)
    try:
        read_policy(str(path), GROUP)
        read_back = True
    except PolicyError:
        read_back = False

    assert allowed == read_back


def spoil_symlink(path: Path) -> None:
    """Make a link to a good policy."""
    path.with_name("real").write_text("")
    path.symlink_to(path.with_name("real"))


def spoil_owner(path: Path) -> None:
    """Make a policy of somebody else's."""
    path.write_text("")
    os.chown(path, 1001, 0)


def spoil_mode(path: Path) -> None:
    """Make a policy that a group may write."""
    path.write_text("")
    path.chmod(0o664)


def spoil_mode_of_others(path: Path) -> None:
    """Make a policy that everybody may write."""
    path.write_text("")
    path.chmod(0o646)


SPOILED = {
    "a symbolic link": (spoil_symlink, "symbolic links"),
    "a FIFO": (os.mkfifo, "not a regular file"),
    "a folder": (os.mkdir, "directory"),
    "not root's": (spoil_owner, "must belong to root"),
    "writable by its group": (spoil_mode, "must belong to root"),
    "writable by others": (spoil_mode_of_others, "must belong to root"),
}


@pytest.mark.parametrize(("spoil", "words"), SPOILED.values(), ids=SPOILED)
def test_a_file_that_others_could_have_written_is_not_used(
    path: Path, spoil: object, words: str
) -> None:
    """It is an error and not the default: somebody meant something with it."""
    spoil(path)  # type: ignore[operator]

    with pytest.raises(PolicyError, match=words):
        read_policy(str(path), GROUP)


def test_a_change_is_seen(path: Path, file: PolicyFile) -> None:
    """Nobody restarts the helper for a new policy."""
    path.write_text("[quota]\nsets-per-user = 1\n")
    first = file.current().sets_per_user
    path.write_text("[quota]\nsets-per-user = 2\n")

    assert (first, file.current().sets_per_user) == (1, 2)


def test_a_file_that_appears_and_goes_is_seen(path: Path, file: PolicyFile) -> None:
    """Having no file is a policy too."""
    seen = [file.current().sets_per_user]
    path.write_text("[quota]\nsets-per-user = 2\n")
    seen.append(file.current().sets_per_user)
    path.unlink()
    seen.append(file.current().sets_per_user)

    assert seen == [64, 2, 64]


def test_an_unchanged_file_is_not_read_again(path: Path, file: PolicyFile) -> None:
    """The same value comes back, not an equal one."""
    path.write_text("")

    assert file.current() is file.current()


def test_a_mistake_that_went_by_itself_is_noticed(
    path: Path, file: PolicyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user who was added after the file was read is found without touching the file."""
    path.write_text("[load]\nusers = ['later']\n")
    monkeypatch.setattr(policy_current, "SKIPPED_S", 0.0)
    before = file.current().users
    monkeypatch.setattr("pwd.getpwnam", _found)

    assert (frozenset(), frozenset({4321})) == (before, file.current().users)


def test_a_user_who_was_deleted_is_written_to_the_journal_once(
    path: Path, file: PolicyFile, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """However often the file is read again to see whether the user has come back."""
    path.write_text("[users.gone-user]\nbridges = ['br0']\n")
    monkeypatch.setattr(policy_current, "SKIPPED_S", 0.0)
    for _ in range(3):
        file.current()

    assert capfd.readouterr().err == (
        f"bpferry-helper: warning: {path}:1: 'users.gone-user': this host has no such account: "
        "'gone-user'; it is skipped until a user of that name asks, ignoring\n"
    )


class _Account:
    pw_uid = 4321


def _found(_name: str) -> _Account:
    return _Account()
