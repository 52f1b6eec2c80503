# SPDX-License-Identifier: LGPL-2.1-or-later
"""What becomes of a command line, with names in place of fds: nobody is asked."""

import shlex

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpferry.errors import BpferryError, Refused, Unsupported
from bpferry.launcher import conversion
from bpferry.launcher.cards import LeftCard
from bpferry.launcher.conversion import Conversion, Wishes, convert, has_taps
from bpferry.launcher.giving import GivenTap, NoGiver
from bpferry.launcher.guest import name_of, uses_kvm, vcpus_of
from bpferry.launcher.words import read_options
from bpferry.qemu.capabilities import Capabilities
from bpferry_wire.messages import Tap
from tests.client.support import CAPABILITIES, without

TYPES = {
    **dict.fromkeys(("rss", "hash", "mq"), "bool"),
    "ebpf-rss-fds": "list",
    "vectors": "uint32",
    **dict.fromkeys(("mac", "netdev", "tx"), "str"),
    "host_mtu": "uint16",
}
QEMU = msgspec.structs.replace(
    CAPABILITIES, devices={"virtio-net-pci": TYPES, "e1000": {"mac": "str", "netdev": "str"}}
)
EBPF = '"rss":true,"ebpf-rss-fds":["c0.program","c0.config","c0.key","c0.table"]'
TWO = "fds=c0.tap0:c0.tap1"
NEW = f'{{"driver":"virtio-net-pci","netdev":"n0","id":"c0","mq":true,"vectors":6,{EBPF}}}'


@pytest.fixture(autouse=True)
def _no_vhost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this host have no vhost, wherever the tests run."""
    monkeypatch.setattr(conversion, "probe_vhost", lambda _device: "there is none")


def converted(
    line: str, capabilities: Capabilities = QEMU, wishes: Wishes | None = None
) -> Conversion:
    """Return what becomes of *line*."""
    argv = ["qemu", *shlex.split(line)]
    return convert(argv, capabilities, NoGiver(), wishes or Wishes())


def reasons(made: Conversion) -> list[str]:
    """Return why cards stay as they are."""
    return [card.reason for card in made.cards if isinstance(card, LeftCard)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("-netdev bridge,id=n0", f"-netdev tap,id=n0,{TWO}"),
        ("-netdev bridge,id=n0,br=br1", f"-netdev tap,id=n0,{TWO}"),
        ("--netdev id=n0,type=bridge", f"--netdev id=n0,type=tap,{TWO}"),
        ("-netdev tap,id=n0,helper=/usr/lib/qemu/qemu-bridge-helper", f"-netdev tap,id=n0,{TWO}"),
        ("-netdev tap,br=br0,id=n0,sndbuf=9", f"-netdev tap,id=n0,sndbuf=9,{TWO}"),
        ("-netdev tap,id=n0,ifname=t,script=no,downscript=no", f"-netdev tap,id=n0,{TWO}"),
        (
            """-netdev '{"type":"bridge", "id":"n0"}'""",
            """-netdev '{"type":"tap", "id":"n0","fds":"c0.tap0:c0.tap1"}'""",
        ),
        ("-netdev tap,br=a,id=n0,vhost=off", f"-netdev tap,id=n0,vhost=off,{TWO}"),
        ("-netdev tap,id=n0,fds=7:8", "-netdev tap,id=n0,fds=7:8"),
    ],
)
def test_a_card_gets_a_queue_for_each_processor(before: str, after: str) -> None:
    """Its tap comes from the helper, or has been there; fds that are there stay."""
    made = converted(f"-smp 2 {before} -device virtio-net-pci,netdev=n0,id=c0 -S")

    assert ["qemu", *shlex.split(f"-smp 2 {after} -device '{NEW}' -S")] == made.argv


class Asked(NoGiver):
    """Gives taps of up to *most* queues, and keeps what it was asked."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.heard: list[str] = []

    def allowed_queues(self, asked: Tap) -> int:
        """Say how many."""
        self.heard.append(f"may I have {asked.queues}")
        return min(self.most, asked.queues)

    def tap(self, name: str, asked: Tap) -> GivenTap:
        """Give no more."""
        self.heard.append(f"give me {asked.queues}")
        if asked.queues > self.most:
            raise Refused("too many")
        return super().tap(name, asked)


@pytest.mark.parametrize(
    ("most", "heard"),
    [(4, ["give me 4"]), (3, ["give me 4", "may I have 4", "give me 3"])],
)
def test_a_tap_is_asked_for_at_once(most: int, heard: list[str]) -> None:
    """What is allowed is asked only after a refusal: each question takes time at a start."""
    giver = Asked(most)
    line = "qemu -smp 4 -netdev bridge,id=n0 -device virtio-net-pci,netdev=n0"
    made = convert(shlex.split(line), QEMU, giver, Wishes())

    assert heard == giver.heard
    assert [most] == [card.plan.queues for card in made.converted]


