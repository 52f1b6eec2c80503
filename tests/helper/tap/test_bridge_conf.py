# SPDX-License-Identifier: LGPL-2.1-or-later
"""/etc/qemu/bridge.conf: the grammar, compared with QEMU's own helper, and where we are stricter.

QEMU's helper has the file's path built in. It runs in a mount namespace with an /etc of its own,
and in a network namespace without any bridge: if it may, it fails later, with other words.
"""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from bpferry_helper.tap import bridge_conf
from bpferry_helper.tap.bridge_conf import BridgeConf, BridgeConfFile, read_bridge_conf
from tests import requires

pytestmark = pytest.mark.privileged

QEMU_HELPER = "/usr/lib/qemu/qemu-bridge-helper"

LONGEST = "b" * 15


@pytest.fixture
def path(roots_folder: Path) -> Path:
    """Return where the file shall be."""
    return roots_folder / "bridge.conf"


def read(path: Path, text: str | bytes) -> BridgeConf:
    """Write *text* and read it."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_bridge_conf(str(path))


def allows(conf: BridgeConf, bridge: str) -> bool:
    """Say whether *conf* allows *bridge*."""
    decision = conf.decide(bridge)
    return decision is not None and decision.allowed


def qemu_allows(folder: Path, text: str | bytes, bridge: str) -> bool:
    """Say whether QEMU's helper gets past its list of permissions with *text* as the file."""
    (folder / "qemu").mkdir()
    (folder / "qemu" / "bridge.conf").write_bytes(
        text if isinstance(text, bytes) else text.encode()
    )
    bind = shlex.join(["mount", "--bind", str(folder), "/etc"])
    helper = shlex.join([QEMU_HELPER, f"--br={bridge}", "--fd=0"])
    argv = ["unshare", "--mount", "--net", "--", "sh", "-c", f"{bind} && exec {helper}"]
    done = subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    refusals = (b"access denied by acl file", b"failed to parse", b"Invalid config", b"Unknown com")

    # Either it is refused in words that we know, or it comes as far as the missing bridge.
    refused = any(words in done.stderr for words in refusals)
    assert refused != (b"failed to get mtu of bridge" in done.stderr), done.stderr
    return not refused


SAME_AS_QEMU = {
    "nothing": ("", False),
    "one bridge": ("allow br0\n", True),
    "another bridge": ("allow br1\n", False),
    "the beginning of a name": ("allow br\nallow br01\n", False),
    "all": ("allow all\n", True),
    "all in capitals": ("allow ALL\n", False),
    "no wildcards": ("allow br*\nallow *\n", False),
    "a denial first": ("deny br0\nallow br0\n", False),
    "a denial last": ("allow br0\ndeny br0\n", False),
    "one of all allowed": ("allow all\ndeny br0\n", False),
    "all denied but one": ("deny all\nallow br0\n", False),
    "another one denied": ("allow all\ndeny br1\n", True),
    "no newline at the end": ("allow br0", True),
    "a comment": ("# allow all\n", False),
    "a comment after space": (" \t# x\nallow br0\n", True),
    "empty lines": ("\n \n\t\n\f\nallow br0\n", True),
    "space around": ("  allow   br0  \n", True),
    "a tab between": ("allow\tbr0\n", True),
    "tabs between": ("\tallow\t\t br0\t\n", False),
    "a space, then a tab": ("allow \tbr0\n", True),
    "a tab, then a trailing space": ("allow\tbr0 \n", False),
    "line ends of windows": ("allow br0\r\n", True),
    "a verb in capitals": ("Allow br0\n", False),
    "an unknown verb": ("allow br0\npermit br1\n", False),
    "a verb alone": ("allow br0\nallow\n", False),
    "a vertical tab before": ("\vallow br0\n", False),
    "a name of 15 bytes": (f"allow br0\nallow {LONGEST}\n", True),
    "a name of 16 bytes": (f"allow br0\nallow {LONGEST}X\n", False),
    "a denied name of 16 bytes": (f"allow br0\ndeny {LONGEST}X\n", False),
    "a name of other bytes": (b"allow \xff\nallow br0\n", True),
    "a name that is a word": ("allow include\nallow br0\n", True),
    "a line of 4095 bytes": ("#" * 4094 + "\nallow br0\n", True),
}


@pytest.mark.parametrize(("text", "expected"), SAME_AS_QEMU.values(), ids=SAME_AS_QEMU)
def test_the_grammar_is_qemu_s(path: Path, text: str | bytes, *, expected: bool) -> None:
    """What is expected of us is what QEMU's helper does."""
    requires.file(QEMU_HELPER, "qemu-system-common")
    theirs = path.parent / "etc"
    theirs.mkdir()

    assert (expected, expected) == (
        allows(read(path, text), "br0"),
        qemu_allows(theirs, text, "br0"),
    )


