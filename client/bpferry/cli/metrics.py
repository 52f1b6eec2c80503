# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry metrics: what Prometheus may know about the VMs that run."""

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from bpferry.cli import output
from bpferry.cli.steering_fields import as_fields
from bpferry.cli.steering_meter import Measured, Meter, card_ids
from bpferry.cli.steering_text import queues_of
from bpferry.errors import BpferryError, NotReady
from bpferry.machine.control.client import Control
from bpferry.machine.control.packets import records
from bpferry.machine.control.running import connect, find_running
from bpferry.steering.plan import Rung

if TYPE_CHECKING:
    from prometheus_client import Metric

STATISTICS: Final = Path("/sys/class/net")
"""Where the kernel has the counters of taps, for everybody who can see the tap."""

NO_LIBRARY: Final = (
    "install Debian's package python3-prometheus-client, or: pip install 'bpferry[metrics]'"
)


class Sample(NamedTuple):
    """One VM, or that it does not answer."""

    vm_name: str
    cards: tuple[Measured, ...] = ()
    taps: tuple[tuple[str, str], ...] = ()
    """The tap of each card that has one."""
    up: bool = True


def metrics(vm_name: str | None, *, interval_s: float, as_json: bool) -> int:
    """Print OpenMetrics text about one VM, or about all that run; or the same as JSON.

    Raises:
        NotReady: prometheus-client is not installed.
        NotRunning: there is no such VM.
    """
    if as_json:
        output.print_json({"vms": list(map(_fields, _samples(vm_name, interval_s)))})
        return 0
    if importlib.util.find_spec("prometheus_client") is None:
        raise NotReady("metrics need the Python package prometheus-client", NO_LIBRARY)
    output.print_text(expose(_samples(vm_name, interval_s)).rstrip("\n"))
    return 0


def _samples(vm_name: str | None, interval_s: float) -> list[Sample]:
    if vm_name is None:
        return [_sample_found(found.name, interval_s) for found in find_running()]
    with connect(vm_name) as control:
        return [_sample(control, interval_s)]


def _fields(sample: Sample) -> dict[str, object]:
    cards = [as_fields(measured) for measured in sample.cards]
    return {"name": sample.vm_name, "up": sample.up, "cards": cards}


def _sample_found(vm_name: str, interval_s: float) -> Sample:
    """Return a VM from the list, which may end meanwhile or not answer."""
    try:
        with connect(vm_name) as control:
            return _sample(control, interval_s)
    except BpferryError:
        return Sample(vm_name, up=False)


