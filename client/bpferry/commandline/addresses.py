# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which addresses of this host others can reach."""


def is_reachable(host: str) -> bool:
    """Say whether other hosts may reach what listens at *host*; empty means all addresses.

    A name may be that of any address, and counts as local, as 'localhost' is.
    """
    if not host:
        return True
    import ipaddress  # noqa: PLC0415 - takes 1 % of a start's time

    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
