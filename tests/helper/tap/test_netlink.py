# SPDX-License-Identifier: LGPL-2.1-or-later
"""A kernel that answers late, twice, in pieces, wrongly or not at all."""

import errno
import os
import socket  # noqa: TC003 - for cast
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpferry_helper.tap import netlink
from bpferry_helper.tap.netlink import (
    ERROR,
    HEADER,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    LinkError,
    Netlink,
)

KIND: Final = 18
SHORT_S: Final = 0.05
STRANGER_PORT: Final = 4711


class Message(dict[str, dict[str, int]]):
    """A message as pyroute2's: it has a header, and turns itself into bytes."""

    data = b""

    def __init__(self) -> None:
        super().__init__(header={})

    def encode(self) -> None:
        """Write the bytes of the header; there is no body."""
        header = self["header"]
        self.data = HEADER.pack(
            HEADER.size, header["type"], header["flags"], header["sequence_number"], 0
        )


Packet = tuple[bytes, int] | int
"""What one recvfrom() gives: bytes and the sender's port, or an errno."""

Answering = Callable[[int], list[Packet]]
"""What comes for a request of this sequence number."""


class FakeKernel:
    """As much of a netlink socket as is used, and a script of what the kernel says."""

    def __init__(self, *script: Answering) -> None:
        self.sequences: list[int] = []
        self.flags: list[int] = []
        self.send_error = 0
        self._script = deque(script)
        self._packets: deque[Packet] = deque()
        self._ready = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        """Return what becomes readable."""
        return self._ready

    def send(self, data: bytes) -> int:
        """Take a request and queue what the script has for it."""
        if self.send_error:
            raise OSError(self.send_error, os.strerror(self.send_error))
        _, _, flags, sequence, _ = HEADER.unpack_from(data)
        self.sequences.append(sequence)
        self.flags.append(flags)
        self.say(*(self._script.popleft()(sequence) if self._script else []))
        return len(data)

    def say(self, *packets: Packet) -> None:
        """Queue *packets*."""
        self._packets.extend(packets)
        if packets:
            os.eventfd_write(self._ready, 1)

    def recvfrom(self, _room: int) -> tuple[bytes, tuple[int, int]]:
        """Return the next packet and who sent it, or raise the next error."""
        packet = self._packets.popleft()
        if not self._packets:
            os.eventfd_read(self._ready)
        if isinstance(packet, int):
            raise OSError(packet, os.strerror(packet))
        return packet[0], (packet[1], 0)

    def close(self) -> None:
        """Close the fd."""
        os.close(self._ready)


def message(sequence: int, body: bytes = b"", kind: int = 16, flags: int = 2) -> bytes:
    """Return one message of the kernel's."""
    length = HEADER.size + len(body)
    return HEADER.pack(length, kind, flags, sequence, 0) + body + bytes(-length % 4)


def end(sequence: int, number: int = 0, kind: int = NLMSG_ERROR) -> bytes:
    """Return the message that ends an answer; 0 is for "done"."""
    return message(sequence, ERROR.pack(-number), kind, 0)


