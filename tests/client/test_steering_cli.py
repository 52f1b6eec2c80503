# SPDX-License-Identifier: LGPL-2.1-or-later
"""`bpferry steering` and `bpferry metrics`, on a VM whose answers are made up."""

import asyncio
import contextlib
import itertools
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from xml.sax.saxutils import escape

import pytest
from defusedxml import ElementTree
from msgspec.structs import replace

from bpferry.cli import steering
from bpferry.cli.main import main
from bpferry.cli.metrics import tap_packets
from bpferry.cli.steering_meter import Measured
from bpferry.cli.steering_svg import draw_svg
from bpferry.cli.steering_text import draw, per_second, type_names
from bpferry.errors import BpferryError, NotRunning, QemuError
from bpferry.machine.control.client import NobodyThere
from bpferry.machine.control.server import Answer, Operation, Server
from bpferry.machine.control_socket import open_control
from bpferry.machine.folders import folders_of
from bpferry.steering.maps import Steering, SteeringMaps
from bpferry.steering.observed import Observed, to_fields
from bpferry.steering.plan import Notice, Rung
from bpferry.steering.rings import Direction, Ring
from bpferry.steering.toeplitz import HashType
from bpferry_wire.codec import Fields
from bpferry_wire.fds import OwnedFds
from tests.client import bpf

RECEIVE, TRANSMIT = Direction.RECEIVE, Direction.TRANSMIT
KEY = bytes.fromhex(
    "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"
)
STEERING = Steering(
    redirect=True,
    hash_types=HashType.IPV4 | HashType.TCPV4 | HashType.UDPV4,
    key=KEY,
    table=(0, 1, 1, 3) * 32,
    default_queue=0,
)
CARD = Observed(
    card_id="net0",
    rung=Rung.EBPF,
    because="QEMU carries it; the helper loaded it",
    vhost=False,
    queues=4,
    vcpus=4,
    time_ns=0,
    driver=True,
    steering=STEERING,
    in_force=True,
)
RATES = {
    (queue, way): float(rate)
    for queue in range(4)
    for way, rate in ((RECEIVE, (250, 500, 0, 240)[queue]), (TRANSMIT, 12_345 * queue))
}
MEASURED = Measured(
    replace(
        CARD,
        rings=tuple(Ring(queue, way, 256, 7, 100 * queue % 256) for queue, way in RATES),
    ),
    1.0,
    {place: int(rate) for place, rate in RATES.items()},
    RATES,
    (Notice("net0: the guest's table names 3 of 4 queues", "see 'ethtool -x'"),),
)

PICTURE = """\
net0: 4 queues, no vhost; the VM has 4 vCPUs
  planned  ebpf (QEMU carries it; the helper loaded it)
  seen     steering by eBPF in the host's kernel, 3 queues, 128 table entries,
           as planned
  hashed   IPv4, TCP over IPv4, UDP over IPv4
  key      6d:5a:56:da:25:5b:0e:c2:41:67:25:3d:43:a3:8f:b0:d0:ca:2b:cb
           ae:7b:30:b4:77:cb:2d:a3:80:30:f2:0c:6a:42:b7:3b:be:ac:01:fa
  table    0113011301130113011301130113011301130113011301130113011301130113
           0113011301130113011301130113011301130113011301130113011301130113

  queue  table              receive/s                 room  transmit/s  waiting
      0  ███           25%       250 ██████          0/256           0        0
      1  ██████        50%       500 ████████████  100/256       12.3k      100
      2                 0%         0               200/256       24.7k      200
      3  ███           25%       240 ██████         44/256       37.0k       44

  warning  the guest's table names 3 of 4 queues
           hint: see 'ethtool -x'"""


def test_the_picture_has_all_of_it() -> None:
    """Plan, truth, key, table, shares, rates, levels, warnings."""
    assert PICTURE.split("\n") == draw(MEASURED)


