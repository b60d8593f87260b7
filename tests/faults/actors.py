"""Clients that are busy at once, until a fault has happened."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

__all__ = ["busy_until"]


async def busy_until(
    fault: Awaitable[None],
    behaviours: Iterable[Awaitable[None]],
    gone: type[Exception],
    hang_up: Callable[[], None],
) -> None:
    """Let all behave until the fault is over, then end them and ``hang_up``.

    Args:
        gone: what a behaviour may end by: its broker is not there any more.

    Raises:
        Exception: what else one of them has ended by.
    """
    actors = [asyncio.ensure_future(each) for each in behaviours]
    try:
        await fault
    finally:
        for actor in actors:
            actor.cancel()
        ended = await asyncio.gather(*actors, return_exceptions=True)
        hang_up()
    for outcome in ended:
        if isinstance(outcome, Exception) and not isinstance(outcome, gone):
            raise outcome
