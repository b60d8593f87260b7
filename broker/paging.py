"""Lists that come a page at a time, read as one.

Pages are in the order of their entries' names, and each is asked for by the last name of the one
before. So what is made or deleted meanwhile may be in the list or not, but nothing comes twice, and
nothing is left out that was there all the while.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, TypeVar

__all__ = ["PAGE_ENTRIES", "paged"]

PAGE_ENTRIES: Final = 1_000  # asked for at a time: as many as a broker gives

T = TypeVar("T")


async def paged(
    page_of: Callable[[str, int], Awaitable[Sequence[T]]], name_of: Callable[[T], str]
) -> AsyncIterator[T]:
    """All entries of a list, by ``page_of(after, limit)``. Raises what that raises."""
    after = ""
    while True:
        page = await page_of(after, PAGE_ENTRIES)
        for entry in page:
            yield entry
        if len(page) < PAGE_ENTRIES:
            return
        after = name_of(page[-1])
