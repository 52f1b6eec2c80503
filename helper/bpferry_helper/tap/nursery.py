# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where taps are created: our own network namespace, in which no stranger can attach to them.

From its first queue on, a tap belongs to this helper's uid, so nobody else can attach to it when it
moves. The move costs the kernel two RCU grace periods (net/core/dev.c,
netif_change_net_namespace), ten times as much as everything else. So a few spare taps of the size
that was last asked for are kept on the host: down, on no bridge, and ours. Each is given out once.
They go away when this process ends.
"""

import errno
import os
from threading import Condition, Thread
from typing import Final, NamedTuple

from bpferry_helper.errors import RequestError
from bpferry_helper.log import WARNING, log
from bpferry_helper.policy.rules import DEFAULT_TX_QUEUE_LENGTH
from bpferry_helper.tap.link_codec import Attributes
from bpferry_helper.tap.links import GONE, Links
from bpferry_helper.tap.marks import (
    CREATED_PREFIX,
    GRANTED_PREFIX,
    SPARE_ALIAS,
    new_index,
    new_name,
)
from bpferry_helper.tap.netlink import LinkError, Netlink
from bpferry_helper.tap.tun import make_queues
from bpferry_wire.fds import OwnedFds

SPARES: Final = 2
"""How many are kept. A VM with more cards gets the first ones sooner than the others."""

PAUSE_S: Final = 0.2
"""Before another is made while one is left. Moving it holds the RTNL lock for some 20 ms, and who
just got a tap needs that lock too: the client to look at its tap, QEMU to set it up."""

SPARE_IS_GONE: Final = errno.EAGAIN
"""Which the kernel never answers to a message about links."""


class Newborn(NamedTuple):
    """A tap that is on no bridge yet. The holder of this owns the fds."""

    name: str
    ifindex: int
    """In the namespace where it is now."""
    is_spare: bool
    """It is already on the host."""
    fds: OwnedFds


class SpareIsGone(LinkError):  # noqa: N818
    """Somebody deleted a spare tap; another one will do."""


class Nursery:
    """Makes taps and moves them. Safe to use from several threads."""

    def __init__(self, host: Netlink, own: Netlink) -> None:
        """Borrow sockets to the *host*'s network namespace and to our *own*."""
        self._host = Links(host)
        self._own = Links(own)
        self._namespace = host.namespace()
        self._spares: list[Newborn] = []
        self._wanted = 0
        """Queues of the spares; 0 until somebody has asked for a tap."""
        self._changed = Condition()
        Thread(target=self._keep_spares, name="nursery", daemon=True).start()

    def take(self, queues: int, *, stays: bool) -> Newborn:
        """Return a tap with *queues*, a spare if there is one. One that *stays* is never a spare.

        Raises:
            RequestError, LinkError: it cannot be made.
        """
        if stays:
            return self._bear(CREATED_PREFIX, queues)
        with self._changed:
            fits = self._wanted == queues and bool(self._spares)
            spare = self._spares.pop(0) if fits else None
        return spare or self._bear(GRANTED_PREFIX, queues)

    def refill(self, queues: int) -> None:
        """Keep spares with *queues* from now on, when the request is done."""
        with self._changed:
            self._wanted = queues
            self._changed.notify()

    def forget_spares(self) -> None:
        """Close the spares, and let new ones be made after the next tap."""
        with self._changed:
            spares, self._spares, self._wanted = self._spares, [], 0
        for spare in spares:
            spare.fds.close()

    def give(self, newborn: Newborn, attributes: Attributes, *, up: bool) -> None:
        """Bring *newborn* to the host with *attributes*, in one message; set it up if *up*.

        Raises:
            LinkError: that failed; SpareIsGone, if it is worth another try.
        """
        if newborn.is_spare:
            self._set_spare(newborn.name, attributes, up=up)
        else:
            self._own.give(newborn.ifindex, self._namespace.borrow(), attributes, up=up)

    def _set_spare(self, name: str, attributes: Attributes, *, up: bool) -> None:
        try:
            self._host.set_named(name, attributes, up=up)
        except LinkError as error:
            if error.errno not in GONE:
                raise
            raise SpareIsGone(f"the spare tap '{name}' was deleted", SPARE_IS_GONE) from error

    def _bear(self, prefix: str, queues: int) -> Newborn:
        name = new_name(prefix)
        fds = make_queues(name, new_index(), queues, os.getuid())
        try:
            index = self._own.expect(name).ifindex
            self._own.set_queue_length(index, DEFAULT_TX_QUEUE_LENGTH)
        except BaseException:
            fds.close()
            raise
        return Newborn(name, index, is_spare=False, fds=fds)

    def _keep_spares(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._needs_work)
                self._changed.wait_for(lambda: not self._fitting(), PAUSE_S)
                wanted = self._wanted
                odd = [spare for spare in self._spares if len(spare.fds) != wanted]
                self._spares = [spare for spare in self._spares if len(spare.fds) == wanted]
            for spare in odd:
                spare.fds.close()
            if wanted:
                self._add_spare(wanted)

    def _needs_work(self) -> bool:
        return self._wanted > 0 and self._fitting() < SPARES

    def _fitting(self) -> int:
        return sum(len(spare.fds) == self._wanted for spare in self._spares)

    def _add_spare(self, queues: int) -> None:
        """Make another spare; if that fails, stop until somebody asks for a tap."""
        try:
            spare = self._send_ahead(self._bear(GRANTED_PREFIX, queues))
        except (RequestError, LinkError) as error:
            log(WARNING, f"cannot keep a spare tap: {error}, ignoring")
            with self._changed:
                self._wanted = 0
            return
        with self._changed:
            self._spares.append(spare)

    def _send_ahead(self, newborn: Newborn) -> Newborn:
        try:
            self.give(newborn, [("IFLA_IFALIAS", SPARE_ALIAS)], up=False)
            index = self._host.expect(newborn.name).ifindex
        except BaseException:
            newborn.fds.close()
            raise
        return newborn._replace(ifindex=index, is_spare=True)
