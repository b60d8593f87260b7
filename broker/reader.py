"""Reading a queue's messages back from the log, without ever waiting.

What is in memory is decoded at once. What is not is asked for, and the owner is called when it
has come; meanwhile its queue rests. One extent (256 KiB of log) usually serves many messages.
"""

from collections.abc import Callable

from ..storage.errors import StorageError
from ..storage.log import Extent, Log
from ..storage.record import MessageRecord, decode_link, decode_message, record_length
from .message import overlay

__all__ = ["Reader"]


class Reader:
    """Reads messages of one queue, one after the other.

    Attributes:
        loading: a read is under way; nothing else is read until ``loaded(error)`` was called.
    """

    __slots__ = ("_extent", "_loaded", "_log", "loading")

    def __init__(self, log: Log, loaded: Callable[[StorageError | None], None]) -> None:
        self._log = log
        self._loaded = loaded
        self._extent: Extent | None = None
        self.loading = False

    def read(self, lsn: int, link_lsn: int) -> MessageRecord | None:
        """The message at ``lsn``, or None: then it is being read and ``loaded`` will be called.

        A message that came by a link carries the link's headers over its own, and no expiry.
        """
        extent = self._find(lsn)
        if extent is None:
            self._fetch(lsn)
            return None
        message = decode_message(extent.buffer, lsn - extent.start, lsn)
        if link_lsn:
            extent = self._log.get(link_lsn)
            if extent is None:
                self._fetch(link_lsn)
                return None
            link = decode_link(extent.buffer, link_lsn - extent.start, link_lsn)
            message.attributes = overlay(message.attributes, link.attributes)
            message.expire_ms = 0
            message.due_ms = link.time_ms
        return message

    def time_ms(self, lsn: int) -> int:
        """When the message at ``lsn`` was sent, or 0 when it is not in memory."""
        extent = self._find(lsn)
        return decode_message(extent.buffer, lsn - extent.start, lsn).time_ms if extent else 0

    def _find(self, lsn: int) -> Extent | None:
        extent = self._extent
        if extent is not None and extent.start <= lsn < extent.end:
            at = lsn - extent.start
            left = len(extent.buffer) - at
            if left >= 8 and record_length(extent.buffer, at) <= left:
                return extent
        extent = self._log.get(lsn)
        if extent is not None:
            self._extent = extent
        return extent

    def _fetch(self, lsn: int) -> None:
        self.loading = True
        self._log.fetch(lsn, self._fetched, lsn)

    def _fetched(self, lsn: object, extent: Extent | None, error: StorageError | None) -> None:
        self.loading = False
        if extent is not None and extent.start == lsn:
            self._extent = extent
        self._loaded(error)
