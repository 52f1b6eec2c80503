# SPDX-License-Identifier: LGPL-2.1-or-later
"""Steps of tools/install, each by itself; tests/systemd has all of it on a booted system."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

pytestmark = pytest.mark.privileged

TOOL: Final = Path(__file__).parents[2] / "tools/install"

FUNCTIONS: Final = TOOL.read_text(encoding="utf-8").partition("\nneed_root\n")[0]
"""All but the last lines, which do something."""

HOLD: Final = """
import fcntl, os, struct
tap = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tap, 0x400454CA, struct.pack("16sH22x", b"bfp0123456789ab", 0x1002))
for _ in range(11000):
    os.dup(0)
print("ready", flush=True)
os.read(0, 1)
"""
"""With TUNSETIFF, a tap that one process has open beside many other files."""


def run(script: str) -> subprocess.CompletedProcess[str]:
    """Run *script* after the tool's functions, as the tool."""
    command = ("sh", "-c", f"{FUNCTIONS}\n{script}", str(TOOL))
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_holder_of_a_tap_is_found_among_many_open_files() -> None:
    """There are more than fit into one command's arguments, of which there is little here."""
    command = ("unshare", "--net", sys.executable, "-c", HOLD)
    pipe = subprocess.PIPE
    with subprocess.Popen(
        ("prlimit", "--nofile=12000", *command), stdin=pipe, stdout=pipe
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdout.readline()
        done = run("ulimit -s 1024; holders_of bfp0123456789ab")
        too_many = run("ulimit -s 1024; /bin/true /proc/[0-9]*/fdinfo/*")
        holder.stdin.close()

    assert done.stdout.startswith(f"process {holder.pid} ("), done
    assert too_many.returncode != 0


SETS: Final = """
systemd_runs() { :; }
our_taps() { :; }
has_sets=no
"""


@pytest.mark.parametrize(
    ("status", "words", "expected"),
    [
        ("/bin/false", "''", (1, "")),
        ("/bin/false", "--force", (0, "yes")),
        ("/bin/true", "''", (0, "no")),
    ],
    ids=["not answered", "not answered, but --force", "nothing is in use"],
)
def test_helpers_that_cannot_be_asked_may_have_sets(
    status: str, words: str, expected: tuple[int, str]
) -> None:
    """Without --force nothing is removed; with it, the list of sets is kept."""
    done = run(f"{SETS}status_command={status}; check_unused {words}; printf $has_sets")

    assert expected == (done.returncode, done.stdout)
    assert ("cannot ask both helpers" in done.stderr) == (status == "/bin/false")


@pytest.mark.parametrize("what", ["mode", "owner"])
def test_a_file_that_others_may_write_is_installed_again(what: str, tmp_path: Path) -> None:
    """Its content is the same. The control: the next time there is nothing to do."""
    target = tmp_path / "tap.service"
    shutil.copy(TOOL.parents[1] / "systemd/bpferry-tap.service", target)
    target.chmod(0o666 if what == "mode" else 0o644)
    os.chown(target, 65534 if what == "owner" else 0, 0)
    script = f"check_trusted() {{ :; }}; install_file systemd/bpferry-tap.service {target} 0644"
    times = [run(script).returncode for _ in range(2)]
    now = target.stat()

    assert [0, 1] == times
    assert (0o644, 0) == (now.st_mode & 0o777, now.st_uid)


@pytest.mark.parametrize("what", ["mode", "owner"])
def test_code_that_others_may_write_is_installed_again(what: str, tmp_path: Path) -> None:
    """One module of it is enough. The control: the next time there is nothing to do."""
    script = (
        f"lib={tmp_path}; python={sys.executable}; install_code helper shared/bpferry_wire;"
        "printf $code_changed"
    )
    run(script)
    module = tmp_path / "helper" / "bpferry_wire" / "fds.py"
    module.chmod(0o666 if what == "mode" else 0o644)
    os.chown(module, 65534 if what == "owner" else 0, 0)
    changed = [run(script).stdout for _ in range(2)]
    now = module.stat()

    assert ["yes", "no"] == changed
    assert (0o644, 0) == (now.st_mode & 0o777, now.st_uid)


MANUALS: Final = """
lib={folder}/lib share={folder}/share
mkdir -p "$lib/venv/bin" "$lib/client"
printf '#!/bin/sh\\nexec {python} "$@"\\n' >"$lib/venv/bin/python3"
chmod +x "$lib/venv/bin/python3"
cp -r "$repository/client/bpferry" "$repository/shared/bpferry_wire" "$lib/client/"
"""


def test_manuals_are_installed_once_and_removed_again(tmp_path: Path) -> None:
    """A second time changes nothing, also on another day; what was there before stays."""
    own = tmp_path / "share/man/man1/other.1"
    own.parent.mkdir(parents=True)
    own.touch()
    former = own.with_name("bpferry-former.1")
    former.touch()
    setting = MANUALS.format(folder=tmp_path, python=sys.executable)

    done = run(f"{setting}install_manuals; SOURCE_DATE_EPOCH=1; export SOURCE_DATE_EPOCH")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("installing man pages") == 1
    made = {str(path.relative_to(tmp_path / "share")) for path in (tmp_path / "share").rglob("*")}
    assert {
        "man/man1/bpferry.1", "man/man1/bpferry-tap-create.1", "man/man1/other.1",
        "man/man5/bpferry.toml.5", "man/man8/bpferry-helper.8",
        "bash-completion/completions/bpferry", "zsh/site-functions/_bpferry",
        "fish/vendor_completions.d/bpferry.fish",
    } <= made  # fmt: skip
    assert not former.exists()

    again = run(
        f"{setting}SOURCE_DATE_EPOCH=1; export SOURCE_DATE_EPOCH; install_manuals; remove_manuals; "
        'remove_folders "$(cat "$lib/made")"'
    )
    assert (again.returncode, again.stderr) == (0, "")
    assert [own] == [path for path in (tmp_path / "share").rglob("*") if path.is_file()]
    assert not (tmp_path / "share/fish").exists()
