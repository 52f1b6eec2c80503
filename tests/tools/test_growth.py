# SPDX-License-Identifier: LGPL-2.1-or-later
"""tools/growth.py: its page has what it prints, and its figures are where it says."""

from pathlib import Path
from typing import Final

import pytest

import growth

REPOSITORY: Final = Path(__file__).resolve().parents[2]

PAGE: Final = REPOSITORY / "docs/growth.md"


def test_page_has_what_is_printed() -> None:
    """All of it, for the usual numbers; with one VM more it would be another page."""
    page = PAGE.read_text()

    assert f"```text\n{growth.report()}```" in page
    assert growth.report(vms=growth.VMS + 1) not in page


@pytest.mark.parametrize("figure", growth.FIGURES, ids=lambda figure: figure.what)
def test_figure_is_in_its_source(figure: growth.Figure) -> None:
    """A figure that is measured anew there is noticed here."""
    assert figure.words in " ".join((REPOSITORY / figure.source).read_text().split())


def test_stop_timeout_is_that_of_the_manifests() -> None:
    """It decides how long an upgrade takes."""
    script = REPOSITORY / "docs/kubernetes/base/vm.sh"

    assert f"--stop-timeout {growth.STOP_S} " in script.read_text()


@pytest.mark.parametrize(
    ("requests", "apart_s", "refused"),
    [(16, 0.0, 0), (17, 0.0, 1), (20, 0.25, 0), (100, 0.25, 0), (100, 0.125, 35)],
)
def test_storm_is_answered_as_the_helper_s_buckets_do(
    requests: int, apart_s: float, refused: int
) -> None:
    """Sixteen at once and four a second: at twice that pace, each second one is refused, later."""
    assert refused == growth.refused_in_storm(requests, 16, 4.0, apart_s)


def test_little_that_is_asked_for_has_room_everywhere() -> None:
    """One node with one VM is below all limits, and no table says that something is short."""
    few = growth.bounds(1, 1, growth.Policy(), growth.Slurm())

    assert min(bound.room for bound in few) > 1