STRICTER = {
    "an include that is not there": "allow br0\ninclude /nonexistent\n",
    "a name with a space": "allow br0\ndeny br1 # why\n",
    "a name with a slash": "allow br0\ndeny a/b\n",
    "a name of dots": "allow br0\ndeny ..\n",
    "a space and no name": "allow br0\nallow \n",
    "a long comment": "allow br0\n#" + "x" * 4094 + "\n",
    "a comment that is cut": "#" * 4095 + "allow br0\n",
}


@pytest.mark.parametrize("text", STRICTER.values(), ids=STRICTER)
def test_where_we_are_stricter(path: Path, text: str) -> None:
    """What QEMU takes for something that the administrator hardly meant grants nothing."""
    requires.file(QEMU_HELPER, "qemu-system-common")
    theirs = path.parent / "etc"
    theirs.mkdir()

    assert (False, True) == (allows(read(path, text), "br0"), qemu_allows(theirs, text, "br0"))


MISTAKES = {
    "an unknown verb": ("\npermit br0\n", 2, "unknown 'permit'"),
    "a tab and a trailing space": ("allow\tbr0 \n", 1, "unknown 'allow\\tbr0'"),
    "a verb alone": ("allow br0\n\nallow\n", 3, "'allow' lacks a name"),
    "a verb and a space": ("deny \n", 1, "'deny' lacks a name"),
    "an include of nothing": ("include\t\n", 1, "'include' lacks a name"),
    "a long name": (f"allow {LONGEST}X\n", 1, "is longer than 15 bytes"),
    "a name with a colon": ("deny br:0\n", 1, "no interface can have the name 'br:0'"),
    "a name with NUL": ("deny br0\0\n", 1, "no interface can have the name"),
    "a long line": ("\n" + "#" * 4095 + "\n", 2, "is longer than 4095 bytes"),
    "a relative include": ("include more.conf\n", 1, "it is not an absolute path"),
    "an include with NUL": ("include /x\0\n", 1, "it is not an absolute path"),
    "an include that is not there": ("\ninclude /nonexistent\n", 2, "No such file"),
    "an include of a folder": ("include /etc\n", 1, "Is a directory"),
    "too long a file": ("#\n" * 40_000, 0, "is longer than 65536 bytes"),
}


@pytest.mark.parametrize(("text", "line", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_names_its_line(path: Path, text: str, line: int, words: str) -> None:
    """The administrator is told where it is and what it is."""
    mistake = read(path, text).mistake

    assert mistake is not None
    assert (line, True) == (mistake.line, words in str(mistake))


def test_a_mistake_grants_nothing_and_says_so(path: Path) -> None:
    """Neither what comes before it nor what comes after it counts."""
    conf = read(path, "allow br0\nnonsense\nallow all\n")

    mistake = f"{path}:2: unknown 'nonsense'; there are 'allow', 'deny' and 'include'"

    assert conf.decide("br0") == (False, f"nothing is granted while there is a mistake: {mistake}")


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("\nallow br0\n", "2 allows 'br0'"),
        ("allow all\n", "1 allows all"),
        ("allow br0\n\ndeny br0\n", "3 denies 'br0'"),
        ("allow br0\ndeny all\n", "2 denies all"),
    ],
)
def test_a_decision_names_its_line(path: Path, text: str, because: str) -> None:
    """The line that a denial is in, if there is one."""
    decision = read(path, text).decide("br0")

    assert decision is not None
    assert f"{path}:{because}" == decision.because


def test_what_no_line_is_about_is_not_decided(path: Path) -> None:
    """And so not allowed; but somebody else's rule may allow it."""
    assert read(path, "allow br1\ndeny br2\n").decide("br0") is None


def test_a_file_that_is_not_there_says_nothing(path: Path) -> None:
    """It is not a mistake, nor is it one to delete a file with no rule left in it."""
    conf = read_bridge_conf(str(path))

    assert (None, None) == (conf.mistake, conf.decide("br0"))


def include(path: Path, name: str, text: str) -> Path:
    """Make *path* a file that includes another one beside it, of *text*; return the other one."""
    other = path.with_name(name)
    other.write_text(text)
    path.write_text(f"allow br0\ninclude {other}\n")
    return other


def test_an_included_file_counts(path: Path) -> None:
    """With its own lines."""
    other = include(path, "more.conf", "\nallow br1\n")

    assert read_bridge_conf(str(path)).decide("br1") == (True, f"{other}:2 allows 'br1'")


def test_an_included_denial_wins(path: Path) -> None:
    """Wherever it is."""
    include(path, "more.conf", "deny br0\n")

    assert not allows(read_bridge_conf(str(path)), "br0")