def test_a_card_in_json_stays_in_json() -> None:
    """What it gets comes last."""
    card = '{"driver":"virtio-net-pci", "netdev":"n0","id":"c0"}'
    made = converted(f"-smp 2 -netdev bridge,id=n0 -device '{card}'")

    assert made.argv[-1] == card[:-1] + f',"mq":true,"vectors":6,{EBPF}}}'


@pytest.mark.parametrize(
    "line",
    [
        "-device virtio-blk-pci,drive=d {short} -S",
        "{short} -device virtio-blk-pci,drive=d -S",
        "-nic user,model=e1000 -device a -device b {short}",
    ],
)
def test_a_short_card_comes_before_all_devices(line: str) -> None:
    """As QEMU makes it before them, so that it gets the slot that it would have had."""
    short = "-nic bridge,br=br0,model=virtio-net-pci,mac=52:54:00:00:00:01"
    argv = converted(line.format(short=f"-smp 2 {short}")).argv
    devices = [option.value or "" for option in read_options(argv) if option.name == "device"]

    assert '"mac":"52:54:00:00:00:01"' in devices[0]
    assert '"mq":true,"vectors":6,"rss":true' in devices[0]
    assert [word for word in argv if word.startswith("tap,")] == [
        f"tap,id={name},fds={name}.tap0:{name}.tap1"
        for name in (("nic1",) if "user" in line else ("nic0",))
    ]
    assert not any(word.startswith("bridge") for word in argv)


def test_a_pair_of_net_becomes_a_netdev_and_a_device() -> None:
    """Each in the place where it was."""
    made = converted("-net nic,model=virtio,macaddr=52:54:00:00:00:01 -S -net bridge,br=b -smp 2")
    device, netdev = made.argv[1:3], made.argv[4:6]

    assert ("-device", "-netdev") == (device[0], netdev[0])
    assert '{"driver":"virtio-net-pci","netdev":"net0","mac":"52:54:00:00:00:01",' in device[1]
    assert netdev[1] == "tap,id=net0,fds=net0.tap0:net0.tap1"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("-netdev user,id=n0 -device virtio-net-pci,netdev=n0", "it has no tap, but 'user'"),
        ("-netdev bridge,id=n0", "no '-device' of this command line uses it"),
        ("-device virtio-net-pci,netdev=n0", "no '-netdev' that is understood has the id 'n0'"),
        (
            "-netdev bridge,id=n0 -netdev bridge,id=n0 -device virtio-net-pci,netdev=n0",
            "several '-netdev' have the id 'n0'",
        ),
        (
            "-netdev bridge,id=n0 -device virtio-net-pci,netdev=n0 -object f,id=f,netdev=n0",
            "'-object' uses its netdev 'n0' too",
        ),
        (
            "-netdev bridge,id=n0 -device virtio-net-pci,netdev=n0 -global virtio-net-pci.mq=on",
            "'-global virtio-net-pci.mq=on' changes it as well",
        ),
        (
            "-netdev bridge,id=n0 -device virtio-net-pci,netdev=n0,id=c -set device.c.rss=on",
            "'-set device.c.rss=on' changes it as well",
        ),
        (
            "-netdev bridge,id=n0,helper=/opt/mine -device virtio-net-pci,netdev=n0",
            "its helper '/opt/mine' is not qemu-bridge-helper",
        ),
        (
            "-netdev tap,id=n0,ifname=t -device virtio-net-pci,netdev=n0",
            "QEMU runs a script for its tap (use script=no,downscript=no)",
        ),
        (
            "-netdev tap,id=n0 -device virtio-net-pci,netdev=n0",
            "QEMU makes its tap itself, and a script connects it",
        ),
        (
            "-netdev tap,id=n0,fd=name -device virtio-net-pci,netdev=n0",
            "'fd=name' does not list numbers of fds",
        ),
        (
            "-netdev tap,id=n0,fd=999 -smp 2 -device virtio-net-pci,netdev=n0",
            "its fd 999 is not a tap: Bad file descriptor",
        ),
        (
            "-netdev bridge,id=n0 -smp 2 -device virtio-net-pci,netdev=n0,x-new=1",
            "'x-new=1' cannot be written in JSON: its type is not known",
        ),
        ("-netdev bridge,id=n0 -device new-card,netdev=n0", "this QEMU has no device 'new-card'"),
        ("-nic bridge", "its model (the machine's own) is not virtio-net-pci"),
        (
            "-net nic,model=virtio -net bridge -net user",
            "only one '-net nic' with one other '-net' is understood",
        ),
        (
            "-netdev bridge,id=n0,br=a-very-long-name -device virtio-net-pci,netdev=n0",
            "'a-very-long-name' is not the name of a bridge",
        ),
        (
            "-netdev tap,id=n0,br=b,vhost=on -device virtio-net-pci,netdev=n0",
            "it asks for vhost: there is none",
        ),
    ],
)  # fmt: skip
def test_what_is_not_understood_stays_to_the_letter(line: str, reason: str) -> None:
    """With the reason; and it is an error if eBPF is required."""
    made = converted(line)

    assert ["qemu", *line.split()] == made.argv
    assert reason in reasons(made)
    with pytest.raises(BpferryError):
        converted(line, wishes=Wishes(require_ebpf=True))


