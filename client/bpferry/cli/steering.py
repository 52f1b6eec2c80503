# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpferry steering: how the packets of a running VM spread over its queues."""

import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bpferry.cli import output
from bpferry.cli.steering_fields import as_fields
from bpferry.cli.steering_meter import Measured, Meter, card_ids, observe
from bpferry.cli.steering_text import draw, one_line
from bpferry.errors import BpferryError, QemuError
from bpferry.machine.control.client import Control, NobodyThere
from bpferry.machine.control.running import connect
from bpferry.steering.flow_text import Prediction, parse_flow, predict
from bpferry.steering.observed import Observed
from bpferry.steering.plan import Rung
from bpferry.steering.toeplitz import Flow

END_SECONDS: Final = 2.0
"""Within which a VM has ended whose QEMU ended while it was asked."""

UP: Final = "\x1b[{}A"
CLEAR: Final = "\x1b[J"
"""ECMA-48: so many lines up; erase from here to the end of the screen."""

CUT: Final = ">"
"""At the end of a line that is longer than the terminal is wide, as less(1) marks it."""


def show(vm_name: str, card: str | None, *, interval_s: float, as_json: bool) -> int:
    """Print how packets spread over the queues of one card or of all.

    Raises:
        NotRunning: there is no such VM, or it ends meanwhile.
        BadInput: it has no such card.
    """
    with connect(vm_name) as control:
        measured = Meter(control, card_ids(control, card)).measure(interval_s)
    if as_json:
        output.print_json({"name": vm_name, "cards": [as_fields(one) for one in measured]})
    else:
        output.print_text(_text(vm_name, measured))
    return 0


def _text(vm_name: str, measured: Sequence[Measured]) -> str:
    if not measured:
        return f"'{vm_name}' has no network card"
    return "\n\n".join("\n".join(draw(one)) for one in measured)


def watch(vm_name: str, card: str | None, *, interval_s: float, as_json: bool) -> int:
    """Print it again and again, until Ctrl-C or the VM's end.

    Raises:
        NotRunning: there is no such VM.
        BadInput: it has no such card.
    """
    with connect(vm_name) as control:
        ids = card_ids(control, card)
        try:
            _watch(control, ids, interval_s, as_json=as_json)
        except NobodyThere:
            output.say(f"'{vm_name}' has ended")
        except QemuError:
            # It may have ended while it was asked something.
            if not control.wait_for_end(END_SECONDS):
                raise
            output.say(f"'{vm_name}' has ended")
        except KeyboardInterrupt as interrupt:
            # SIGTERM and SIGHUP arrive as this too, with their number; only Ctrl-C is how it ends.
            if hasattr(interrupt, "number"):
                raise
    return 0


def _watch(control: Control, ids: Sequence[str], interval_s: float, *, as_json: bool) -> None:
    meter = Meter(control, ids)
    screen = _Screen()
    told: set[str] = set()
    while True:
        measured = meter.measure(interval_s)
        if as_json:
            fields = {"name": control.vm_name, "cards": [as_fields(one) for one in measured]}
            output.print_text(json.dumps(fields))
        elif screen.is_terminal:
            screen.show(_text(control.vm_name, measured))
        else:
            _log(measured, told)


def _log(measured: Sequence[Measured], told: set[str]) -> None:
    """Print a line for each card, and each warning once."""
    now = time.strftime("%H:%M:%S")
    output.print_text("\n".join(f"{now} {one_line(one)}" for one in measured))
    for notice in (notice for one in measured for notice in one.warnings):
        # Numbers in a warning change all the time.
        words = "".join(letter for letter in notice.message if not letter.isdigit())
        if words not in told:
            told.add(words)
            output.say(f"warning: {notice.message}" + f" (hint: {notice.hint})" * bool(notice.hint))


class _Screen:
    """Shows a text in place of the one before, if a terminal is there."""

    def __init__(self) -> None:
        self.is_terminal = sys.stdout is not None and sys.stdout.isatty()
        self._lines = 0

    def show(self, text: str) -> None:
        """Show *text*, as much of it as fits, and where there is more."""
        size = shutil.get_terminal_size()
        lines = _fit(text.split("\n"), size.columns, max(size.lines - 1, 1))
        back = UP.format(self._lines) if self._lines else ""
        output.print_text(f"{back}\r{CLEAR}" + "\n".join(lines))
        self._lines = len(lines)


