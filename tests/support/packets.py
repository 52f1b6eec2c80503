# SPDX-License-Identifier: LGPL-2.1-or-later
"""Packets that are not requests, by name: for the decoder and for the real helper alike."""

import struct
from typing import Final

import msgpack

DIGEST: Final = bytes(32)


def packed(value: object) -> bytes:
    """Return *value* as msgpack."""
    raw: bytes = msgpack.packb(value, use_bin_type=True)
    return raw


def raw_map(*pairs: tuple[bytes, bytes]) -> bytes:
    """Return a map of at most fifteen already packed keys and values; keys may repeat."""
    return bytes([0x80 | len(pairs)]) + b"".join(key + value for key, value in pairs)


V: Final = (packed("v"), packed(1))
OP: Final = (packed("op"), packed("hello"))
HELLO: Final = raw_map(V, OP)

CLAIMS: Final[dict[str, bytes]] = {
    # A header of five bytes that claims 2^32 - 1 of what does not follow.
    "array32 claiming 2^32-1": b"\xdd\xff\xff\xff\xff",
    "map32 claiming 2^32-1": b"\xdf\xff\xff\xff\xff",
    "str32 claiming 2^32-1": b"\xdb\xff\xff\xff\xff",
    "bin32 claiming 2^32-1": b"\xc6\xff\xff\xff\xff",
    "ext32 claiming 2^32-1": b"\xc9\xff\xff\xff\xff\x01",
    "a map of 65,535 without entries": b"\xde\xff\xff",
}

