# SPDX-License-Identifier: LGPL-2.1-or-later
"""The options and the help of the commands about the queues of VMs that run."""

import argparse
from typing import Final

from bpferry.cli.parser import Commands, add_command
from bpferry.cli.running_options import add_json, add_name

STEERING_DESCRIPTION: Final = """\
Show how the packets of a running VM spread over the queues of its cards: what
steers them and whether that is as planned, which packets are hashed, the key,
which share of the indirection table goes to which queue, and how many packets
went through each queue. Nothing is needed in the guest, and no privilege.

A received packet that is larger than the guest's buffers counts once for each
buffer that it takes.
"""

STEERING_EPILOG: Final = """\
FLOW is as the guest receives it, its sender first:
  tcp 10.0.0.1:40000 > 10.0.0.2:443
  udp [fd00::1]:40000 > [fd00::2]:53
  icmp 10.0.0.1 > 10.0.0.2

examples:
  bpferry steering web
  bpferry steering web net0 --watch
  bpferry steering web --predict 'tcp 10.0.0.1:40000 > 10.0.0.2:443'
  bpferry steering web --svg web.svg
"""

METRICS_DESCRIPTION: Final = """\
Print OpenMetrics text about one running VM, or about all of yours: whether
it answers, its cards, what steers them, what differs from the plan, and
packets by queue. For node_exporter's textfile collector, write it to a file
beside the one that it reads, and rename that.

It needs the Python package prometheus-client, except for --json.
"""

METRICS_EPILOG: Final = """\
example:
  bpferry metrics > web.prom.new && mv web.prom.new web.prom
"""

MIN_SECONDS: Final = 0.1
MAX_SECONDS: Final = 3600.0


def add_steering(commands: Commands) -> None:
    """Add the commands."""
    command = add_command(
        commands,
        "steering",
        help="show how packets spread over the queues of a running VM",
        description=STEERING_DESCRIPTION,
        epilog=STEERING_EPILOG,
    )
    add_name(command)
    command.add_argument(
        "card", metavar="CARD", nargs="?", help="one card, such as net0 (default: all)"
    )
    what = command.add_mutually_exclusive_group()
    what.add_argument("--watch", action="store_true", help="show it again and again, until Ctrl-C")
    what.add_argument("--predict", metavar="FLOW", help="say on which queue a flow arrives")
    what.add_argument("--svg", metavar="FILE", help="write a picture of it to FILE")
    _add_interval(command)
    add_json(command)


def _add_interval(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--interval",
        metavar="SECONDS",
        type=_seconds,
        default=1.0,
        help="how long packets are counted, in seconds (default: 1)",
    )


def add_metrics(commands: Commands) -> None:
    """Add the command for monitoring."""
    command = add_command(
        commands,
        "metrics",
        help="print metrics of running VMs, for Prometheus",
        description=METRICS_DESCRIPTION,
        epilog=METRICS_EPILOG,
    )
    command.add_argument(
        "name", metavar="NAME", nargs="?", help="one VM, as in 'bpferry list' (default: all)"
    )
    _add_interval(command)
    add_json(command)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        raise argparse.ArgumentTypeError(
            f"expected {MIN_SECONDS:g} to {MAX_SECONDS:g} seconds, not '{text}'"
        )
    return seconds
