"""Following a stream: all its shards, read on and on from a place that a :class:`Start` names.

What a subscription to a stream is in any dialect. Where a time falls in a shard may have to be
looked for on disk, so the reading begins a moment later; who is gone by then gets nothing.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from .errors import BraidError
from .streamverbs import Start

if TYPE_CHECKING:
    from .access import Principal
    from .streamcore import StreamCore
    from .tail import Tail, TailSink

__all__ = ["Following"]


class Following:
    """A stream that is followed.

    Args:
        credit: how many bytes of blocks may come before the first :meth:`grant`.
        sink: gets what is read.
        failed: is told why it cannot begin, when that shows only after :meth:`begin`.
    """

    __slots__ = (
        "_core",
        "_credit",
        "_failed",
        "_is_over",
        "_name",
        "_sink",
        "_starts",
        "_tail",
        "_who",
    )

    def __init__(
        self,
        core: "StreamCore",
        who: "Principal",
        name: str,
        credit: int,
        sink: "TailSink",
        failed: Callable[[BraidError], None],
    ) -> None:
        self._core = core
        self._who = who
        self._name = name
        self._credit = credit
        self._sink = sink
        self._failed = failed
        self._starts: dict[int, int] = {}
        self._tail: Tail | None = None
        self._is_over = False

    def begin(self, start: Start) -> None:
        """Read from ``start`` on. Raises NotFound, PermissionDenied, BrokerFailed."""
        core = self._core
        self._who.check("stream:Read", self._name)
        stream = core.streams.get(self._name)
        if start.kind == "time":
            self._starts = dict.fromkeys(stream.shards, -1)
            for index in list(stream.shards):
                core.find_number(self._who, self._name, index, start, self._on_number, index)
            return
        if start.kind == "latest":
            self._starts = {shard.index: shard.readable() for shard in stream.open}
        else:
            self._starts = dict.fromkeys(stream.shards, 0)
        self._open()

    def _on_number(self, index: object, number: int | BraidError) -> None:
        assert isinstance(index, int)
        if self._is_over:
            return
        if isinstance(number, BraidError):
            self._fail(number)
            return
        self._starts[index] = number
        if -1 not in self._starts.values():
            try:
                self._open()
            except BraidError as error:  # the stream was deleted meanwhile
                self._fail(error)

    def _fail(self, error: BraidError) -> None:
        self._is_over = True
        self._failed(error)

    def _open(self) -> None:
        self._tail = self._core.tail_shards(
            self._who, self._name, self._starts, self._credit, True, False, self._sink, None
        )

    def grant(self, size: int) -> None:
        """Blocks of so many bytes were used up: as many more may come."""
        assert self._tail is not None
        self._tail.grant(size)

    def close(self) -> None:
        """Read nothing more."""
        self._is_over = True
        if self._tail is not None:
            self._tail.close()
