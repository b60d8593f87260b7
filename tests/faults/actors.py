"""Clients that are busy at once, until a fault has happened."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, Protocol, TypeVar

__all__ = ["Actor", "act_until", "busy_until"]

Where = TypeVar("Where", contravariant=True)


class Actor(Protocol[Where]):
    """A client; ``where`` the broker listens, as its dialect wants to know that."""

    def run(self, where: Where, /) -> Coroutine[Any, Any, None]:
        """Be busy until the broker is gone."""

    def hang_up(self) -> None:
        """Go without a word, or see that the broker went."""


async def act_until(
    fault: Awaitable[None], clients: Sequence[Actor[Where]], where: Where, gone: type[Exception]
) -> None:
    """Let all clients be busy until the fault is over, then have them hang up.

    See :func:`busy_until`.
    """

    def hang_up() -> None:
        for client in clients:
            client.hang_up()

    await busy_until(fault, [client.run(where) for client in clients], gone, hang_up)


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