@pytest.mark.parametrize(
    ("helper", "outcome"),
    [
        ("/opt/qemu-bridge-helper --br=br7", "br7"),
        ("'/opt/my own/qemu-bridge-helper'\t--br=br7", "br7"),
        ("/opt/qemu-bridge-helper --fd=3", "its helper has the option '--fd=3'"),
        ("'/opt/qemu-bridge-helper", "its helper cannot be read: No closing quotation"),
        ("", "its helper '' is not qemu-bridge-helper"),
    ],
)
def test_a_helper_is_a_line_of_a_shell(helper: str, outcome: str) -> None:
    """QEMU lets a shell run one with spaces (net_bridge_run_helper in net/tap.c)."""
    netdev = f"tap,id=n0,br=br1,helper={helper}"
    argv = ["qemu", "-netdev", netdev, "-device", "virtio-net-pci,netdev=n0"]
    made = convert(argv, QEMU, NoGiver(), Wishes())
    taps = [card.requests.tap.source for card in made.converted if card.requests.tap]

    assert [outcome] == taps + reasons(made)


@pytest.mark.parametrize(
    "line",
    [
        "-netdev=bridge,id=n0 -device=virtio-net-pci,netdev=n0",
        "-netdev bridge, id=n0 -device virtio-net-pci, netdev=n0",
        "---netdev bridge,id=n0 -device virtio-net-pci,netdev=n0",
    ],
)
def test_words_that_are_split_otherwise_stay(line: str) -> None:
    """QEMU will say what is wrong with them."""
    made = converted(line)

    assert ["qemu", *line.split()] == made.argv
    assert [] == made.converted


def test_a_card_of_another_model_gets_a_tap_with_one_queue() -> None:
    """From the helper, where QEMU would run its own; the card itself stays as it is."""
    made = converted("-smp 4 -netdev bridge,id=n0 -device e1000,netdev=n0")

    assert made.argv[3:] == ["-netdev", "tap,id=n0,fd=n0.tap0", "-device", "e1000,netdev=n0"]


@pytest.mark.parametrize(
    ("device", "lacks"),
    [("mq=off", "mq"), ("mq=on,vectors=20", "rss"), ("rss=off", "rss"), ("rss=on", "vectors")],
)
def test_what_the_line_says_stays(device: str, lacks: str) -> None:
    """A user who switched something off, or chose a number, is not overruled."""
    made = converted(f"-smp 2 -netdev bridge,id=n0 -device virtio-net-pci,netdev=n0,{device}")
    (card,) = made.converted
    old, new = card.card.found.device.properties, card.card.device

    assert lacks in {"mq", "rss", "vectors"}
    assert {item.key: str(item.value) for item in old.items} == {
        key: {"True": "on", "False": "off"}.get(str(new.get(key)), str(new.get(key)))
        for key in (item.key for item in old.items)
    }
    assert (device == "mq=off") == (card.plan.queues == 1)


def test_a_qemu_without_ebpf_still_gets_queues() -> None:
    """In the form that the card had: key=value needs no types then."""
    old = without(QEMU, "ebpf-rss-fds", "rss")
    made = converted("-smp 2 -netdev bridge,id=n0 -device virtio-net-pci,netdev=n0,x-a=1", old)

    assert made.argv[-1] == "virtio-net-pci,netdev=n0,x-a=1,mq=on,vectors=6"


def test_the_number_of_queues_is_the_user_s() -> None:
    """Before the netdev's, before the processors."""
    line = "-smp 8 -netdev tap,id=n0,br=b,queues=4 -device virtio-net-pci,netdev=n0"

    assert [2, 4] == [
        converted(line, wishes=wishes).converted[0].plan.queues
        for wishes in (Wishes(queues=2), Wishes())
    ]


def test_ebpf_can_be_required() -> None:
    """A card that would be steered otherwise is an error, with its name."""
    line = "-smp 2 -netdev bridge,id=n0 -device virtio-net-pci,netdev=n0,rss=off"
    with pytest.raises(Unsupported, match="which is required"):
        converted(line, wishes=Wishes(require_ebpf=True))


