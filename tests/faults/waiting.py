"""Waiting for what must happen, however long a loaded machine takes for it."""

import asyncio
from collections.abc import Callable

__all__ = ["GUARD_SECONDS", "until"]

GUARD_SECONDS = 60.0  # a hang, not a measure


async def until(done: Callable[[], bool], seconds: float = GUARD_SECONDS) -> bool:
    """Wait until something is so; False: it never was."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not done():
        if loop.time() > end:
            return False
        await asyncio.sleep(0.01)
    return True