def body(raw: bytes) -> bytes:
    """Return what follows the header."""
    return raw[HEADER.size :]


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a twentieth of a second where five seconds are meant."""
    monkeypatch.setattr(netlink, "ANSWER_S", SHORT_S)


@pytest.fixture
def kernels() -> Iterator[Callable[..., tuple[FakeKernel, Netlink]]]:
    """Yield what makes a kernel with a script and a socket to it, and closes them."""
    made: list[FakeKernel] = []

    def make(*script: Answering) -> tuple[FakeKernel, Netlink]:
        kernel = FakeKernel(*script)
        made.append(kernel)
        return kernel, Netlink(cast("socket.socket", kernel))

    yield make
    for kernel in made:
        kernel.close()


Kernels = Callable[..., tuple[FakeKernel, Netlink]]


def number_of(act: Callable[[], object]) -> int:
    """Return the errno that *act* ends with; 0 if it worked."""
    try:
        act()
    except LinkError as error:
        return error.errno
    return 0


def test_what_is_done_is_done(kernels: Kernels) -> None:
    """The kernel acknowledges."""
    _, link = kernels(lambda n: [(end(n), 0)])

    assert 0 == number_of(lambda: link.change("do it", Message(), KIND))


@pytest.mark.parametrize("number", [errno.EPERM, errno.EEXIST, errno.ENODEV, errno.EXFULL])
def test_an_error_has_its_number(kernels: Kernels, number: int) -> None:
    """And says what was tried."""
    _, link = kernels(lambda n: [(end(n, number), 0)])

    with pytest.raises(LinkError, match=f"cannot do it: {os.strerror(number)}") as caught:
        link.change("do it", Message(), KIND)

    assert number == caught.value.errno


def test_an_answer_to_somebody_else_is_passed_over(kernels: Kernels) -> None:
    """What a helper before this one did not read: another sequence number, in the same packet."""
    _, link = kernels(
        lambda n: [
            (end(n - 1, errno.EPERM), 0),
            (message(n + 7, b"abcd") + end(n + 7, errno.EPERM) + message(n, b"mine"), 0),
            (end(n), 0),
        ]
    )

    assert b"mine" == body(link.ask("ask", Message(), KIND))


def test_another_process_cannot_answer(kernels: Kernels) -> None:
    """Not even with the right number: its port is not the kernel's."""
    _, link = kernels(
        lambda n: [
            (message(n, b"evil") + end(n), STRANGER_PORT),
            (message(n, b"good") + end(n), 0),
        ]
    )

    assert b"good" == body(link.ask("ask", Message(), KIND))


def test_no_answer_is_an_error_in_time(kernels: Kernels) -> None:
    """Named as such."""
    _, link = kernels()

    assert errno.ETIMEDOUT == number_of(lambda: link.change("do it", Message(), KIND))


def test_a_late_answer_is_not_taken_for_the_next(kernels: Kernels) -> None:
    """The request after the one that was given up gets its own."""
    kernel, link = kernels(lambda _: [], lambda n: [(message(n, b"next") + end(n), 0)])
    late = number_of(lambda: link.ask("ask", Message(), KIND))
    kernel.say((message(kernel.sequences[0], b"late") + end(kernel.sequences[0]), 0))

    assert (errno.ETIMEDOUT, b"next") == (late, body(link.ask("ask", Message(), KIND)))


def test_lost_messages_are_an_error_and_the_next_is_served(kernels: Kernels) -> None:
    """ENOBUFS says that something was thrown away."""
    _, link = kernels(
        lambda n: [errno.ENOBUFS, (end(n), 0)], lambda n: [(message(n, b"next") + end(n), 0)]
    )

    assert errno.ENOBUFS == number_of(lambda: link.change("do it", Message(), KIND))
    assert b"next" == body(link.ask("ask", Message(), KIND))


@pytest.mark.parametrize("cut", [1, 4, HEADER.size, HEADER.size + 3])
def test_half_an_answer_is_none(kernels: Kernels, cut: int) -> None:
    """A packet that ends within a message does not become a shorter one."""
    _, link = kernels(lambda n: [(message(n, b"abcdefgh")[:-cut], 0)])

    assert errno.ETIMEDOUT == number_of(lambda: link.ask("ask", Message(), KIND))


@pytest.mark.parametrize("length", [0, 1, 15, 17, 2**31, 2**32 - 1])
def test_a_length_that_cannot_be_is_passed_over(kernels: Kernels, length: int) -> None:
    """Nothing is read behind the packet, and nothing goes round for ever."""
    wrong = HEADER.pack(length, 16, 2, 0, 0)
    _, link = kernels(lambda n: [(wrong, 0), (message(n, b"good") + end(n), 0)])

    assert b"good" == body(link.ask("ask", Message(), KIND))


@pytest.mark.parametrize("count", [0, 2])
def test_one_answer_is_wanted(kernels: Kernels, count: int) -> None:
    """None or two are no answer."""
    _, link = kernels(lambda n: [(message(n) * count + end(n), 0)])

    assert errno.EBADMSG == number_of(lambda: link.ask("ask", Message(), KIND))


def test_what_cannot_be_sent_is_an_error(kernels: Kernels) -> None:
    """With the number that the socket gave."""
    kernel, link = kernels()
    kernel.send_error = errno.ENOBUFS

    assert errno.ENOBUFS == number_of(lambda: link.change("do it", Message(), KIND))


