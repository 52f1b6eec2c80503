# SPDX-License-Identifier: LGPL-2.1-or-later
"""Work that may take seconds, such as that of a helper or of a slow disk.

The threads of asyncio are waited for when the event loop ends, so a VM whose helper does not answer
would end late. The threads here are not; what they bring then is given back.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T], give_back: Callable[[T], object]) -> T:
    """Return what *work* returns, done in a thread of its own.

    If nobody waits for it any more, *give_back* gets what it has returned.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def deliver(found: T) -> None:
        if future.done():
            give_back(found)
        else:
            future.set_result(found)

    def fail(error: BaseException) -> None:
        if not future.done():
            future.set_exception(error)

    def run() -> None:
        try:
            found = work()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            # The loop may be closed: then nobody waits for it.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(fail, error)
            return
        try:
            loop.call_soon_threadsafe(deliver, found)
        except RuntimeError:
            give_back(found)

    threading.Thread(target=run, name="hot-plug", daemon=True).start()
    return await future
