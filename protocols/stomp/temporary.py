"""Temporary queues and topics: a connection's own, by names that it gives them.

``/temp-queue/NAME`` is a queue in memory under a name that nobody can guess, declared when the
connection first uses it and deleted with the connection. Others know it by ``reply-to``. A
temporary topic is a topic of such a name. Where the dialect has it so, naming one in ``reply-to``
subscribes to it as well.
"""

from typing import TYPE_CHECKING, Final

from ...broker.access import SYSTEM
from ...broker.errors import BraidError, LimitExceeded
from ...broker.settings import QueueSettings
from ...storage.log import Durability
from .destinations import (
    TEMPORARY_QUEUE_PREFIX,
    TEMPORARY_TOPIC_PREFIX,
    Queue,
    TempQueue,
    TempTopic,
    Topic,
    address,
)
from .server import EPOCH_TAG

if TYPE_CHECKING:
    from .session import StompSession

__all__ = ["TEMPORARY_MAX", "Temporary"]

TEMPORARY_MAX: Final = 256  # queues and topics of one connection


class Temporary:
    """The temporary destinations of one connection. Part of a session, which owns it."""

    def __init__(self, session: "StompSession") -> None:
        self._session = session
        self._found: dict[TempQueue | TempTopic, Queue | Topic] = {}

    def resolve(self, target: TempQueue | TempTopic) -> Queue | Topic:
        """What the client's name stands for; made if it is new. Raises BraidError."""
        found = self._found.get(target)
        if found is not None:
            return found
        if len(self._found) >= TEMPORARY_MAX:
            raise LimitExceeded(f"a connection has at most {TEMPORARY_MAX} temporary destinations")
        session = self._session
        name = session.server.new_id()
        if isinstance(target, TempTopic):
            found = Topic(TEMPORARY_TOPIC_PREFIX + name)
        else:
            found = Queue(TEMPORARY_QUEUE_PREFIX + name)
            core = session.core
            settings = QueueSettings(
                durability=Durability.MEMORY, tags={EPOCH_TAG: str(core.epoch)}
            )
            core.declare_queue(session.who, found.name, settings, core.now_ms)
        self._found[target] = found
        return found

    def reply_address(self, target: TempQueue | TempTopic) -> str:
        """What others are told to answer to; the connection gets what comes there, if need be."""
        found = self.resolve(target)
        session = self._session
        if session.dialect.temporary_only_in_reply_to and isinstance(found, Queue):
            session.subscribing.receive_replies(f"/temp-queue/{target.name}", found)
        return address(found)

    def let_go(self, now_ms: int) -> None:
        """Delete the queues."""
        found, self._found = self._found, {}
        core = self._session.core
        for target in found.values():
            if isinstance(target, Queue) and target.name in core.queues and core.failed is None:
                try:
                    core.delete_queue(SYSTEM, target.name, False, now_ms)
                except BraidError:  # somebody made it a dead-letter queue: it is theirs now
                    continue