def test_512_cards_are_each_their_own() -> None:
    """Each gets its own tap, and the order stays."""
    cards = "".join(
        f" -netdev bridge,id=n{n} -device virtio-net-pci,netdev=n{n},id=c{n}" for n in range(512)
    )
    made = converted(f"-smp 2{cards}")

    assert [f"c{n}" for n in range(512)] == [card.plan.card_id for card in made.converted]
    assert 512 == len({word for word in made.argv if word.startswith("tap,")})


def test_a_second_pass_changes_nothing() -> None:
    """Neither with key=value, nor with JSON, nor with short forms."""
    for line in (
        "-smp 2 -netdev bridge,id=n0 -device virtio-net-pci,netdev=n0",
        "-smp 2 -nic bridge,model=virtio -nic user -device virtio-blk-pci",
        "-smp 2 -net nic,model=virtio -net bridge",
        """-smp 2 -netdev '{"type":"bridge","id":"n"}' -device '{"driver":"e1000","netdev":"n"}'""",
    ):
        once = converted(line).argv
        assert once == converted(shlex.join(once[1:])).argv, line


WORDS = st.sampled_from(
    ["-netdev", "-device", "-nic", "-net", "-object", "-smp", "-append", "--device", "-S",
     "bridge,id=n0", "tap,id=n0,br=b", "tap,id=n1,fd=9", "virtio-net-pci,netdev=n0",
     '{"driver":"virtio-net-pci","netdev":"n1"}', "nic,model=virtio", "bridge,model=virtio", "4",
     "filter-x,netdev=n0", "-", "--", "", "\udcff,id=\udc80", "disk.img"],
)  # fmt: skip


@given(st.lists(WORDS, max_size=12))
def test_any_order_of_words_is_taken(words: list[str]) -> None:
    """No command line is an error; what is not about a card stays, and a second pass does nothing.

    Words that are missing, repeated, or in the place of others, and bytes that are not UTF-8.
    """
    argv = ["qemu", *words]
    made = convert(argv, QEMU, NoGiver(), Wishes())

    if not has_taps(argv):
        assert argv == made.argv
    again = convert(made.argv, QEMU, NoGiver(), Wishes())
    assert made.argv == again.argv
    assert made.is_changed or argv == made.argv


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("", 1), ("-smp 4", 4), ("-smp cpus=4,maxcpus=8", 4), ("-smp maxcpus=8", 8),
        ("-smp sockets=2,cores=3,threads=2", 12), ("-smp 2 -smp sockets=4", 2),
        ("-smp 2 -smp 3", 3), ("-machine q35,smp.cpus=5", 5), ("-smp lots", 1), ("-smp 0", 1),
        ("-M q35 -smp 4,sockets=4", 4),
    ],
)  # fmt: skip
def test_processors_are_counted_as_qemu_counts_them(line: str, count: int) -> None:
    """The number, or the most, or the product of the levels."""
    assert count == vcpus_of(list(read_options(["qemu", *line.split()])))


@pytest.mark.parametrize(
    ("line", "kvm"),
    [
        ("qemu", False), ("/usr/bin/qemu-kvm", True), ("qemu -enable-kvm", True),
        ("qemu -accel kvm", True), ("qemu -accel tcg -accel kvm", False),
        ("qemu -machine q35,accel=kvm:tcg", True), ("qemu -M q35,accel=tcg:kvm", False),
        ("qemu-kvm -accel tcg", False),
    ],
)  # fmt: skip
def test_kvm_is_what_qemu_tries_first(line: str, *, kvm: bool) -> None:
    """By any of its options, or by the program's name."""
    program, *words = line.split()

    assert kvm == uses_kvm(program, list(read_options([program, *words])))


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("", ""),
        ("-name web", "web"),
        ("-name guest=web,debug-threads=on", "web"),
        ("-name debug-threads=on -name web", "web"),
        ("-name web -name db", "db"),
        ("-name web -name process=qemu", "web"),
        ("-name a,,b", "a,b"),
        ('-name {"x"', ""),
        ("-name", ""),
    ],
)
def test_what_the_vm_is_called(line: str, name: str) -> None:
    """As QEMU reads it; what is not understood names nothing."""
    assert name == name_of(read_options(["qemu", *line.split()]))


@pytest.mark.parametrize(
    ("option", "told"),
    [("-name guest=web,debug-threads=on ", "web"), ("-name a,,b ", "a_b"), ("", "")],
)
def test_the_helpers_are_told_the_name_of_the_vm(option: str, told: str) -> None:
    """For the tap and for the eBPF set, as the wire takes it."""
    line = "-smp 2 -netdev bridge,id=n0 -device virtio-net-pci,netdev=n0,id=c0"
    (card,) = converted(option + line).converted

    assert [told, told] == [asked.vm for asked in card.requests if asked is not None]
