# SPDX-License-Identifier: LGPL-2.1-or-later
"""The policy that tools/install puts on a host: only comments, and in them all that there is."""

import fnmatch
import re
from pathlib import Path
from typing import Final

from bpferry_helper.policy.rules import Policy, Port
from bpferry_helper.policy.toml_form import CHECKS, PORT_CHECKS, parse_policy

TEMPLATE: Final = Path(__file__).parents[2] / "tools/prepare/policy.toml"
TEXT: Final = TEMPLATE.read_text(encoding="utf-8")

STATEMENT: Final = re.compile(r"^# (?=\[|[a-z-]+ = )", re.MULTILINE)
"""What is removed where a line shall count."""

EXAMPLES: Final = ("bridges", "users", "groups", "rules", "ports", "networks", "lines", "unknown")
"""Fields of Policy that have no default worth showing."""


def parsed(text: str) -> Policy:
    """Return the policy in *text*, for a host that knows neither alice nor bpferry."""
    text = text.replace(".alice", ".1001").replace(".bpferry", ".1001").replace('"bpferry"', "1001")
    return parse_policy("policy.toml", text, socket_gid=7)


def counting(text: str) -> str:
    """Return *text* with the statements in its comments."""
    return STATEMENT.sub("", text)


def missing_keys(text: str) -> set[str]:
    """Return the keys that *text* does not show."""
    # What is said of a port is shown once, in a bridge's table.
    elsewhere = {f"{table}.*.{key}" for table in ("users", "groups") for key in PORT_CHECKS}
    lines = parsed(counting(text)).lines
    return {key for key in CHECKS if not fnmatch.filter(lines, key)} - elsewhere


def test_as_it_is_installed_it_says_nothing() -> None:
    """It is the same as an empty file."""
    assert parsed("") == parsed(TEXT)


def test_it_shows_every_key() -> None:
    """With what would count if its comments were taken away, which has no mistake."""
    assert set() == missing_keys(TEXT)


def test_a_key_that_is_not_shown_is_noticed() -> None:
    """The check above can fail."""
    assert {"quota.taps-at-once"} == missing_keys(re.sub("# taps-at-once.*\n", "", TEXT))


def test_its_numbers_and_flags_are_the_defaults() -> None:
    """So that removing a comment changes nothing but what is changed with it."""
    usual, shown = parsed(""), parsed(counting(TEXT))
    other = {
        field
        for field in Policy._fields
        if field not in EXAMPLES and getattr(shown, field) != getattr(usual, field)
    }
    [port] = shown.ports
    flags = {field for field, value in port._asdict().items() if isinstance(value, bool)}
    changed = {field for field in flags if getattr(port, field) != getattr(Port(), field)}

    assert (set(), set()) == (other, changed)
    assert port.tx_queue_length == Port().tx_queue_length
    assert all(rule.taps == usual.taps_per_user for rule in shown.rules)
    assert all(rule.queues_per_tap == usual.queues_per_tap for rule in shown.rules)