@pytest.mark.parametrize(
    ("card", "words"),
    [
        (replace(CARD, rung=Rung.NONE, steering=None), "no RSS, as planned"),
        (replace(CARD, rung=Rung.NONE, steering=None, queues=1), "nothing to spread"),
        (replace(CARD, rung=Rung.QEMU, steering=None, in_force=None), "QEMU steers in user space"),
        (
            replace(CARD, driver=False, steering=replace(STEERING, redirect=False)),
            "the guest's driver is not up",
        ),
        (replace(CARD, driver=False, in_force=None), "not up; this is what it set up last"),
        (
            replace(
                CARD, in_force=False, difference="net0: the plan was 'ebpf', but QEMU could not"
            ),
            "not as planned: QEMU could not",
        ),
        (replace(CARD, uncounted="its rings are packed"), "not counted: its rings are packed"),
        (replace(CARD, switched_on=2), "4 queues (2 switched on), no vhost"),
        (
            replace(CARD, rung=Rung.QEMU, steering=None, in_force=None, switched_on=1),
            "only one queue is switched on, so there is nothing to spread",
        ),
        (
            replace(CARD, rung=Rung.NONE, steering=None, driver=False, switched_on=1),
            "no RSS, as planned",
        ),
    ],
)
def test_what_is_seen_is_said_in_words(card: Observed, words: str) -> None:
    """Whatever the plan was, and whether or not it came true."""
    assert words in "\n".join(draw(replace(MEASURED, card=card)))


@pytest.mark.parametrize(
    ("rate", "shown"),
    [(0, "0"), (0.2, "1"), (7.4, "7"), (1234, "1,234"), (12_345, "12.3k"), (1_500_000, "1.50M")],
)
def test_rates_are_short(rate: float, shown: str) -> None:
    """And what is not nothing is not shown as nothing."""
    assert shown == per_second(rate)


def test_an_unknown_hash_type_is_a_number() -> None:
    """A later virtio may have more of them."""
    assert ["TCP over IPv4", "0x200"] == type_names(HashType.TCPV4 | HashType(0x200))


def test_a_hostile_table_is_drawn_too() -> None:
    """A guest may write any number of 16 bits into its table."""
    strange = replace(STEERING, table=(65_535, 36, 35, 4))
    measured = replace(MEASURED, card=replace(CARD, steering=strange))

    assert "++z4" in "\n".join(draw(measured))
    ElementTree.fromstring(draw_svg("web", [measured], "now"))


@pytest.mark.parametrize("name", ["web", "a <b> & 'c'", "line\nbreak\x07", "ä"])
def test_the_svg_is_well_formed(name: str) -> None:
    """Whatever the VM is called; with a square for each entry of the table."""
    picture = ElementTree.fromstring(
        draw_svg(name, [MEASURED, replace(MEASURED, card=CARD)], "now")
    )
    squares = [one for one in picture.iter() if one.get("height") == "20"]

    assert 2 * 128 == len(squares)


def test_the_svg_of_a_vm_without_a_card_says_so() -> None:
    """There is nothing to draw."""
    assert "no network card" in draw_svg("web", [], "now")


def test_bars_of_both_directions_have_one_scale() -> None:
    """What is a thousandth of the most is not drawn as long as that."""
    rates = {
        (0, RECEIVE): 1000.0, (1, RECEIVE): 500.0, (0, TRANSMIT): 1.0,
    }  # fmt: skip
    card = replace(CARD, steering=replace(STEERING, redirect=False))
    picture = ElementTree.fromstring(
        draw_svg("web", [replace(MEASURED, card=card, rates=rates)], "now")
    )
    bars = [float(one.get("width", "")) for one in picture.iter() if one.get("height") == "15"]

    assert [120.0, 1.0, 60.0] == bars


def test_a_picture_has_the_hints_of_its_warnings() -> None:
    """A report is read where nobody can ask."""
    hints = [notice.hint for notice in MEASURED.warnings if notice.hint]
    shown = re.sub(r"<[^>]*>\s*", " ", draw_svg("web", [MEASURED], "now"))

    assert hints
    assert all(escape(hint) in re.sub(r"\s+", " ", shown) for hint in hints)


