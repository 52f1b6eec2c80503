# SPDX-License-Identifier: LGPL-2.1-or-later
"""A proof that steering works here: a set from the helper, run in the kernel on known frames.

The frames are those of Microsoft's "Verifying the RSS hash calculation", whose hashes are
published. What a program returns is a queue and no hash, so each frame is run with tables of
several lengths that have no common divisor and name a different queue in each entry: the queues are
the remainders of the hash, and no other hash of 32 bits has all of them. The set is fresh, no QEMU
ever gets it, and it is gone when it is closed.
"""

import struct
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Final, NamedTuple

from bpferry.errors import BpferryError
from bpferry.machine.doctor.finding import Feature, Finding
from bpferry.network.bpf_helper import BpfHelper, GrantedSet
from bpferry.qemu.capabilities import Capabilities
from bpferry.steering import maps
from bpferry.steering.maps import Steering
from bpferry.steering.plan import RSS_OBJECT
from bpferry.steering.requests import build_load
from bpferry.steering.toeplitz import Flow, HashType
from bpferry.steering.trial_run import run_once
from bpferry_wire.fds import BorrowedFd
from bpferry_wire.objects import RSS

KEY: Final = bytes.fromhex(
    "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"
)
"""The key of the published vectors."""


class Vector(NamedTuple):
    """One published row."""

    source: str
    source_port: int
    destination: str
    destination_port: int
    of_addresses: int
    """The hash of source and destination."""
    with_ports: int
    """The hash of both with their ports."""

    @property
    def flow(self) -> Flow:
        """The row as a TCP connection."""
        return Flow(
            ip_address(self.source),
            ip_address(self.destination),
            "tcp",
            self.source_port,
            self.destination_port,
        )


VECTORS: Final = (
    Vector("66.9.149.187", 2794, "161.142.100.80", 1766, 0x323E8FC2, 0x51CCC178),
    Vector("199.92.111.2", 14230, "65.69.140.83", 4739, 0xD718262A, 0xC626B0EA),
    Vector("24.19.198.95", 12898, "12.22.207.184", 38024, 0xD2D0A5DE, 0x5C2B394A),
    Vector("38.27.205.30", 48228, "209.142.163.6", 2217, 0x82989176, 0xAFC7327F),
    Vector("153.39.163.191", 44251, "202.188.127.2", 1303, 0x5D1809C5, 0x10E828A2),
    Vector("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766, 0x2CC18CD5, 0x40207D3D),
    Vector("3ffe:501:8::260:97ff:fe40:efab", 14230, "ff02::1", 4739, 0x0F0C461C, 0xDDE51BBF),
    Vector(
        "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
        44251,
        "fe80::200:f8ff:fe21:67cf",
        38024,
        0x4B61E985,
        0x02D1FEEF,
    ),
)

LENGTHS: Final = (128, 127, 125, 123, 121)
"""Lengths of tables without a common divisor; their product is beyond 32 bits."""

ADDRESSES: Final = HashType.IPV4 | HashType.IPV6
PORTS: Final = HashType.TCPV4 | HashType.TCPV6

DEFAULT_QUEUE: Final = 200
"""One that no table names."""

IPV4: Final = 0x0800
ETHERTYPES: Final = {4: IPV4, 6: 0x86DD}
"""linux/if_ether.h, by the version of IP."""
TCP: Final = 6
TCP_BYTES: Final = 20

OF: Final = (Feature.EBPF,)

Load = Callable[[Capabilities], GrantedSet]
Run = Callable[[BorrowedFd, bytes], int]


def load_set(capabilities: Capabilities) -> GrantedSet:
    """Return a fresh set of the program that the QEMU of *capabilities* carries."""
    with BpfHelper() as helper:
        return helper.load(build_load(capabilities))


def prove(
    capabilities: Capabilities | None, load: Load = load_set, run: Run = run_once
) -> Iterator[Finding]:
    """Yield whether the program of a QEMU steers as it should; None if there is no QEMU."""
    if capabilities is None or RSS_OBJECT not in capabilities.objects:
        message = "there is no QEMU with an eBPF program, so nothing could be loaded"
        yield Finding("proof.load", "fault", message, OF, fix="see what is said about QEMU above")
        return
    try:
        granted = load(capabilities)
    except BpferryError as error:
        message = f"no eBPF set could be loaded: {error.message}"
        yield Finding("proof.load", "fault", message, OF, fix=error.hint)
        return
    with granted:
        yield Finding("proof.load", "ok", "the helper loaded an eBPF set for you", OF)
        try:
            yield _compared(granted, run)
        except BpferryError as error:
            yield Finding(
                "proof.vectors",
                "warning",
                f"what the program does could not be seen: {error.message}",
                OF,
                fix="before Linux 5.19, users can run a program only if "
                "kernel.unprivileged_bpf_disabled is 0; root can: sudo bpferry doctor --deep",
            )


def _compared(granted: GrantedSet, run: Run) -> Finding:
    """Return whether the program of *granted* chooses the queue that each vector's hash names."""
    runs = 0
    for wanted, vector, expected in _trials():
        queue = _run_with(granted, wanted, vector, run)
        runs += 1
        if queue != expected:
            return Finding(
                "proof.vectors",
                "fault",
                f"the program steers wrongly: a packet from {vector.source} to "
                f"{vector.destination} went to queue {queue}, not {expected}",
                OF,
                fix="report this with the version of QEMU and of the kernel; until then, leave "
                "RSS out",
            )
    message = f"the kernel ran the program {runs} times, and each packet went to the right queue"
    return Finding("proof.vectors", "ok", message, OF)


def _trials() -> Iterator[tuple[Steering, Vector, int]]:
    """Yield settings, a frame to send, and the queue that it has to go to."""
    for vector in VECTORS:
        for types, expected in (
            (ADDRESSES | PORTS, vector.with_ports),
            (ADDRESSES, vector.of_addresses),
        ):
            for length in LENGTHS:
                yield _steering(types, length), vector, expected % length
        yield _steering(HashType(0), LENGTHS[0]), vector, DEFAULT_QUEUE


def _steering(types: HashType, length: int) -> Steering:
    return Steering(
        redirect=True,
        hash_types=types,
        key=KEY,
        table=tuple(range(length)),
        default_queue=DEFAULT_QUEUE,
    )


def _run_with(granted: GrantedSet, wanted: Steering, vector: Vector, run: Run) -> int:
    named = granted.by_name()
    maps.write(*(named[shape.name] for shape in RSS.maps), steering=wanted)
    return run(named[RSS.programs[0].name], frame_of(vector.flow))


def frame_of(flow: Flow) -> bytes:
    """Return an Ethernet frame of *flow*, which is TCP without data."""
    ports = struct.pack("!HH", flow.source_port, flow.destination_port)
    segment = ports + bytes(TCP_BYTES - len(ports))
    kind = ETHERTYPES[flow.source.version]
    if kind == IPV4:
        fields = (0x45, 0, 20 + len(segment), 1, 0, 64, TCP, 0)
        head = struct.pack("!BBHHHBBH", *fields)
    else:
        head = struct.pack("!IHBB", 6 << 28, len(segment), TCP, 64)
    addresses = flow.source.packed + flow.destination.packed
    return bytes(12) + struct.pack("!H", kind) + head + addresses + segment
