"""A consumer at the client's end, which outlives the connections it is on.

Credit is counted here: what the broker may still send is what it may send on the next connection,
and so is what came but was not handed out, because the broker has that back.
"""

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from ...broker.errors import BraidError, Disconnected
from ...broker.lease import Exclusivity
from ...broker.message import Delivery, Receipt
from ...broker.publishing import Published
from ...broker.verbs import Interest
from .operations import OPERATIONS, Event

if TYPE_CHECKING:
    import asyncio

__all__ = ["Holder", "RemoteConsumption", "RemoteFlow", "RemoteSubscription", "Wire"]

D = TypeVar("D")

_CONSUME = OPERATIONS["CONSUME"]
_CREDIT = OPERATIONS["CREDIT"]
_CANCEL = OPERATIONS["CANCEL"]
_SUBSCRIBE = OPERATIONS["SUBSCRIBE"]


class Wire(Protocol):
    """The connection, as far as a consumer uses it."""

    pending: "dict[int, asyncio.Future[Any]]"
    consumers: "dict[int, RemoteFlow[Any]]"
    lost: "asyncio.Future[None]"

    def new_request(self) -> int:
        """A request number that is free."""

    def send(self, message: object) -> None:
        """Have a frame written."""

    def call(self, operation: int, *fields: object) -> "asyncio.Future[Any]":
        """Send a request; what is returned gets the reply."""

    async def poll(self, operation: int, *fields: object) -> Any:
        """A call that may wait at the broker, which is told when nobody waits any more."""


class Holder(Protocol):
    """The client, as far as a consumer uses it."""

    loop: "asyncio.AbstractEventLoop"
    resumes: bool

    def forget(self, consumption: "RemoteFlow[Any]") -> None:
        """A consumer has ended."""


class RemoteFlow(Generic[D]):
    """Messages pushed on whatever connection there is."""

    def __init__(self, client: Holder, credit: int) -> None:
        self.opened: asyncio.Future[Any] = client.loop.create_future()
        self._client = client
        self._loop = client.loop
        self._unused = credit  # what the broker may still send
        self._ready: deque[D] = deque()
        self._error: BraidError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._wire: Wire | None = None
        self._request = 0

    def _opening(self, credit: int) -> tuple[object, ...]:
        """The request that begins it: operation, and the fields after the request number."""
        raise NotImplementedError

    def attach(self, wire: Wire) -> None:
        """Begin on this connection, with all the credit that nobody will use on another."""
        request = self._request = wire.new_request()
        self._wire = wire
        self.opened = wire.pending[request] = self._loop.create_future()
        self.opened.add_done_callback(self._on_opened)
        wire.consumers[request] = self
        operation, *fields = self._opening(self._unused)
        wire.send((operation, request, *fields))

    def detach(self) -> None:
        """The connection is gone, and with it all that was not handed out."""
        self._wire = None
        self._unused += len(self._ready)
        self._ready.clear()
        if not self._client.resumes:
            self.end(Disconnected("the connection is gone"))

    def _on_opened(self, opened: "asyncio.Future[Any]") -> None:
        if opened.cancelled():
            return
        error = opened.exception()
        if isinstance(error, BraidError) and not isinstance(error, Disconnected):
            self.end(error)

    def take(self, reply: Any) -> None:
        """What came for it, in a reply of its own kind."""
        raise NotImplementedError

    def put(self, deliveries: Sequence[D]) -> None:
        self._unused -= len(deliveries)
        self._ready.extend(deliveries)
        self._wake()

    def end(self, error: BraidError) -> None:
        self._error = error
        self._client.forget(self)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self) -> list[D]:
        """The next message. One at a time, so that few are out of date when a connection ends."""
        while not self._ready:
            if self._error is not None:
                raise self._error
            self._waiter = self._loop.create_future()
            await self._waiter
        return [self._ready.popleft()]

    def credit(self, count: int) -> None:
        """Allow ``count`` more messages."""
        self._unused += count
        if self._wire is not None and self._error is None:
            self._wire.send((_CREDIT, self._request, count))

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        self._client.forget(self)
        if self._wire is not None and self._error is None:
            self._wire.send((_CANCEL, self._wire.new_request(), self._request, []))

    async def _stop(self, unprocessed: list[Receipt]) -> None:
        """End it; nobody looked at what is ``unprocessed``."""
        self._client.forget(self)
        wire = self._wire
        if self._error is None and wire is not None and not wire.lost.done():
            self._error = Disconnected("this consumer was closed")
            self._ready.clear()
            try:
                await wire.call(_CANCEL, self._request, unprocessed)
            except Disconnected:
                pass  # then all of it went back
            wire.consumers.pop(self._request, None)


class RemoteConsumption(RemoteFlow[Delivery]):
    """A CONSUME that outlives the connection it is on. See ``Consumption``."""

    def __init__(
        self,
        client: Holder,
        queue: str,
        credit: int,
        selector: str,
        priority: int,
        exclusive: Exclusivity,
    ) -> None:
        super().__init__(client, credit)
        self.queue = queue
        self._wishes = selector, priority, exclusive

    def _opening(self, credit: int) -> tuple[object, ...]:
        return _CONSUME, self.queue, credit, *self._wishes

    async def close(self, unprocessed: Sequence[Receipt] = ()) -> None:
        """Stop; what is held goes back."""
        await self._stop([*unprocessed, *(delivery.receipt for delivery in self._ready)])


class RemoteSubscription(RemoteFlow[Published]):
    """A SUBSCRIBE that outlives the connection it is on. See ``TopicConsumption``."""

    def __init__(self, client: Holder, interest: Interest, credit: int) -> None:
        super().__init__(client, credit)
        self._interest = interest
        self._dropped = 0  # on this connection
        self._dropped_before = 0
        self.resumed = False

    @property
    def dropped(self) -> int:
        """How many live messages found no room, as far as the broker told."""
        return self._dropped_before + self._dropped

    def _opening(self, credit: int) -> tuple[object, ...]:
        self._dropped_before, self._dropped = self.dropped, 0
        i = self._interest
        return _SUBSCRIBE, i.filters, credit, i.durable, i.share, i.expiry_ms, i.retained

    def take(self, reply: Event) -> None:
        """Messages came, and how many were dropped since the subscription began."""
        self._dropped = reply.dropped
        self.put(reply.messages)

    async def close(self, unprocessed: Sequence[Published] = ()) -> None:
        """Stop; what is held goes back."""
        ready = [message.receipt for message in (*unprocessed, *self._ready) if message.queue]
        await self._stop(ready)
