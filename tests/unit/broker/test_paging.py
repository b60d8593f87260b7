"""Lists read page by page: whole, in order, nothing twice, whatever changes meanwhile."""

from bisect import bisect_right, insort

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.broker import paging
from braidmq.broker.errors import Disconnected
from braidmq.broker.paging import PAGE_ENTRIES, paged

NAMES = st.text("abc", min_size=1, max_size=3)


class Server:
    """A sorted list and its pages."""

    def __init__(self, names: list[str]) -> None:
        self.names = sorted(names)
        self.asked: list[str] = []

    async def page(self, after: str, limit: int) -> list[str]:
        self.asked.append(after)
        first = bisect_right(self.names, after)
        return self.names[first : first + limit]


@pytest.mark.parametrize("count", [0, 1, PAGE_ENTRIES - 1, PAGE_ENTRIES, 2 * PAGE_ENTRIES + 1])
async def test_all_pages_are_one_list(count):
    server = Server([f"{number:06}" for number in range(count)])
    assert [name async for name in paged(server.page, str)] == server.names
    assert len(server.asked) == count // PAGE_ENTRIES + 1


@given(st.sets(NAMES), st.lists(st.tuples(st.booleans(), NAMES)))
async def test_what_is_there_all_the_while_comes_once(names, changes):
    server = Server(list(names))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(paging, "PAGE_ENTRIES", 2)
        stays, found = set(names), []
        async for name in paged(server.page, str):
            found.append(name)
            for comes, other in changes[:1]:
                if comes and other not in server.names:
                    insort(server.names, other)
                elif not comes and other in server.names:
                    server.names.remove(other)
                    stays.discard(other)
            del changes[:1]
    assert found == sorted(set(found)) and stays <= set(found)


async def test_a_list_that_cannot_be_read_on_says_so():
    server = Server([f"{number:06}" for number in range(PAGE_ENTRIES + 1)])

    async def page(after, limit):
        if after:
            raise Disconnected("gone")
        return await server.page(after, limit)

    found = []
    with pytest.raises(Disconnected):
        async for name in paged(page, str):
            found.append(name)
    assert len(found) == PAGE_ENTRIES
