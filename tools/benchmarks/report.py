# SPDX-License-Identifier: LGPL-2.1-or-later
"""The table, and the same as one JSON object."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from benchmarks.figures import (
    Figures,
    Row,
    Verdict,
    percentile,
    ratios,
    rows,
    to_ms,
    verdicts,
)

if TYPE_CHECKING:
    from benchmarks.object import CarriedObject

DIGEST_SHOWN = 16
"""How many hexadecimal digits of a digest the table shows."""

WITHOUT_LIBVIRT = (
    "to compare with libvirt: apt-get install -t bookworm-backports libvirt-clients "
    "libvirt-daemon libvirt-daemon-driver-qemu"
)

RATIO_NAMES = {
    "load_to_c": "a warm load, of C's",
    "cold_to_c": "a cold start and load, of C's load",
    "two_to_c": "two at once, of C's two",
    "c_two_at_once": "C: two at once, of one",
    "hello_to_floor": "no load, of the floor in C",
    "ready_to_floor": "a set that is ready, of the floor",
    "load_to_ready": "a warm load, of a set that is ready",
}


def as_object(figures: Figures, carried: "CarriedObject") -> dict[str, object]:
    """Return everything as one JSON object; times are in milliseconds, memory in KiB."""
    return {
        "object": {
            "sha256": carried.digest.hex(),
            "bytes": len(carried.elf),
            "binary": carried.binary,
        },
        "machine": {"kernel": platform.release(), "cpus": cpus()},
        "times": {row.key: times_of(row) for row in rows(figures)},
        "ratios": ratios(figures),
        "memory": asdict(figures.memory),
        "wanted": {verdict.key: wanted(verdict) for verdict in verdicts(figures)},
        "met": all(verdict.met for verdict in verdicts(figures)),
    }


def times_of(row: Row) -> dict[str, float]:
    """Return *row* for JSON."""
    return {"count": row.count, "p50_ms": row.p50_ms, "p99_ms": row.p99_ms}


def wanted(verdict: Verdict) -> dict[str, object]:
    """Return *verdict* for JSON."""
    return {
        "value": verdict.value,
        "at_most": verdict.at_most,
        "unit": verdict.unit,
        "met": verdict.met,
    }


def as_table(figures: Figures, carried: "CarriedObject") -> str:
    """Return everything for a person to read."""
    digest = carried.digest.hex()[:DIGEST_SHOWN]
    lines = [
        f"object {digest}, {len(carried.elf)} bytes, of {carried.binary}",
        f"Linux {platform.release()}, {cpus()} processors; helper and C in turn",
        "",
        f"{'':<36} {'N':>5} {'p50':>11} {'p99':>11}",
        *(row_line(row) for row in rows(figures)),
        "",
        *(_ratio_line(key, value) for key, value in ratios(figures).items()),
        f"{'most resident memory ever':<36} {mib(figures.memory.peak_kib):>21.1f} MiB",
        "",
        f"{'wanted':<36} {'at most':>10} {'measured':>10}",
        *(verdict_line(verdict) for verdict in verdicts(figures)),
    ]
    return "\n".join(lines) + "\n"


def table_of(
    times: Mapping[str, Sequence[int]], judged: Sequence[Verdict], without: str = ""
) -> str:
    """Return *times*, in nanoseconds, and *judged* for a person; *without* says what to install.

    That is for what was not measured.
    """
    lines = [f"{'':<12} {'N':>5} {'p50':>11} {'p99':>11}"]
    for name, values in times.items():
        if values:
            p50, p99 = (to_ms(percentile(values, percent)) for percent in (50, 99))
            lines.append(f"{name:<12} {len(values):>5} {p50:>8.3f} ms {p99:>8.3f} ms")
        else:
            lines.append(f"{name:<12} left out; {without}")
    lines += ["", f"{'wanted':<36} {'at most':>10} {'measured':>10}"]
    return "\n".join([*lines, *map(verdict_line, judged)]) + "\n"


def object_of(times: Mapping[str, Sequence[int]], judged: Sequence[Verdict]) -> dict[str, object]:
    """Return the same as one JSON object; times are in milliseconds."""
    return {
        "times": {
            name: {"count": len(values), "p50_ms": to_ms(percentile(values, 50))}
            for name, values in times.items()
            if values
        },
        "wanted": {verdict.key: wanted(verdict) for verdict in judged},
        "met": all(verdict.met for verdict in judged),
    }


def cpus() -> int:
    """Return on how many processors this process may run."""
    return len(os.sched_getaffinity(0))


def mib(kib: int) -> float:
    """Return *kib* in MiB."""
    return kib / 1024


def row_line(row: Row) -> str:
    """Return *row* for a person."""
    return f"{row.what:<36} {row.count:>5} {row.p50_ms:>8.3f} ms {row.p99_ms:>8.3f} ms"


def _ratio_line(key: str, value: float) -> str:
    return f"{RATIO_NAMES[key]:<36} {value:>21.2f} times"


def verdict_line(verdict: Verdict) -> str:
    """Return *verdict* for a person."""
    outcome = "met" if verdict.met else "missed"
    values = f"{verdict.at_most:>10.1f} {verdict.value:>10.2f}"
    return f"{verdict.what:<36} {values} {verdict.unit:<6} {outcome}"
