"""Wills: what is published for clients that went without a farewell, also by the broker's own end.

Rules:

- A will belongs to the session, as MQTT 5 (3.1.2.5, 4.1) has it, whether that outlives its
  connection or not. It is in the log before the client is told that it is connected.
- It is published once: at once, after its delay, or when the session ends, whatever comes first.
- A broker that was killed has ended its connections. At the next start their wills are due, after
  the delay that each has from then on, unless the client comes back before. Those of sessions that
  ended with their connections have no delay, as ever.
- No room for a will in the log is no reason to refuse a client, who may have come to drain its
  session. Such a will is held in memory, and lost when the broker is killed.
- The right to publish is asked for when it is published. Who was refused is counted as dropped.
"""

from typing import TYPE_CHECKING

import msgspec

from ..storage.record import encode_ack, encode_definition
from .errors import BraidError, Unavailable
from .host import DROPPED
from .publication import PlainPublication
from .session import Session
from .willstore import WILL_ENTITY, WillDefinition, WillMessage

if TYPE_CHECKING:
    from .engine import Engine
    from .topics import Topics

__all__ = ["WILLS_BYTES_MAX", "WillPublication", "Wills"]

WILLS_BYTES_MAX = 64 * 1024 * 1024  # in the log; each is in every checkpoint


class WillPublication(PlainPublication):
    """A will on its way.

    Attributes:
        will: its number, for the record that it becomes; 0: it has none.
    """

    __slots__ = ("will",)

    def __init__(self, definition: WillDefinition, now_ms: int) -> None:
        message = definition.message
        super().__init__(
            message.topic,
            message.body,
            message.attributes,
            message.qos,
            message.retain,
            now_ms + message.lifetime_ms if message.lifetime_ms else 0,
        )
        self.will = definition.number


class Wills:
    """The wills of a broker's sessions. See the module's rules."""

    def __init__(self, engine: "Engine", topics: "Topics") -> None:
        self._engine = engine
        self._topics = topics
        self._store = engine.will_store

    def start(self, now_ms: int) -> None:
        """Everything is recovered: who was connected is not any more."""
        sessions = self._engine.sessions
        for will in list(self._store.by_number.values()):
            session = sessions.get(will.session)
            if session is None:
                # It ended with its connection, and ends again, with its will, in the first tick.
                session = sessions[will.session] = Session(will.session, will.user, now_ms)
            session.will = will
            if not will.due_ms:
                self.postpone(session, now_ms)

    def replace(self, session: Session, message: WillMessage | None) -> None:
        """A client has connected: the will that it had is void, and this one stands."""
        self.take_back(session)
        if message is None:
            return
        number = self._store.next_number() if self._has_room(message) else 0
        session.will = WillDefinition(
            number=number, session=session.name, user=session.user, message=message
        )
        self._write(session.will)

    def _has_room(self, message: WillMessage) -> bool:
        if self._store.bytes + message.size > WILLS_BYTES_MAX:
            return False
        try:
            self._engine.admit()
        except Unavailable:
            return False
        return True

    def _write(self, will: WillDefinition) -> None:
        if will.number:
            content = msgspec.msgpack.encode(will)
            self._engine.log.append((encode_definition(WILL_ENTITY, content),))
            self._store.define(will)

    def take_back(self, session: Session) -> None:
        """The client said goodbye, or came back in time: nothing is published."""
        will, session.will = session.will, None
        if will is not None:
            self._strike(will)

    def _strike(self, will: WillDefinition) -> None:
        if self._store.remove(will.number):
            self._engine.log.append((encode_ack(WILL_ENTITY, DROPPED, [will.number]),))

    def postpone(self, session: Session, now_ms: int) -> None:
        """The connection is gone: the will is due after its delay."""
        will = session.will
        assert will is not None
        due_ms = now_ms + will.message.delay_ms
        session.will = msgspec.structs.replace(will, due_ms=due_ms)
        if due_ms > now_ms:  # else it has no time that a restart could begin anew
            self._write(session.will)

    def publish(self, session: Session, now_ms: int) -> None:
        """Publish the session's will, if it has one."""
        will, session.will = session.will, None
        if will is None:
            return
        who = self._topics.principal(session)
        if who is not None:
            try:
                self._topics.publish(who, WillPublication(will, now_ms), now_ms)
            except BraidError:
                self._topics.dropped += 1
        self._strike(will)  # unless the record of the message has done it
