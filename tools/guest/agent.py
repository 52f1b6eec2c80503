# SPDX-License-Identifier: LGPL-2.1-or-later
"""Answer the host's commands over the serial console; this runs in the guest.

A command is one line of JSON, an object with the key "do" and its arguments. Each gets one answer,
a line that begins with "@guest " so that no kernel message is taken for one. The answer repeats
"do", and "id" if the command has one; it has "error" if the command failed.

    hello                                kernel, python, device, queues; sent unasked when ready
    channels  count                      combined
    table                                key (hexadecimal digits), table (queue numbers)
    weights   weights, one for a queue   as table
    equal     queues                     as table
    rss       flow, fields               nothing: what is hashed, as in ethtool's rx-flow-hash
    address   ipv4 and/or ipv6, "a/len"  nothing
    counters                             queues: {number: packets}
    flows                                flows since the last call, and lost: packets not recorded
    record    on                         nothing: whether packets are recorded; at first they are
    send      flows, packets             nothing: sends that many packets of each flow (sending.py)
    exchange  address, bytes             back: whether a datagram came back from there (echo.py)
    poweroff                             nothing, and the guest powers off

It also sends back each datagram that arrives at the echo port.
"""

import json
import os
import selectors
import struct
import sys
from collections.abc import Callable
from contextlib import suppress

from guest.card import Card, CardError
from guest.echo import comes_back, open_echoes, send_back
from guest.packets import Recorder
from guest.sending import Flow, send_flows

MARK = "@guest "
COMMAND_BYTES = 64 << 10
"""A longer line is noise, not a command."""

EVENT = struct.Struct("llHHi")  # struct input_event, include/uapi/linux/input.h
KEY_EVENT, POWER_KEY, PRESSED = 1, 116, 1

Record = dict[str, object]
Command = Callable[[Record], Record]


class Agent:
    """Carries out commands for the guest's one network card."""

    def __init__(self, card: Card) -> None:
        self._card = card
        self._most = card.channels()[1] if card.exists() else 0
        self.recorder = Recorder(card.device, self._most)
        self.echoes = {source.fileno(): source for source in open_echoes()}
        self.running = True
        self._commands: dict[str, Command] = {
            "hello": self.hello,
            "channels": self._channels,
            "table": self._table,
            "weights": self._weights,
            "equal": self._equal,
            "rss": self._rss,
            "address": self._address,
            "counters": self._counters,
            "flows": self._flows,
            "record": self._record,
            "send": self._send,
            "exchange": self._exchange,
            "poweroff": self._poweroff,
        }

    def answer(self, line: bytes) -> Record:
        """Carry out the command in *line* and return the answer."""
        command: Record = {}
        try:
            command = parse_command(line)
            result = self._commands[text(command, "do")](command)
        except KeyError as error:
            result = {"error": f"unknown command or missing argument {error}"}
        except (ValueError, TypeError, OSError, CardError) as error:
            result = {"error": str(error)}
        return {**{name: command[name] for name in ("do", "id") if name in command}, **result}

    def hello(self, _command: Record) -> Record:
        """Say what this guest is."""
        return {
            "kernel": os.uname().release,
            "python": sys.version.split()[0],
            "device": self._card.device if self._card.exists() else None,
            "queues": self._most,
        }

    def _channels(self, command: Record) -> Record:
        self._card.set_channels(number(command, "count"))
        return {"combined": self._card.channels()[0]}

    def _table(self, _command: Record) -> Record:
        return {"key": self._card.hash_key(), "table": self._card.table()}

    def _weights(self, command: Record) -> Record:
        weights = command["weights"]
        if not isinstance(weights, list):
            raise TypeError("weights are a list of numbers")
        self._card.set_weights([int(weight) for weight in weights])
        return self._table(command)

    def _equal(self, command: Record) -> Record:
        self._card.set_equal(number(command, "queues"))
        return self._table(command)

    def _rss(self, command: Record) -> Record:
        self._card.set_hash_fields(text(command, "flow"), text(command, "fields"))
        return {}

    def _address(self, command: Record) -> Record:
        for family in ("ipv4", "ipv6"):
            if family in command:
                self._card.add_address(text(command, family))
        return {}

    def _counters(self, _command: Record) -> Record:
        return {"queues": self._card.packets()}

    def _flows(self, _command: Record) -> Record:
        self.recorder.drain()
        seen, lost = self.recorder.take()
        names = ("family", "protocol", "source", "source_port", "destination", "destination_port")
        flows = [
            {**dict(zip(names, ends, strict=True)), "queues": queues}
            for ends, queues in seen.items()
        ]
        return {"flows": flows, "lost": lost}

    def _record(self, command: Record) -> Record:
        if not isinstance(command["on"], bool):
            raise TypeError("'on' is true or false")
        self.recorder.listen(on=command["on"])
        return {}

    def _send(self, command: Record) -> Record:
        rows = command["flows"]
        if not isinstance(rows, list):
            raise TypeError("flows are a list of lists")
        send_flows([Flow(*row) for row in rows], number(command, "packets"))
        return {}

    def _exchange(self, command: Record) -> Record:
        return {"back": comes_back(text(command, "address"), number(command, "bytes"))}

    def _poweroff(self, _command: Record) -> Record:
        self.running = False
        return {}


