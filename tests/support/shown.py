# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a long test shows while it runs: a table that grows by a line now and then."""

from collections.abc import Callable

import pytest

Say = Callable[[str], None]


def past_capture(config: pytest.Config) -> Say:
    """Return what prints a line at once, whatever pytest captures."""
    capture = config.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(line, flush=True)  # noqa: T201 - the table is what it is run for

    return say
