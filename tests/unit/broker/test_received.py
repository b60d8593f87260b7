"""What was received is settled once, and gives room when it is."""

import asyncio

import pytest

from braidmq.broker.errors import BraidError, InvalidArgument
from braidmq.broker.message import Delivery
from braidmq.broker.received import Received, Reception, finish


class Verbs:
    def __init__(self):
        self.calls: list[tuple] = []
        self.result: BraidError | None = None

    async def ack(self, *fields):
        self.calls.append(("ack", *fields))
        return [self.result]

    async def nack(self, *fields):
        self.calls.append(("nack", *fields))
        return [self.result]


class Face:
    instance = 1

    def __init__(self):
        self.verbs = Verbs()


class Flow:
    """Gives one delivery after the other, and notes what it is told."""

    def __init__(self, count):
        self.left = list(range(1, count + 1))
        self.credits: list[int] = []
        self.closed = 0

    async def next(self):
        if not self.left:
            await asyncio.Event().wait()
        seq = self.left.pop(0)
        return [Delivery(seq, 7, 1, seq, 0, b"", b"%d" % seq)]

    def credit(self, count):
        self.credits.append(count)

    async def close(self):
        self.closed += 1


class Messages(Reception):
    def __init__(self, flow, prefetch=4):
        super().__init__(prefetch)
        self.flow, self.face = flow, Face()

    async def _start(self):
        return self.flow

    async def _stop(self):
        await self.flow.close()

    def _message(self, delivery):
        return Received(self.face, "q", delivery, self)  # type: ignore[arg-type]


async def test_room_is_made_for_what_was_settled():
    messages = Messages(Flow(4), prefetch=8)
    async with messages:
        async for message in messages:
            async with message:
                assert message.receipt == (int(message.body), 7)
            assert message.settled
            if not messages.flow.left:
                break
    assert messages.flow.credits == [2, 2]  # some at a time
    assert [call[:2] for call in messages.face.verbs.calls] == [("ack", "q")] * 4
    assert messages.flow.closed == 1


async def test_what_raises_gives_back_and_says_when_it_cannot():
    messages = Messages(Flow(2))
    messages.face.verbs.result = BraidError("gone")
    async with messages:
        stream = aiter(messages)
        with pytest.raises(ZeroDivisionError) as caught:
            async with await anext(stream):
                raise ZeroDivisionError
        assert caught.value.__notes__ == ["and the message could not be given back: gone"]
        assert messages.face.verbs.calls[0][0] == "nack"


async def test_a_closed_reception_is_not_opened_again():
    messages = Messages(Flow(1))
    async for _ in messages:
        break
    await messages.close()
    with pytest.raises(InvalidArgument, match="closed"):
        async with messages:
            pass
    with pytest.raises(InvalidArgument, match="prefetch"):
        Messages(Flow(1), prefetch=0)


async def test_finish_waits_for_the_end_even_when_cancelled():
    go, ended = asyncio.Event(), []

    async def work():
        await go.wait()
        ended.append(True)

    async def wait():
        await finish(asyncio.ensure_future(work()))

    waiting = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended
