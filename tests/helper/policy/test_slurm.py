# SPDX-License-Identifier: LGPL-2.1-or-later
"""What Slurm may place by a policy, as ``bpferry-helper slurm-gres`` prints it."""

from pathlib import Path

import pytest

from bpferry_helper import cli
from bpferry_helper.errors import PolicyError
from bpferry_helper.slurm import describe_gres

pytestmark = pytest.mark.privileged

OPEN = "[groups.1700107]\nbridges = ['br0']\n"
PAGE = Path(__file__).parents[3] / "docs/clusters.md"

DEFAULT = "NodeName=DEFAULT Gres=bpferry_taps:16,bpferry_queues:256,bpferry_sets:64"


def lines_of(path: Path, text: str) -> list[str]:
    """Return what is printed for the policy *text*."""
    path.write_text(text)
    return describe_gres(str(path)).splitlines()


def settings_of(path: Path, text: str) -> list[str]:
    """Return what Slurm reads of it."""
    return [line for line in lines_of(path, text) if not line.startswith("#")]


def test_node_counts_what_one_user_may_have(path: Path) -> None:
    """By default that is 16 taps with 16 queues each, and 64 sets; the types are named first."""
    assert [
        "GresTypes=bpferry_taps,bpferry_queues,bpferry_sets",
        DEFAULT,
    ] == settings_of(path, OPEN)


def test_page_has_what_is_printed(path: Path) -> None:
    """The page about clusters shows the lines of a policy with the usual limits."""
    assert "\n".join(settings_of(path, OPEN)) in PAGE.read_text()


@pytest.mark.parametrize(
    ("text", "gres"),
    [
        (f"{OPEN}taps = 4\nqueues-per-tap = 8\n[quota]\nqueues-per-tap = 2", (4, 32, 64)),
        (f"{OPEN}[quota]\ntaps-in-total = 3\nsets-in-total = 5", (3, 48, 5)),
        (f"{OPEN}[quota]\ntaps-per-user = 5\nsets-per-user = 0", (5, 80, 0)),
        (f"{OPEN}[users.1001]\nbridges = ['br0']\ntaps = 2", (16, 256, 64)),
        ("[users.1001]\nbridges = ['br0']\ntaps = 2", (2, 32, 64)),
        (f"{OPEN}taps = 9\n[users.10-20]\nbridges = ['br0']\ntaps = 3", (3, 48, 64)),
        (f"{OPEN}[users.1001]\ndeny = ['br0']\ntaps = 0", (16, 256, 64)),
        (f"{OPEN}taps = 40\n[qemu]\nbridge-conf = true", (16, 256, 64)),
        (f"{OPEN}[load]\nusers = []\ngroups = []", (16, 256, 0)),
    ],
)
def test_least_of_the_limits_counts(path: Path, text: str, gres: tuple[int, int, int]) -> None:
    """A limit of a group, of a user and of all together; a rule that only denies is none."""
    taps, queues, sets = gres

    assert (
        f"NodeName=DEFAULT Gres=bpferry_taps:{taps},bpferry_queues:{queues},bpferry_sets:{sets}"
        == settings_of(path, text)[1]
    )


def test_who_may_have_fewer_is_named(path: Path) -> None:
    """Slurm has one count for a node: whom the policy gives fewer taps is in a comment."""
    text = f"{OPEN}[users.1001]\nbridges = ['br0']\ntaps = 2\n"

    assert f"# {path}:3 (users.1001) gives only 2 taps: more such jobs fail here." in lines_of(
        path, text
    )


def test_room_that_one_user_cannot_use_is_told(path: Path) -> None:
    """The totals are named unless one user may have everything anyway."""
    equal = "[quota]\ntaps-per-user = 256\nsets-per-user = 1024\n"
    words = "All users together may have 256 taps and 1024 sets."

    assert words in "\n".join(lines_of(path, OPEN))
    assert words not in "\n".join(lines_of(path, OPEN + equal))


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "opens no bridge to anybody, so no job could have a tap"),
        (
            "[users.1001]\ndeny = ['br0']\n",
            "opens no bridge to anybody, so no job could have a tap",
        ),
        ("[quota]\nsets = 1\n", "unknown key"),
    ],
)
def test_policy_without_a_tap_is_an_error(path: Path, text: str, cause: str) -> None:
    """A count of nothing would only keep jobs waiting."""
    with pytest.raises(PolicyError, match=cause):
        lines_of(path, text)


def test_without_a_policy_there_is_nothing_to_count(path: Path) -> None:
    """Without the file no bridge is open."""
    with pytest.raises(PolicyError, match="does not exist, so no job could have a tap"):
        describe_gres(str(path))


def test_command_prints_them(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints what is for slurm.conf, and a mistake to standard error."""
    path.write_text(OPEN)
    assert 0 == cli.main(["slurm-gres", str(path)])
    assert DEFAULT in capsys.readouterr().out

    path.write_text("nonsense")
    assert 1 == cli.main(["slurm-gres", str(path)])
    assert f"bpferry-helper: error: {path}:1" in capsys.readouterr().err
