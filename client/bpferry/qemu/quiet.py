# SPDX-License-Identifier: LGPL-2.1-or-later
"""The QMP client of qemu.qmp, without its log of messages.

qemu.qmp 0.0.6 formats each message as indented text for its log, even if nobody logs. For a probe
that is half a megabyte of answers, and took Python as long as QEMU took to give them. The two
methods are the hooks that qemu.qmp has for classes such as this one.

Importing this module imports asyncio.
"""

from qemu.qmp import Message, QMPClient


class QuietClient(QMPClient):
    """Logs no message."""

    def _cb_outbound(self, msg: Message) -> Message:
        return msg

    def _cb_inbound(self, msg: Message) -> Message:
        return msg
