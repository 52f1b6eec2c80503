# SPDX-License-Identifier: LGPL-2.1-or-later
"""A quota for each processor alone, as one that holds for all of them together.

The first takes a control group for each processor, which a unit of systemd cannot have. The second
is a property of a unit.
"""

from typing import TYPE_CHECKING, Final

from bpferry.errors import Unsupported

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

ALL_TOGETHER: Final = "{global quota}"
"""Stands in a hint for the elements with the document's own values."""

VAIN: Final = "remove it: it limits nothing"


def fill_in(refusal: Unsupported, root: "Element") -> None:
    """Put the elements with the values of the document *root* into the hint of *refusal*."""
    if ALL_TOGETHER not in refusal.hint:
        return
    quota, period = _number(root, "cputune/quota"), _number(root, "cputune/period")
    if quota <= 0:
        refusal.hint = VAIN  # It is the word for no limit.
        return
    written = f"<global_quota>{quota * max(_number(root, 'vcpu'), 1)}</global_quota>"
    if period > 0:
        written = f"<global_period>{period}</global_period>{written}"
    refusal.hint = refusal.hint.replace(ALL_TOGETHER, written)


def _number(root: "Element", path: str) -> int:
    """Return the number at *path*; 0 where there is none, or no number."""
    text = (root.findtext(path) or "").strip()
    return int(text) if text.removeprefix("-").isdecimal() and len(text) < 20 else 0  # noqa: PLR2004 - digits
