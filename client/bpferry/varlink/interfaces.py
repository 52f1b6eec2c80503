# SPDX-License-Identifier: LGPL-2.1-or-later
"""What can be called, in varlink's interface language.

Parameters are those of the wire's requests; addresses and digests are text. ``calls`` has the code.
"""

from typing import Final

from bpferry_wire.errors import Code

PORT: Final = """\
  bridge: ?string,
  network: ?string,
  queues: int,
  mtu: ?int,
  mac: ?string,
  isolated: ?bool,
  vlan: ?int,
  tagged: ?[]int,
  bandwidth: ?Bandwidth,
  vm: ?string
"""
"""A tap, as it is asked for; exactly one of its bridge and its network is named."""

QUOTA: Final = """\
# How much do I hold, and how much may I hold?
method Quota() -> (
  held: int,
  allowed: int,
  held_by_all: int,
  allowed_to_all: int,
  counted_by: string
)
"""

NOT_ON_THE_WIRE: Final = ("NoHelper", "NotInGroup")
"""What can be wrong before a helper answers."""


def error_name(code: str) -> str:
    """Return the name of the error with the *code* of the wire or of the client."""
    name = "".join(word.capitalize() for word in code.split("-"))
    return name if name in ERROR_NAMES else "Failed"


CALLERS_FAULT: Final = (Code.BAD_REQUEST, Code.UNSUPPORTED_VERSION, Code.UNKNOWN_OP)
"""Varlink has errors of its own for these."""

ERROR_NAMES: Final = (
    *("".join(word.capitalize() for word in code.split("-")) for code in Code
      if code not in CALLERS_FAULT),
    *NOT_ON_THE_WIRE,
)  # fmt: skip

ERRORS: Final = "\n".join(f"error {name} (message: string, hint: string)" for name in ERROR_NAMES)

TAP: Final = f"""\
# Taps with several queues on the host's bridges.
interface io.bpferry.Tap

# Bytes per second, and the bytes that may pass faster than that.
type Rate (average: int, peak: ?int, burst: ?int)

# To the VM, and from it.
type Bandwidth (inbound: ?Rate, outbound: ?Rate)

type OwnTap (
  interface: string,
  bridge: string,
  queues: int,
  made_with: int,
  stays: bool,
  closed: bool,
  inbound: ?int,
  outbound: ?int
)

# Make a tap. One fd for each queue comes with the reply, and the tap goes with the last of them.
method Make(
{PORT}) -> (interface: string, bridge: string, mtu: int)

# Make a tap that stays and belongs to the caller. No fd comes with the reply.
method Create(
{PORT}) -> (interface: string, bridge: string, mtu: int)

# May I have such a tap? Nothing is made. The code is that of the error, or empty.
method Can(
{PORT}) -> (allowed: bool, because: string, code: string)

# Which taps are mine?
method List() -> (taps: []OwnTap)

# Delete a tap of mine that stays.
method Delete(interface: string) -> (interface: string)

{QUOTA}
{ERRORS}
"""

BPF: Final = f"""\
# The eBPF objects that the host's QEMUs carry.
interface io.bpferry.Bpf

# Load an object. Its fds come with the reply: the programs, then the maps; 'names' is what they are
# called in the object. The digest is the SHA-256 of the ELF file, 64 hexadecimal digits.
# 'vm' is what the VM is called, for the host's administrator.
method Load(id: string, digest: string, vm: ?string) -> (names: []string)

# May I have this object? Nothing is loaded. The code is that of the error, or empty.
method Can(id: string, digest: string, vm: ?string) -> (
  allowed: bool,
  because: string,
  code: string
)

{QUOTA}
{ERRORS}
"""

SERVICE: Final = """\
# What this service is.
interface org.varlink.service

method GetInfo() -> (
  vendor: string,
  product: string,
  version: string,
  url: string,
  interfaces: []string
)

method GetInterfaceDescription(interface: string) -> (description: string)

error InterfaceNotFound (interface: string)

error MethodNotFound (method: string)

error MethodNotImplemented (method: string)

error InvalidParameter (parameter: string)

error PermissionDenied ()

error ExpectedMore ()
"""

DESCRIPTIONS: Final = {
    "org.varlink.service": SERVICE,
    "io.bpferry.Tap": TAP,
    "io.bpferry.Bpf": BPF,
}