def test_a_mistake_in_an_included_file_grants_nothing(path: Path) -> None:
    """QEMU passes over it; the line is the included file's."""
    other = include(path, "more.conf", "allow br1\nnonsense\n")
    conf = read_bridge_conf(str(path))

    assert not allows(conf, "br0")
    assert str(conf.mistake).startswith(f"{other}:2: unknown 'nonsense'")


def test_a_file_that_includes_itself_is_a_mistake(path: Path) -> None:
    """Through another one, too."""
    other = include(path, "more.conf", f"include {path}\n")
    mistake = read_bridge_conf(str(path)).mistake

    assert str(mistake) == f"{other}:1: cannot include '{path}': it includes itself"


@pytest.mark.parametrize(("count", "allowed"), [(8, True), (9, False)])
def test_the_depth_of_includes_is_bounded(path: Path, count: int, *, allowed: bool) -> None:
    """Eight levels below the first file, and no more."""
    for number in range(count):
        below = path.with_name(f"{number + 1}.conf")
        path.with_name(f"{number}.conf").write_text(f"include {below}\n")
    path.with_name(f"{count}.conf").write_text("allow br0\n")

    assert allowed == allows(read_bridge_conf(str(path.with_name("0.conf"))), "br0")


@pytest.mark.parametrize(("count", "allowed"), [(31, True), (32, False)])
def test_the_number_of_includes_is_bounded(path: Path, count: int, *, allowed: bool) -> None:
    """32 files with the first one, also if it is the same again and again."""
    path.with_name("more.conf").write_text("")
    line = f"include {path.with_name('more.conf')}\n"

    assert allowed == allows(read(path, "allow br0\n" + line * count), "br0")


@pytest.mark.parametrize("which", ["bridge.conf", "more.conf"])
@pytest.mark.parametrize(("owner", "mode"), [(1001, 0o644), (0, 0o664), (0, 0o646)])
def test_a_file_that_others_could_have_written_grants_nothing(
    path: Path, which: str, owner: int, mode: int
) -> None:
    """Nor does one that includes it."""
    include(path, "more.conf", "allow br1\n")
    os.chown(path.with_name(which), owner, 0)
    path.with_name(which).chmod(mode)
    conf = read_bridge_conf(str(path))

    assert not allows(conf, "br0")
    assert "must belong to root and be writable by nobody else" in str(conf.mistake)


@pytest.mark.parametrize("which", ["bridge.conf", "more.conf"])
def test_a_symbolic_link_grants_nothing(path: Path, which: str) -> None:
    """It could be led elsewhere."""
    include(path, "more.conf", "allow br1\n")
    real = path.with_name(which).rename(path.with_name("real"))
    path.with_name(which).symlink_to(real)

    assert "symbolic links" in str(read_bridge_conf(str(path)).mistake)


def test_an_unchanged_file_is_not_read_again(path: Path) -> None:
    """The same value comes back, not an equal one."""
    include(path, "more.conf", "")
    file = BridgeConfFile(str(path))

    assert file.current() is file.current()


@pytest.mark.parametrize("which", ["bridge.conf", "more.conf"])
def test_a_change_is_seen(path: Path, which: str) -> None:
    """Of an included file, too."""
    include(path, "more.conf", "")
    file = BridgeConfFile(str(path))
    before = allows(file.current(), "br0")
    path.with_name(which).write_text("deny br0\n")

    assert (before, allows(file.current(), "br0")) == (True, False)


def test_a_file_that_appears_is_seen(path: Path) -> None:
    """Having none is a state of the file, too."""
    file = BridgeConfFile(str(path))
    before = allows(file.current(), "br0")
    path.write_text("allow br0\n")

    assert (before, allows(file.current(), "br0")) == (False, True)


def test_an_included_file_that_appears_is_seen(path: Path) -> None:
    """The mistake is gone with it."""
    include(path, "more.conf", "").unlink()
    file = BridgeConfFile(str(path))
    before = allows(file.current(), "br0")
    path.with_name("more.conf").write_text("")

    assert (before, allows(file.current(), "br0")) == (False, True)


def test_a_mistake_that_went_by_itself_is_noticed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file was in order, but for a moment nothing could be opened."""
    path.write_text("allow br0\n")
    file = BridgeConfFile(str(path))
    monkeypatch.setattr(bridge_conf, "RETRY_S", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(bridge_conf, "read_roots_file", _no_fds)
        before = file.current().mistake

    assert (True, True) == ("Too many open files" in str(before), allows(file.current(), "br0"))


def _no_fds(_path: str) -> bytes:
    raise OSError(24, "Too many open files")