NOT_MSGPACK: Final[dict[str, bytes]] = {
    "0xc1, which msgpack does not use": b"\xc1",
    "one byte": b"\x81",
    "half a request": HELLO[: len(HELLO) // 2],
    "trailing bytes": HELLO + b"\x00",
    "two requests in one packet": HELLO + HELLO,
    "invalid UTF-8": raw_map(V, (packed("op"), b"\xa2\xff\xfe")),
    "a lone surrogate": raw_map(V, (packed("op"), b"\xa3\xed\xa0\x80")),
    "invalid UTF-8 in a key": raw_map(V, (b"\xa2\xff\xfe", packed("hello"))),
    "500 nested arrays": b"\x91" * 500 + b"\x90",
    "1,024 nested arrays": b"\x91" * 1024 + b"\x90",
    "4,000 nested arrays": b"\x91" * 4000 + b"\x90",
    "1,000 nested maps": b"\x81\xa1a" * 1000 + b"\x80",
}

WRONG_TYPES: Final[dict[str, bytes]] = {
    "a list": packed([1, "hello"]),
    "a number": packed(1),
    "nil": packed(None),
    "text": packed("hello"),
    "an integer key": raw_map(V, (packed(1), packed("hello"))),
    "a list as key": raw_map(V, (packed([1]), packed("hello"))),
    "a float key": raw_map(V, (packed(1.5), packed("hello"))),
    "a key of bytes": raw_map(V, (packed(b"op"), packed("hello"))),
    "the same key twice": raw_map(V, OP, OP),
    "a key once as text, once as bytes": raw_map(V, OP, (packed(b"op"), packed("hello"))),
    "NaN": raw_map(V, OP, (packed("x"), packed(float("nan")))),
    "infinity": raw_map(V, OP, (packed("x"), packed(float("inf")))),
    "a float as version": packed({"v": 1.0, "op": "hello"}),
    "True as version": packed({"v": True, "op": "hello"}),
    "False as version": packed({"v": False, "op": "hello"}),
    "a negative version": packed({"v": -1, "op": "hello"}),
    "2^63 as version": packed({"v": 2**63, "op": "hello"}),
    "2^64-1 as version": packed({"v": 2**64 - 1, "op": "hello"}),
    "text as version": packed({"v": "1", "op": "hello"}),
    "nil as version": packed({"v": None, "op": "hello"}),
    "nil as an unknown value": raw_map(V, OP, (packed("x"), b"\xc0")),
    "the operation as bytes": packed({"v": 1, "op": b"hello"}),
    "the operation as a number": packed({"v": 1, "op": 7}),
    "a timestamp": raw_map(V, OP, (packed("x"), b"\xd6\xff\x00\x00\x00\x01")),
    "a timestamp of bad length": raw_map(V, OP, (packed("x"), b"\xc7\x03\xff\x00\x00\x01")),
    "an empty extension": raw_map(V, OP, (packed("x"), b"\xc7\x00\x05")),
    "an extension": raw_map(V, OP, (packed("x"), b"\xd4\x05\x00")),
}

WRONG_KEYS: Final[dict[str, bytes]] = {
    "an empty map": packed({}),
    "no version": packed({"op": "hello"}),
    "no operation": packed({"v": 1}),
    "an unknown key": packed({"v": 1, "op": "hello", "please": 1}),
    "a load without a digest": packed({"v": 1, "op": "load", "id": "rss"}),
    "a load without an id": packed({"v": 1, "op": "load", "digest": DIGEST}),
    "a load with a path": packed(
        {"v": 1, "op": "load", "id": "rss", "digest": DIGEST, "path": "/etc/shadow"}
    ),
    "a digest of 31 bytes": packed({"v": 1, "op": "load", "id": "rss", "digest": bytes(31)}),
    "a digest of 33 bytes": packed({"v": 1, "op": "load", "id": "rss", "digest": bytes(33)}),
    "a digest as text": packed({"v": 1, "op": "load", "id": "rss", "digest": "AB" * 32}),
    "a digest as spaced text": packed({"v": 1, "op": "load", "id": "rss", "digest": "ab " * 32}),
    "a digest as 64 bytes of hex": packed(
        {"v": 1, "op": "load", "id": "rss", "digest": b"ab" * 32}
    ),
    "an id of 65 bytes": packed({"v": 1, "op": "load", "id": "x" * 65, "digest": DIGEST}),
    "an id of 22 three-byte letters": packed(
        {"v": 1, "op": "load", "id": "\u20ac" * 22, "digest": DIGEST}
    ),
    "an id as bytes": packed({"v": 1, "op": "load", "id": b"rss", "digest": DIGEST}),
    "can without a request": packed({"v": 1, "op": "can"}),
    "can with a list": packed({"v": 1, "op": "can", "request": []}),
    "can about hello": packed({"v": 1, "op": "can", "request": {"op": "hello"}}),
    "can about can": packed({"v": 1, "op": "can", "request": {"op": "can", "request": {}}}),
    "can with an unknown key": packed(
        {"v": 1, "op": "can", "request": {"op": "load", "id": "a", "digest": DIGEST, "x": 1}}
    ),
    "five levels": packed({"v": 1, "op": "can", "request": {"a": {"b": {"c": {"d": 1}}}}}),
    "a map of 1,000 entries": packed({f"{n:03}": 0 for n in range(780)}),
}

ABSENT: Final = object()
"""In place of a key's value: the key is not there."""


def tap(**changes: object) -> dict[str, object]:
    """Return the keys of a request for a tap that is right but for *changes*."""
    right: dict[str, object] = {"op": "tap", "bridge": "br0", "queues": 4}
    return {key: value for key, value in (right | changes).items() if value is not ABSENT}


TAP_CHANGES: Final[dict[str, dict[str, object]]] = {
    "a bridge and a network": {"network": "default"},
    "neither a bridge nor a network": {"bridge": ABSENT},
    "a bridge as bytes": {"bridge": b"br0"},
    "a bridge as a number": {"bridge": 3},
    "a bridge of 16 bytes": {"bridge": "b" * 16},
    "a bridge of 6 three-byte letters": {"bridge": "\u20ac" * 6},
    "a network as bytes": {"bridge": ABSENT, "network": b"default"},
    "a network of 65 bytes": {"bridge": ABSENT, "network": "n" * 65},
    "no queues": {"queues": ABSENT},
    "0 queues": {"queues": 0},
    "-1 queues": {"queues": -1},
    "65 queues": {"queues": 65},
    "255 queues": {"queues": 255},
    "256 queues": {"queues": 256},
    "257 queues": {"queues": 257},
    "2^31 queues": {"queues": 2**31},
    "2^64-1 queues": {"queues": 2**64 - 1},
    "True queues": {"queues": True},
    "1.0 queues": {"queues": 1.0},
    "queues as text": {"queues": "4"},
    "queues as a list": {"queues": [4]},
    "nil queues": {"queues": None},
    "an MTU of 67": {"mtu": 67},
    "an MTU of 65,522": {"mtu": 65_522},
    "an MTU of 0": {"mtu": 0},
    "a negative MTU": {"mtu": -1500},
    "True as MTU": {"mtu": True},
    "an MTU as text": {"mtu": "1500"},
    "nil as MTU": {"mtu": None},
    "an address of 5 bytes": {"mac": bytes(5)},
    "an address of 7 bytes": {"mac": bytes(7)},
    "no byte of an address": {"mac": b""},
    "an address as text": {"mac": "52:54:00:00:00:01"},
    "an address as 6 letters": {"mac": "RT\0\0\0\x01"},
    "isolated as 1": {"isolated": 1},
    "isolated as text": {"isolated": "yes"},
    "VLAN 0": {"vlan": 0},
    "VLAN 4095": {"vlan": 4095},
    "VLAN True": {"vlan": True},
    "several VLANs": {"vlan": [10, 11]},
    "tagged VLAN 0": {"tagged": [0]},
    "tagged VLAN 4095": {"tagged": [10, 4095]},
    "the same tagged VLAN twice": {"tagged": [10, 10]},
    "65 tagged VLANs": {"tagged": list(range(1, 66))},
    "a tagged VLAN as text": {"tagged": ["10"]},
    "tagged VLANs as a number": {"tagged": 10},
    "a bandwidth as a number": {"bandwidth": 1000},
    "a bandwidth of a third way": {"bandwidth": {"both": {"average": 1000}}},
    "a limit without an average": {"bandwidth": {"inbound": {"peak": 1000}}},
    "a limit as a number": {"bandwidth": {"inbound": 1000}},
    "nil as a limit": {"bandwidth": {"inbound": None}},
    "an average of 999": {"bandwidth": {"inbound": {"average": 999}}},
    "an average of 2^32": {"bandwidth": {"outbound": {"average": 2**32}}},
    "an average of True": {"bandwidth": {"outbound": {"average": True}}},
    "a negative average": {"bandwidth": {"outbound": {"average": -1000}}},
    "a peak of 0": {"bandwidth": {"inbound": {"average": 1000, "peak": 0}}},
    "a peak of 2^32": {"bandwidth": {"inbound": {"average": 1000, "peak": 2**32}}},
    "a burst of 131,071": {"bandwidth": {"inbound": {"average": 1000, "burst": 131_071}}},
    "a burst of 2^32": {"bandwidth": {"inbound": {"average": 1000, "burst": 2**32}}},
    "a limit with a floor": {"bandwidth": {"inbound": {"average": 1000, "floor": 1000}}},
    "a VM of 33 characters": {"vm": "v" * 33},
    "a VM without a letter": {"vm": ""},
    "a VM with a space": {"vm": "web uid=0"},
    "a VM with a sign of an alias": {"vm": "mac=52"},
    "a VM with a new line": {"vm": "web\n"},
    "a VM in Greek": {"vm": "\u03b1"},
    "a VM as bytes": {"vm": b"web"},
    "nil as VM": {"vm": None},
    "flags": {"flags": 0x1002},
    "a name for the tap": {"interface": "tap0"},
    "an owner": {"owner": 0},
}
"""What makes a request for a tap a bad one."""

WRONG_TAPS: Final[dict[str, bytes]] = {
    **{f"tap: {name}": packed({"v": 1, **tap(**how)}) for name, how in TAP_CHANGES.items()},
    **{
        f"create: {name}": packed({"v": 1, **tap(op="create", **how)})
        for name, how in TAP_CHANGES.items()
    },
    **{
        f"can: {name}": packed({"v": 1, "op": "can", "request": tap(**how)})
        for name, how in TAP_CHANGES.items()
    },
    "can with a version in it": packed({"v": 1, "op": "can", "request": tap(v=1)}),
    "can about can about a tap": packed(
        {"v": 1, "op": "can", "request": {"op": "can", "request": tap()}}
    ),
    "can about list": packed({"v": 1, "op": "can", "request": {"op": "list"}}),
    "can about delete": packed(
        {"v": 1, "op": "can", "request": {"op": "delete", "interface": "bfp0"}}
    ),
    "a list with a key": packed({"v": 1, "op": "list", "bridge": "br0"}),
    "a deletion of nothing": packed({"v": 1, "op": "delete"}),
    "a deletion of 16 bytes": packed({"v": 1, "op": "delete", "interface": "x" * 16}),
    "a deletion of bytes": packed({"v": 1, "op": "delete", "interface": b"bfp0"}),
    "a deletion of a number": packed({"v": 1, "op": "delete", "interface": 7}),
    "a deletion of all": packed({"v": 1, "op": "delete", "interface": "bfp0", "all": True}),
}

BAD: Final[dict[str, bytes]] = {
    **CLAIMS,
    **NOT_MSGPACK,
    **WRONG_TYPES,
    **WRONG_KEYS,
    **WRONG_TAPS,
}
"""Everything that is answered with bad-request."""

FOREIGN_VERSIONS: Final[dict[str, bytes]] = {
    "version 0": packed({"v": 0, "op": "hello"}),
    "version 2": packed({"v": 2, "op": "hello", "new": 1}),
    "version 2^32-1": packed({"v": 2**32 - 1, "op": "hello"}),
}

UNKNOWN_OPS: Final[dict[str, bytes]] = {
    "an empty operation": packed({"v": 1, "op": ""}),
    "another operation": packed({"v": 1, "op": "revoke"}),
    "another case": packed({"v": 1, "op": "Hello"}),
    "NUL at the end": packed({"v": 1, "op": "hello\0"}),
    "4,000 letters": packed({"v": 1, "op": "x" * 4000}),
    "a newline": packed({"v": 1, "op": "x\n<0>forged line"}),
}


def padded_hello(length: int) -> bytes:
    """Return a packet of exactly *length* bytes that is right but for one unknown key."""
    head = raw_map(V, OP, (packed("pad"), b""))
    room = length - len(head) - 3
    return head + b"\xda" + struct.pack(">H", room) + b"x" * room