def _fit(lines: list[str], columns: int, rows: int) -> list[str]:
    """Return what fits into so many *columns* and *rows*; CUT ends each line that does not."""
    if len(lines) > rows:
        lines = [*lines[: rows - 1], f"({len(lines) - rows + 1} more lines)"]
    return [one if len(one) <= columns else one[: columns - len(CUT)] + CUT for one in lines]


def predict_flow(vm_name: str, card: str | None, text: str, *, as_json: bool) -> int:
    """Print on which queue a flow arrives.

    Raises:
        BadInput: *text* is no flow, or the VM has no such card.
        NotRunning: there is no such VM.
        BpferryError: nobody knows, and why.
    """
    flow = parse_flow(text)
    with connect(vm_name) as control:
        cards = [observe(control, card_id) for card_id in card_ids(control, card)]
    steered = [one for one in cards if one.steering is not None and one.steering.redirect]
    if not steered:
        raise _unknown(vm_name, cards)
    found = [(one, _predict(flow, one)) for one in steered]
    if as_json:
        fields = [_prediction_fields(one, predicted) for one, predicted in found]
        output.print_json({"name": vm_name, "flow": text, "cards": fields})
    else:
        output.print_text("\n".join(_sentence(one, predicted) for one, predicted in found))
    return 0


def _predict(flow: Flow, card: Observed) -> Prediction:
    assert card.steering is not None  # noqa: S101 - only such cards are asked for
    return predict(flow, card.steering, card.switched_on)


def _sentence(card: Observed, found: Prediction) -> str:
    where = f"{card.card_id}: queue {found.queue}"
    if found.among == 1:
        return f"{where}: the only one that is switched on"
    few = f"; it is one of {found.among} that are switched on" if found.among else ""
    if found.hash is None or found.entry is None:
        return f"{where}: the default one, since this is not hashed{few}"
    what = "addresses and ports" if found.with_ports else "addresses"
    return f"{where}: hash {found.hash:#010x} of {what}, table entry {found.entry}{few}"


def _prediction_fields(card: Observed, found: Prediction) -> dict[str, object]:
    hashed = ["addresses", "ports"] if found.with_ports else ["addresses"]
    return {
        "id": card.card_id,
        "queue": found.queue,
        "hash": found.hash,
        "entry": found.entry,
        "hashed": [] if found.hash is None else hashed,
        "switched_on": card.switched_on,
    }


def _unknown(vm_name: str, cards: Sequence[Observed]) -> BpferryError:
    """Return why no queue can be predicted."""
    what = f"cannot predict a queue of '{vm_name}'"
    if any(card.steering is not None for card in cards):
        return BpferryError(
            f"{what}: the guest has not set RSS up",
            "its driver may not be up yet; see 'bpferry steering'",
        )
    if any(card.rung is Rung.QEMU for card in cards):
        return BpferryError(
            f"{what}: QEMU steers in user space, and does not show its key and its table",
            "see 'ethtool -x' in the guest",
        )
    return BpferryError(f"{what}: it has no card with RSS", "give a card 'rss = true'")


def write_svg(
    vm_name: str, card: str | None, file: str, *, interval_s: float, as_json: bool
) -> int:
    """Write the picture of it to *file*.

    Raises:
        NotRunning: there is no such VM.
        BpferryError: the file cannot be written.
    """
    from bpferry.cli.steering_svg import draw_svg  # noqa: PLC0415 - only needed here

    with connect(vm_name) as control:
        measured = Meter(control, card_ids(control, card)).measure(interval_s)
    now = time.strftime("%Y-%m-%d, %H:%M:%S %z")
    picture = draw_svg(vm_name, measured, f"Measured on {now}, for {interval_s:g} s.")
    try:
        Path(file).write_text(picture, encoding="utf-8")
    except OSError as error:
        raise BpferryError(
            f"cannot write '{file}': {error.strerror}",
            "give the path of a file that you may write, in a folder that exists",
        ) from error
    if as_json:
        output.print_json({"name": vm_name, "file": file})
    else:
        output.print_text(f"wrote '{file}'")
    return 0
