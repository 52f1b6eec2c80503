# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a test says how much it has tried."""

from collections.abc import Callable

import pytest

from tests.helper.conftest import roots_folder, rss, rss_digest

__all__ = ["roots_folder", "rss", "rss_digest"]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Return what prints a line at once, whatever pytest captures."""

    def write(line: str) -> None:
        with capsys.disabled():
            print(f"\n    {line}", flush=True)  # noqa: T201 - the figures are what it is run for

    return write
