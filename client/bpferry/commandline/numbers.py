# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sets of processors and nodes, as documents write them: ``0-3,^1,8``."""

from collections.abc import Iterable, Iterator

from bpferry.commandline.context import mistaken

MAX_NUMBER = 65535
"""More than any host has; a longer range would only use up memory."""


def parse_numbers(text: str, key: str) -> tuple[int, ...]:
    """Return the numbers of *text*, in order.

    Raises:
        Unsupported: it contains no number, or one that is too large; the error names *key*.
    """
    wanted: set[int] = set()
    for item in text.split(","):
        first, _, last = item.removeprefix("^").partition("-")
        low, high = int(first), int(last or first)
        if low > high or high > MAX_NUMBER:
            raise mistaken(
                key,
                f"'{item}' is not a range of numbers up to {MAX_NUMBER}",
                "write numbers and ranges, such as 0-3,8",
            )
        numbers = range(low, high + 1)
        wanted = wanted - set(numbers) if item.startswith("^") else wanted | set(numbers)
    if not wanted:
        raise mistaken(
            key,
            f"'{text}' leaves no number",
            "name at least one number that is not taken out with '^'",
        )
    return tuple(sorted(wanted))


def format_ranges(numbers: Iterable[int]) -> Iterator[str]:
    """Yield *numbers*, which are in order, as few ranges such as ``0-3``."""
    start = end = None
    for number in numbers:
        if end is not None and number == end + 1:
            end = number
            continue
        if start is not None:
            yield f"{start}" if start == end else f"{start}-{end}"
        start = end = number
    if start is not None:
        yield f"{start}" if start == end else f"{start}-{end}"