class FakeVm:
    """Answers about one card through which packets go all the time."""

    def __init__(self, card: Observed = CARD) -> None:
        self.card = card
        self.began_ns = time.monotonic_ns()

    async def summary(self, fields: Fields) -> Answer:
        """Answer as a VM in a list does."""
        fields.done()
        return Answer({"name": "web", "state": "running"})

    async def status(self, fields: Fields) -> Answer:
        """Answer with the cards."""
        fields.done()
        return Answer({"name": "web", "cards": [{"id": "net0", "tap": "no-such-tap"}]})

    async def steering(self, fields: Fields) -> Answer:
        """Answer with rings that are 1,000 packets further each second, and wrap soon."""
        fields.text("card")
        assert not fields.has("quick") or fields.boolean("quick")
        fields.done()
        now = time.monotonic_ns()
        index = (65_500 + (now - self.began_ns) // 1_000_000) % 65_536
        rings = tuple(Ring(queue, way, 256, index, 3) for queue in range(4) for way in Direction)
        return Answer(to_fields(replace(self.card, rings=rings, time_ns=now)))

    @property
    def operations(self) -> Mapping[str, Operation]:
        """What it can be asked."""
        return {"summary": self.summary, "status": self.status, "steering": self.steering}


@contextlib.contextmanager
def running(vm: FakeVm) -> Iterator[None]:
    """Serve *vm* at the place of the VM 'web', from another thread."""
    started, loop, ended = threading.Event(), asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        with open_control(Path(folders_of("web").runtime)) as sock:
            server = Server(sock, vm.operations)
            server.start()
            started.set()
            await ended.wait()
            await server.stop()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert started.wait(5)
        yield
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


def test_rates_are_right_although_indices_wrap(capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON has packets, rates and shares by queue."""
    with running(FakeVm()):
        assert main(["steering", "web", "--json", "--interval", "0.3"]) == 0

    (card,) = json.loads(capsys.readouterr().out)["cards"]
    assert [0.25, 0.5, 0.0, 0.25] == [queue["share_of_table"] for queue in card["queues"]]
    for queue in card["queues"]:
        assert queue["receive"]["packets_per_second"] == pytest.approx(1000, rel=0.05)
        assert queue["transmit"]["packets"] >= 250
    assert card["rss"]["key"] == KEY.hex()
    assert card["in_force"] is True


@pytest.mark.parametrize(
    ("flow", "said"),
    [
        (
            "tcp 66.9.149.187:2794 > 161.142.100.80:1766",
            "net0: queue 0: hash 0x51ccc178 of addresses and ports, table entry 120\n",
        ),
        ("icmp 66.9.149.187 > 161.142.100.80", "hash 0x323e8fc2 of addresses, table entry 66\n"),
        ("icmp fd00::1 > fd00::2", "net0: queue 0: the default one, since this is not hashed\n"),
    ],
)
def test_a_flow_is_predicted(flow: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Hash, entry and queue in one line."""
    with running(FakeVm()):
        assert main(["steering", "web", "--predict", flow]) == 0

    assert capsys.readouterr().out.endswith(said)


@pytest.mark.parametrize(
    ("switched_on", "said"),
    [
        (4, "net0: queue 3: hash 0x51ccc178 of addresses and ports, table entry 120\n"),
        (2, "net0: queue 1: hash 0x51ccc178 of addresses and ports, table entry 120; it is"),
        (1, "net0: queue 0: the only one that is switched on\n"),
    ],
)
def test_a_flow_arrives_on_a_queue_that_is_switched_on(
    switched_on: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the table's queue, the kernel takes the remainder."""
    backwards = replace(STEERING, table=(3, 2, 1, 0) * 32)
    flow = "tcp 66.9.149.187:2794 > 161.142.100.80:1766"
    with running(FakeVm(replace(CARD, steering=backwards, switched_on=switched_on))):
        assert main(["steering", "web", "--predict", flow]) == 0

    assert capsys.readouterr().out.startswith(said)


@pytest.mark.parametrize(
    ("card", "why"),
    [
        (replace(CARD, steering=replace(STEERING, redirect=False)), "has not set RSS up"),
        (replace(CARD, steering=None, rung=Rung.QEMU), "QEMU steers in user space"),
        (replace(CARD, steering=None, rung=Rung.NONE), "no card with RSS"),
    ],
)
def test_what_nobody_can_predict_is_an_error(
    card: Observed, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the reason, and what to look at."""
    with running(FakeVm(card)):
        assert main(["steering", "web", "--predict", "icmp 10.0.0.1 > 10.0.0.2"]) == 1

    said = capsys.readouterr().err
    assert why in said
    assert "hint: " in said


@pytest.mark.parametrize(
    "arguments",
    [["net7"], ["--predict", "nonsense"], ["--interval", "0"], ["--watch", "--svg", "x"]],
)
def test_what_makes_no_sense_is_wrong_usage(arguments: list[str]) -> None:
    """A card that is not there, a text that is no flow, an interval of nothing, two things."""
    with running(FakeVm()):
        assert main(["steering", "web", *arguments]) == 2


def test_a_picture_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And the file is named; a folder that is not there is an error."""
    file = tmp_path / "web.svg"
    with running(FakeVm()):
        assert main(["steering", "web", "--interval", "0.1", "--svg", str(file)]) == 0
        nowhere = str(tmp_path / "no" / "web.svg")
        assert main(["steering", "web", "--interval", "0.1", "--svg", nowhere]) == 1

    words = [one.text or "" for one in ElementTree.parse(file).iter()]
    when = re.compile(r"Measured on [-0-9]+, [:0-9]+ [+-]\d{4}, for 0\.1 s\.")
    assert [one for one in words if when.fullmatch(one)]
    said = capsys.readouterr()
    assert f"wrote '{file}'" in said.out
    assert f"cannot write '{nowhere}'" in said.err


def command(*arguments: str) -> list[str]:
    """Return `bpferry` as a command."""
    return [sys.executable, "-m", "bpferry", *arguments]


def environment() -> dict[str, str]:
    """Return what it needs."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm"}


def test_a_small_terminal_shows_where_there_is_more() -> None:
    """Lines that are cut end in a sign, and the last one says how many there are below."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (5, 30))
    watching = command("steering", "web", "--watch", "--interval", "0.1")
    with running(FakeVm()):
        process = subprocess.Popen(
            watching, stdin=theirs, stdout=theirs, stderr=theirs, env=environment()
        )
        os.close(theirs)
        said = ""
        while "more lines" not in said:
            said += os.read(ours, 65_536).decode()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    os.close(ours)

    first, *shown, last = said[: said.index("more lines")].partition("\x1b[J")[2].split("\r\n")
    assert first.startswith("net0: 4 queues")
    assert len(shown) == 2
    assert all(len(one) <= 30 for one in (first, *shown))
    assert any(len(one) == 30 and one.endswith(">") for one in (first, *shown))
    assert re.fullmatch(r"\(\d+ ", last)


def test_a_terminal_is_refreshed_in_place_until_ctrl_c() -> None:
    """The picture is drawn over the one before; Ctrl-C ends it with 0 and no word."""
    ours, theirs = pty.openpty()
    watching = command("steering", "web", "--watch", "--interval", "0.2")
    with running(FakeVm()):
        process = subprocess.Popen(
            watching, stdin=theirs, stdout=theirs, stderr=theirs, env=environment()
        )
        os.close(theirs)
        said = b""
        while said.count(b"net0: 4 queues") < 3:
            said += os.read(ours, 65_536)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        with contextlib.suppress(OSError):
            said += os.read(ours, 65_536)
    os.close(ours)

    assert b"\x1b[J" in said
    assert b"A\r\x1b[J" in said
    assert b"Traceback" not in said
    assert b"error" not in said


def test_a_pipe_gets_a_line_each_interval_until_the_vm_ends() -> None:
    """And each warning once; the VM's end is a normal end."""
    watching = command("steering", "web", "--watch", "--interval", "0.1")
    hot = FakeVm(replace(CARD, vcpus=2))
    with running(hot):
        process = subprocess.Popen(
            watching, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
        )
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
    _, said = process.communicate(timeout=10)

    assert process.returncode == 0
    assert all("net0: packets/s by queue: receive " in line for line in lines)
    assert 1 == said.count("4 queues, and the VM has 2 vCPUs")
    assert "bpferry: 'web' has ended\n" in said


def test_a_reader_that_has_left_is_not_told_of_a_signal() -> None:
    """SIGTERM after the pipe was closed ends a watch without a traceback."""
    watching = command("steering", "web", "--watch", "--json", "--interval", "20")
    with running(FakeVm()):
        process = subprocess.Popen(
            watching, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
        )
        assert process.stdout is not None
        assert process.stderr is not None
        time.sleep(1.5)
        process.stdout.close()
        process.terminate()
        said = process.stderr.read()
        process.stderr.close()

    assert (143, b"") == (process.wait(10), said)


class RestlessVm(FakeVm):
    """Its guest rewrites its settings all the time: the maps are real ones."""

    def __init__(self, maps: SteeringMaps) -> None:
        super().__init__()
        self.maps = maps

    async def steering(self, fields: Fields) -> Answer:
        """Answer with what is in the maps now."""
        self.card = replace(self.card, steering=self.maps.read())
        return await super().steering(fields)


@contextlib.contextmanager
def rewritten(fds: OwnedFds) -> Iterator[list[float]]:
    """Rewrite the maps of a set all the time; yield a list that gets the time of each change."""
    times: list[float] = []
    ended = threading.Event()

    def rewrite() -> None:
        for number in itertools.count():
            if ended.is_set():
                return
            queue = 1 + number % 2
            bpf.write_maps(fds, bpf.Wanted(types=0x3F, key=KEY, table=(queue,) * 128))
            times.append(time.monotonic())

    thread = threading.Thread(target=rewrite)
    thread.start()
    try:
        yield times
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (NobodyThere("'web' has ended"), 0, "bpferry: 'web' has ended"),
        (QemuError("'qemu' ended during 'qom-get'"), 0, "bpferry: 'web' has ended"),
        (QemuError("QEMU of 'web' did not answer"), 1, "QEMU of 'web' did not answer"),
        (NotRunning("'web' did not answer within 30 s"), 1, "did not answer within 30 s"),
    ],
)
def test_a_watch_tells_a_vm_that_hangs_from_one_that_has_ended(
    error: BpferryError,
    status: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The end is a normal end of a watch; a VM that does not answer is none."""

    def fail(*_: object, **__: object) -> None:
        raise error

    control = SimpleNamespace(wait_for_end=lambda _seconds: not status)
    monkeypatch.setattr(steering, "connect", lambda _: contextlib.nullcontext(control))
    monkeypatch.setattr(steering, "card_ids", lambda *_: ["net0"])
    monkeypatch.setattr(steering, "_watch", fail)

    assert main(["steering", "web", "--watch"]) == status
    assert words in capsys.readouterr().err


@pytest.mark.kernel
def test_a_guest_that_rewrites_its_settings_all_the_time_can_be_watched() -> None:
    """A thousand changes a second and more neither stop the watch nor show what never was."""
    watching = command("steering", "web", "--watch", "--json", "--interval", "0.1")
    with (
        bpf.make_set() as fds,
        SteeringMaps(*fds.borrow()[1:]) as maps,
        rewritten(fds) as times,
        running(RestlessVm(maps)),
    ):
        process = subprocess.Popen(
            watching, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
        )
        assert process.stdout is not None
        cards = [json.loads(process.stdout.readline())["cards"][0] for _ in range(10)]
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)

    assert (0, "") == (process.returncode, said)
    # The machine may do something else meanwhile: in some tenth of a second it was as fast.
    assert any(later - time < 0.1 for time, later in zip(times, times[100:], strict=False))
    assert all(set(card["rss"]["table"]) <= {0, 1, 2} for card in cards)
    assert all(card["rss"]["key"] == KEY.hex() for card in cards)


def test_metrics_are_openmetrics_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Which the library itself can read, with all that there is to know."""
    parser = pytest.importorskip("prometheus_client.openmetrics.parser")
    with running(FakeVm()):
        assert main(["metrics", "--interval", "0.2"]) == 0

    families = parser.text_string_to_metric_families(capsys.readouterr().out)
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }
    assert 1 == samples["bpferry_up", "web"]
    assert 4 == samples["bpferry_card_queues", *("net0", "web")]
    assert 64 == samples["bpferry_table_entries", *("net0", "1", "web")]
    assert {("bpferry_steering_in_force", "net0", "web")} <= samples.keys()
    rate = samples["bpferry_queue_packets_per_second", *("net0", "receive", "2", "web")]
    assert rate == pytest.approx(1000, rel=0.1)


def test_metrics_are_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    """The same as of `steering`, for all VMs."""
    with running(FakeVm()):
        assert main(["metrics", "--interval", "0.1", "--json"]) == 0

    # Whoever runs the tests may have VMs.
    (vm,) = (vm for vm in json.loads(capsys.readouterr().out)["vms"] if vm["name"] == "web")
    assert (True, "net0") == (vm["up"], vm["cards"][0]["id"])


def test_metrics_of_a_vm_that_does_not_run_are_an_error() -> None:
    """If it is named; no VM at all is text without samples."""
    assert main(["metrics", "nobody"]) == 1
    assert main(["metrics"]) == 0


def test_without_the_library_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is an extra."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)

    assert main(["metrics"]) == 1
    assert "python3-prometheus-client" in capsys.readouterr().err


def test_the_kernels_counters_of_a_tap_are_the_guests_view(tmp_path: Path) -> None:
    """What the tap sends is what the guest receives; a tap that is not seen has none."""
    folder = tmp_path / "tap0" / "statistics"
    folder.mkdir(parents=True)
    (folder / "tx_packets").write_text("7\n")
    (folder / "rx_packets").write_text("5\n")

    assert {"receive": 7, "transmit": 5} == tap_packets("tap0", tmp_path)
    assert {} == tap_packets("tap1", tmp_path)
