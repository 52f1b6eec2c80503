# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every bound of the wire, with its unit and where it comes from."""

from typing import Final

PROTOCOL_VERSION: Final = 1
"""The value of ``v`` in each packet. Another value is answered with ``unsupported-version``."""

MAX_REQUEST_BYTES: Final = 4096
"""One request, in bytes. The longest known one needs 483; a page leaves room for growth."""

MAX_REPLY_BYTES: Final = 163_840
"""One reply, in bytes.

Below net.core.wmem_default (212,992 bytes on Linux), which bounds a SOCK_SEQPACKET packet, and
above a ``status`` of MAX_STATUS_GRANTS grants and a ``list`` of MAX_TAPS taps.
"""

MAX_QUEUES: Final = 64
"""Queues of one tap, each an fd. The kernel allows 256 (MAX_TAP_QUEUES, drivers/net/tun.c), but a
reply that nobody reads keeps its fds open, and those of all replies share one limit."""

MAX_FDS_PER_REPLY: Final = MAX_QUEUES
"""File descriptors in one reply. The kernel's own bound is 253 (SCM_MAX_FD, include/net/scm.h);
the "rss" object needs four."""

MAX_INTERFACE_BYTES: Final = 15
"""The name of a bridge or tap: IFNAMSIZ of linux/if.h without the closing NUL."""

MAX_NETWORK_BYTES: Final = 64
"""The name of a network, which policy maps to a bridge: NAME, or NAME/GROUP."""

MAC_BYTES: Final = 6
"""ETH_ALEN of linux/if_ether.h."""

MIN_VLAN: Final = 1
MAX_VLAN: Final = 4094
"""IEEE 802.1Q: 0 and 4095 are no VLANs."""

MAX_TAGGED_VLANS: Final = 64
"""Of one tap. If policy has address-lock, each is an entry in the bridge's table of addresses."""

MIN_RATE: Final = 1000
MAX_RATE: Final = 0xFFFF_FFFF
"""Bytes per second: libvirt's unit, and what fits into struct tc_ratespec (linux/pkt_sched.h)."""

MIN_BURST: Final = 131_072
MAX_BURST: Final = 0xFFFF_FFFF
"""Bytes. A frame of a tap has up to 64 KiB, more if the kernel counts the headers of its segments;
one that is larger than the burst would never pass."""

MIN_MTU: Final = 68
MAX_MTU: Final = 65_521
"""Bytes: ETH_MIN_MTU of linux/if_ether.h, and the maximum of a tap (MAX_MTU, tun.c)."""

MAX_DEPTH: Final = 4
"""Levels of nesting: packet, ``ok``, a list in it, an entry of that list."""

MAX_ITEMS: Final = 4096
"""Entries of one list or map."""

MAX_TEXT_BYTES: Final = 4096
"""One string, in bytes of UTF-8. Error hints are the longest."""

MAX_OBJECT_ID_BYTES: Final = 64
"""The id of an eBPF object, in bytes: QAPI enumeration values are short ASCII words ("rss")."""

DIGEST_BYTES: Final = 32
"""A SHA-256 digest, in bytes (FIPS 180-4)."""

MAX_NAME_BYTES: Final = 128
"""The name of a program or a map in the ELF file, in bytes."""

MAX_VM_NAME_BYTES: Final = 32
"""The name of a VM: as long as bpferry's commands take one. It has to fit into the alias of a tap
(IFALIASZ, linux/if.h: 256) beside all else, and MAX_STATUS_GRANTS of them into a ``status``."""

MAX_GIDS_SHOWN: Final = 256
"""Group ids that ``hello`` lists. A process may have 65,536 (NGROUPS_MAX, linux/limits.h)."""

MAX_STATUS_GRANTS: Final = 1024
"""Grants that ``status`` lists, and so the most that policy can allow in total."""

MAX_TAPS: Final = MAX_STATUS_GRANTS
"""Taps that ``list`` names, and so the most that policy can allow one user, or all together."""

UINT32_MAX: Final = 0xFFFF_FFFF
"""uids, gids, and the __u32 fields of struct bpf_map_info (linux/bpf.h)."""

UINT64_MAX: Final = 0xFFFF_FFFF_FFFF_FFFF
"""Seconds and counters."""