def listing(flags: int = 2) -> Answering:
    """Return the script of a list in three packets, the last with the end in it."""
    return lambda n: [
        (message(n, b"a") + message(n, b"b", flags=flags), 0),
        (message(n, b"c"), 0),
        (message(n, b"d") + end(n, kind=NLMSG_DONE), 0),
    ]


def test_a_list_comes_in_several_packets(kernels: Kernels) -> None:
    """Whole, and in its order."""
    _, link = kernels(listing())
    got = [body(raw)[:1] for raw in link.dump("list", Message(), KIND)]

    assert [b"a", b"b", b"c", b"d"] == got


def test_a_list_that_changed_meanwhile_is_asked_for_again(kernels: Kernels) -> None:
    """Until one is whole."""
    kernel, link = kernels(listing(2 | NLM_F_DUMP_INTR), listing(2 | NLM_F_DUMP_INTR), listing())

    assert (4, 3) == (len(link.dump("list", Message(), KIND)), len(kernel.sequences))


def test_only_the_end_may_say_that_a_list_changed(kernels: Kernels) -> None:
    """As the kernel does when the last change came behind all that it had to list."""
    last = ERROR.pack(0), NLMSG_DONE, NLM_F_DUMP_INTR
    kernel, link = kernels(lambda n: [(message(n) + message(n, *last), 0)], listing())

    assert (4, 2) == (len(link.dump("list", Message(), KIND)), len(kernel.sequences))


def test_a_list_that_always_changes_is_an_error(kernels: Kernels) -> None:
    """There is an end to asking."""
    kernel, link = kernels(*[listing(2 | NLM_F_DUMP_INTR)] * 9)

    assert errno.EINTR == number_of(lambda: link.dump("list", Message(), KIND))
    assert netlink.DUMP_ATTEMPTS == len(kernel.sequences)


def test_a_list_that_somebody_left_half_read_is_read_first(kernels: Kernels) -> None:
    """The kernel makes one list at a time for a socket, and this one outlives its process."""
    kernel, link = kernels(
        lambda n: [(message(7), 0), (end(n, errno.EBUSY), 0), (message(7) + end(7), 0)], listing()
    )

    assert (4, 2) == (len(link.dump("list", Message(), KIND)), len(kernel.sequences))


def test_a_list_that_breaks_off_is_an_error(kernels: Kernels) -> None:
    """Its end never comes, or has a number."""
    _, link = kernels(
        lambda n: [(message(n, b"a"), 0)],
        lambda n: [(message(n, b"a"), 0), (end(n, errno.ENOMEM, NLMSG_DONE), 0)],
    )
    numbers = [number_of(lambda: link.dump("list", Message(), KIND)) for _ in range(2)]

    assert [errno.ETIMEDOUT, errno.ENOMEM] == numbers


def test_numbers_go_round(kernels: Kernels) -> None:
    """After the last one comes 0, which is a number as any."""
    kernel, link = kernels(*[lambda n: [(end(n), 0)]] * 3)
    link._sequence = 0xFFFF_FFFE
    for _ in range(3):
        link.change("do it", Message(), KIND)

    assert [0xFFFF_FFFF, 0, 1] == kernel.sequences


def test_each_request_has_a_number_of_its_own(kernels: Kernels) -> None:
    """And two sockets do not begin with the same."""
    firsts = set()
    for _ in range(5):
        kernel, link = kernels(lambda n: [(end(n), 0)])
        link.change("do it", Message(), KIND)
        firsts.add(kernel.sequences[0])

    assert 5 == len(firsts)


@given(st.lists(st.binary(max_size=80), max_size=4))
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_bytes_of_any_kind_are_an_error_at_most(packets: list[bytes]) -> None:
    """No other exception, and no answer that goes on for ever."""
    kernel = FakeKernel(lambda n: [*((data, 0) for data in packets), (end(n), 0)])
    try:
        link = Netlink(cast("socket.socket", kernel))
        number = number_of(lambda: link.change("do it", Message(), KIND))
    finally:
        kernel.close()

    assert number in {0, errno.ETIMEDOUT}
