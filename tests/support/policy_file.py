# SPDX-License-Identifier: LGPL-2.1-or-later
"""The end of a ``PolicyFile`` that a test made; in the helper, it ends with the process."""

import os
from threading import Event

from bpferry_helper.policy.current import PolicyFile

END_S = 20.0


def end(file: PolicyFile) -> None:
    """Let the thread of *file* finish all that it has to do, then close the eventfd.

    The thread writes into that after each job, when the job's result can be seen already. By then
    the number may be that of another test's socket.
    """
    is_done = Event()
    file._submit(is_done.set)
    assert is_done.wait(END_S)
    os.close(file.wake_fd)
