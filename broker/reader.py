"""Reading a queue's messages back from the log, without ever waiting.

What is in memory is decoded at once. What is not is asked for, and the owner is called when it
has come; meanwhile its queue rests. One extent (a frame, or 256 KiB of log) usually serves many
messages.
"""

from collections.abc import Callable

from ..storage.errors import Corrupt, StorageError
from ..storage.log import Extent, Log
from ..storage.record import LINK, MESSAGE, MessageContent, decode_content, decode_link
from .message import overlay

__all__ = ["Reader"]

_NOWHERE = Extent(0, 0, b"")


class Reader:
    """Reads messages of one queue, one after the other.

    Attributes:
        loading: a read is under way; nothing else is read until ``loaded(error)`` was called.
        renews: what came by a link lives anew, as a dead letter does.
    """

    __slots__ = ("_extent", "_link_extent", "_loaded", "_log", "loading", "renews")

    def __init__(self, log: Log, loaded: Callable[[StorageError | None], None]) -> None:
        self._log = log
        self._loaded = loaded
        # What was read last, kept until it is used: the log's cache may be too small for both.
        self._extent = _NOWHERE
        self._link_extent = _NOWHERE
        self.loading = False
        self.renews = True

    def read(self, lsn: int, link_lsn: int = 0, retention_ms: int = 0) -> MessageContent | None:
        """The message at ``lsn``, or None: then it is being read and ``loaded`` will be called.

        ``expire_ms`` says when it ends, by its own time to live or by ``retention_ms`` since it
        came. One that came by a link carries the link's headers over its own.
        """
        extent = self._extent
        if not extent.start <= lsn < extent.end:
            found = self._log.get(lsn)
            if found is None:
                self._fetch(lsn)
                return None
            self._extent = extent = found
        at = lsn - extent.start
        if extent.buffer[at + 8] != MESSAGE:
            self._refuse(lsn)
            return None
        message = decode_content(extent.buffer, at, lsn)
        came_ms = message.time_ms
        if link_lsn:
            extent = self._link_extent
            if not extent.start <= link_lsn < extent.end:
                found = self._log.get(link_lsn)
                if found is None:
                    self._fetch(link_lsn, True)
                    return None
                self._link_extent = extent = found
            at = link_lsn - extent.start
            if extent.buffer[at + 8] != LINK:
                self._refuse(link_lsn)
                return None
            link = decode_link(extent.buffer, at, link_lsn)
            message.attributes = overlay(message.attributes, link.attributes)
            came_ms = link.time_ms
            if self.renews:
                message.expire_ms = 0
        if retention_ms:
            end_ms = came_ms + retention_ms
            message.expire_ms = min(message.expire_ms or end_ms, end_ms)
        return message

    def at_hand(self, lsn: int) -> MessageContent | None:
        """The message at ``lsn`` as it was sent; None, and nothing happens, if it takes more."""
        extent = self._extent
        if not extent.start <= lsn < extent.end:
            found = self._log.get(lsn)
            if found is None:
                return None
            self._extent = extent = found
        at = lsn - extent.start
        if extent.buffer[at + 8] != MESSAGE:
            return None
        return decode_content(extent.buffer, at, lsn)

    def rest(self) -> None:
        """Nothing more is to be read for now: hold no memory."""
        if not self.loading:
            self._extent = self._link_extent = _NOWHERE

    def time_ms(self, lsn: int) -> int:
        """When the message at ``lsn`` was sent, or 0 when it is not in memory."""
        message = self.peek(lsn)
        return message.time_ms if message is not None else 0

    def peek(self, lsn: int) -> MessageContent | None:
        """The message at ``lsn`` as it was sent, or None when it is not in memory."""
        extent = self._log.get(lsn)
        if extent is None or extent.buffer[lsn - extent.start + 8] != MESSAGE:
            return None
        return decode_content(extent.buffer, lsn - extent.start, lsn)

    def _fetch(self, lsn: int, link: bool = False) -> None:
        self.loading = True
        self._log.fetch(lsn, self._fetched, link)

    def _fetched(self, link: object, extent: Extent | None, error: StorageError | None) -> None:
        self.loading = False
        if extent is not None and link:
            self._link_extent = extent
        elif extent is not None:
            self._extent = extent
        self._loaded(error)

    def _refuse(self, lsn: int) -> None:
        """An intact record stands there, but of another kind: say so as if it could not be read."""
        self.loading = True
        self._log.fetch(lsn, self._refused, lsn)

    def _refused(self, lsn: object, extent: Extent | None, error: StorageError | None) -> None:
        assert isinstance(lsn, int)
        self.loading = False
        self.rest()
        self._loaded(error or Corrupt(lsn, "a record of another kind stands there"))
