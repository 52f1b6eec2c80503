# SPDX-License-Identifier: LGPL-2.1-or-later
"""The stations on the bridge: the host and two guests."""

from typing import Final, NamedTuple

from guest.flows import Route

MTU: Final = 9000
"""Of the bridge and so of each tap; the guests get it too."""


class Station(NamedTuple):
    """One of them. The addresses are in the demonstration's own network namespace."""

    name: str
    ipv4: str
    """With its prefix length, like the next one."""
    ipv6: str
    mac: str = ""
    queues: int = 0
    """Of a guest's card; the guest has as many processors."""

    @property
    def addresses(self) -> tuple[str, str]:
        """Return both addresses without their prefixes."""
        return self.ipv4.partition("/")[0], self.ipv6.partition("/")[0]


HOST: Final = Station("host", "10.83.0.1/24", "fd83::1/64")
FIRST: Final = Station("guest-a", "10.83.0.2/24", "fd83::2/64", "52:54:00:83:00:02", queues=4)
"""The one whose steering is checked."""
SECOND: Final = Station("guest-b", "10.83.0.3/24", "fd83::3/64", "52:54:00:83:00:03", queues=2)

QUEUES: Final = FIRST.queues


def routes(source: Station, destination: Station) -> list[Route]:
    """Return the addresses to use, for each address family."""
    return [Route(s, d) for s, d in zip(source.addresses, destination.addresses, strict=True)]