def _sample(control: Control, interval_s: float) -> Sample:
    measured = Meter(control, card_ids(control, None)).measure(interval_s)
    cards = records(control.ask("status"), "cards")
    taps = tuple((str(card["id"]), str(card["tap"])) for card in cards if "tap" in card)
    return Sample(control.vm_name, tuple(measured), taps)


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of number, with its labels besides the VM and the card."""

    name: str
    what: str
    labels: tuple[str, ...]
    values: Callable[[Measured], Iterator[tuple[tuple[str, ...], float]]]
    """Labels and numbers of one card."""


def _queues(measured: Measured) -> Iterator[tuple[tuple[str, ...], float]]:
    yield (), measured.card.queues


def _planned(measured: Measured) -> Iterator[tuple[tuple[str, ...], float]]:
    for rung in Rung:
        yield (str(rung),), float(measured.card.rung is rung)


def _in_force(measured: Measured) -> Iterator[tuple[tuple[str, ...], float]]:
    if measured.card.in_force is not None:
        yield (), float(measured.card.in_force)


def _mismatch(measured: Measured) -> Iterator[tuple[tuple[str, ...], float]]:
    yield (), float(bool(measured.card.difference))


def _entries(measured: Measured) -> Iterator[tuple[tuple[str, ...], float]]:
    steering = measured.card.steering
    if steering is not None and steering.redirect:
        for queue in queues_of(measured):
            yield (str(queue),), steering.table.count(queue)


def _rates(measured: Measured) -> Iterator[tuple[tuple[str, ...], float]]:
    for (queue, way), rate in sorted(measured.rates.items()):
        yield (str(queue), str(way)), round(rate, 3)


def _buffers(measured: Measured) -> Iterator[tuple[tuple[str, ...], float]]:
    for ring in measured.card.rings:
        if ring.waiting is not None:
            yield (str(ring.queue), str(ring.direction)), ring.waiting


FAMILIES: Final = (
    Family("bpferry_card_queues", "Queues of a card.", (), _queues),
    Family(
        "bpferry_steering_planned",
        "Which steering was planned for a card: 1 for that, 0 for the others.",
        ("steering",),
        _planned,
    ),
    Family(
        "bpferry_steering_in_force",
        "Whether a card is steered as planned; absent if that cannot be seen.",
        (),
        _in_force,
    ),
    Family(
        "bpferry_steering_mismatch",
        "Whether anything that is seen of a card differs from its plan.",
        (),
        _mismatch,
    ),
    Family(
        "bpferry_table_entries",
        "Entries of the guest's indirection table that name a queue.",
        ("queue",),
        _entries,
    ),
    Family(
        "bpferry_queue_packets_per_second",
        "Packets of a queue, over the interval of this measurement.",
        ("queue", "direction"),
        _rates,
    ),
    Family(
        "bpferry_queue_buffers",
        "Buffers of a queue: room to receive, or packets that wait to be sent.",
        ("queue", "direction"),
        _buffers,
    ),
)


def tap_packets(tap: str, folder: Path = STATISTICS) -> dict[str, int]:
    """Return how many packets the guest received and sent through *tap*; empty if it is unseen."""
    counters = {"receive": "tx_packets", "transmit": "rx_packets"}
    found = {}
    for way, counter in counters.items():
        try:
            found[way] = int((folder / tap / "statistics" / counter).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return {}
    return found


def expose(samples: Sequence[Sample]) -> str:
    """Return the text about all *samples*."""
    from prometheus_client import CollectorRegistry  # noqa: PLC0415 - an extra
    from prometheus_client.openmetrics.exposition import generate_latest  # noqa: PLC0415 - as above
    from prometheus_client.registry import Collector  # noqa: PLC0415 - as above

    class Ours(Collector):
        def collect(self) -> "Iterator[Metric]":
            yield _up(samples)
            for family in FAMILIES:
                yield _gauge(family, samples)
            yield _packets(samples)

    registry = CollectorRegistry()
    registry.register(Ours())
    # The library says nothing about its types here.
    return bytes(generate_latest(registry)).decode()  # type: ignore[no-untyped-call]


def _up(samples: Sequence[Sample]) -> "Metric":
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415 - an extra

    metric = GaugeMetricFamily("bpferry_up", "Whether a VM answers.", labels=["vm"])
    for sample in samples:
        metric.add_metric([sample.vm_name], float(sample.up))
    return metric


def _gauge(family: Family, samples: Sequence[Sample]) -> "Metric":
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415 - an extra

    metric = GaugeMetricFamily(family.name, family.what, labels=["vm", "card", *family.labels])
    for sample in samples:
        for measured in sample.cards:
            for labels, value in family.values(measured):
                metric.add_metric([sample.vm_name, measured.card.card_id, *labels], value)
    return metric


def _packets(samples: Sequence[Sample]) -> "Metric":
    """Return what the kernel has counted on each tap, which never wraps."""
    from prometheus_client.core import CounterMetricFamily  # noqa: PLC0415 - an extra

    labels = ["vm", "card", "direction"]
    metric = CounterMetricFamily(
        "bpferry_card_packets", "Packets of a card since its tap was made.", labels=labels
    )
    for sample in samples:
        for card_id, tap in sample.taps:
            for way, count in tap_packets(tap).items():
                metric.add_metric([sample.vm_name, card_id, way], count)
    return metric