def parse_command(line: bytes) -> Record:
    """Return the command in *line*."""
    command = json.loads(line)
    if not isinstance(command, dict):
        raise TypeError("a command is a JSON object")
    return command


def number(command: Record, name: str) -> int:
    """Return the whole number that *command* has under *name*."""
    value = command[name]
    if type(value) is not int:
        raise TypeError(f"'{name}' is a whole number")
    return value


def text(command: Record, name: str) -> str:
    """Return the text that *command* has under *name*."""
    value = command[name]
    if not isinstance(value, str):
        raise TypeError(f"'{name}' is a text")
    return value


def say(answer: Record) -> None:
    """Send *answer* to the host."""
    # The first line break ends a line that the kernel may have left unfinished on the console.
    sys.stdout.write(f"\n{MARK}{json.dumps(answer, separators=(',', ':'))}\n")
    sys.stdout.flush()


def open_buttons() -> set[int]:
    """Open the input devices, the power button among them."""
    with suppress(FileNotFoundError), os.scandir("/dev/input") as entries:
        return {os.open(entry, os.O_RDONLY) for entry in entries if entry.name.startswith("event")}
    return set()


def power_pressed(button: int) -> bool:
    """Read the events of the input device *button*; return whether the power key was pressed."""
    events = os.read(button, EVENT.size * 64)
    pressed = (KEY_EVENT, POWER_KEY, PRESSED)
    return any(fields[2:] == pressed for fields in EVENT.iter_unpack(events))


def serve(agent: Agent) -> None:
    """Answer commands until a command, the power button or a hang-up ends this."""
    pending = b""
    buttons = open_buttons()
    records = [source.fileno() for source in agent.recorder.sockets]
    sources = [0, *buttons, *agent.echoes, *records]
    with selectors.DefaultSelector() as selector:
        for source in sources:
            selector.register(source, selectors.EVENT_READ)
        while agent.running:
            ready = {key.fd for key, _ in selector.select()}
            if any(power_pressed(button) for button in buttons & ready):
                return
            agent.recorder.drain()
            for echo in agent.echoes.keys() & ready:
                send_back(agent.echoes[echo])
            if 0 in ready:
                received = os.read(0, 4096)
                if not received:
                    return
                *lines, pending = (pending + received).split(b"\n")
                pending = pending[:COMMAND_BYTES]
                for line in lines:
                    say(agent.answer(line))


def main() -> None:
    """Say hello, then serve."""
    agent = Agent(Card("eth0"))
    say({"do": "hello", **agent.hello({})})
    serve(agent)
