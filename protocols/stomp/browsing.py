"""Browsers: subscriptions that show what is in a queue and leave it there.

The queue is read a page at a time, the next one when the last was sent. After the last message
comes a MESSAGE without a body that says ``browser:end``. What comes into the queue behind the place
that is shown is shown as well; what is in somebody's hands, or delayed, too.
"""

from typing import TYPE_CHECKING, Final

from ...broker.errors import BraidError
from ...broker.message import Browsed, Delivery
from .messages import Writer
from .sources import Source

if TYPE_CHECKING:
    from .session import StompSession
    from .subscribing import Subscription

__all__ = ["PAGE_MESSAGES", "BrowseSource"]

PAGE_MESSAGES: Final = 16  # bodies may be large


class BrowseSource(Source):
    """A queue that is looked at."""

    def __init__(
        self,
        session: "StompSession",
        subscription: "Subscription",
        writer: Writer,
        name: str,
        selector: str,
    ) -> None:
        super().__init__(session, subscription, writer)
        writer.read_queue(name)
        self._name = name
        self._selector = selector
        self._after = 0
        self._asked = False
        self._is_over = False

    def pump(self, now_ms: int) -> None:
        if self._asked or self._is_over:
            return
        session = self.session
        self._asked = True
        try:
            session.core.browse(
                session.who,
                self._name,
                self._after,
                min(PAGE_MESSAGES, session.limits.browse_messages_max),
                self._selector,
                "all",
                self._on_browsed,
                None,
            )
        except BraidError as error:  # the queue was deleted, or the right was taken away
            session.fail_with(error)

    def _on_browsed(self, argument: object, found: list[Browsed] | BraidError) -> None:
        session = self.session
        self._asked = False
        if self._is_over or not session.is_open:
            return
        if isinstance(found, BraidError):
            session.fail_with(found)
        elif found:
            for each in found:
                self._after = each.seq
                delivery = Delivery(
                    each.seq,
                    0,
                    each.receives,
                    each.id,
                    each.time_ms,
                    each.attributes,
                    each.body,
                    each.expire_ms,
                )
                self.writer.append(delivery, 0, session.core.now_ms)
            session.subscribing.look_at(self)
        else:
            self._is_over = True
            headers = [
                ("destination", self.writer.destination),
                ("message-id", f"{session.id}-{self.subscription.number}-end"),
                ("subscription", self.writer.subscription),
                ("browser", "end"),
            ]
            session.send("MESSAGE", [pair for pair in headers if pair[1]])
        session.wake()

    def close(self, now_ms: int) -> None:
        self._is_over = True
