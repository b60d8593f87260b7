"""What all STOMP sessions of a broker share: header tables, destinations taken apart, counters.

Everything here is a cache with a limit, or a number; and, once, what is left of the last start:
temporary queues, whose connections are gone.
"""

from collections.abc import Callable
from typing import Final

from ...broker.access import SYSTEM
from ...broker.core import Core
from .destinations import Target, parse
from .dialects import DIALECTS, Dialect
from .headers import HeaderTable

__all__ = ["DESTINATIONS_CACHED_MAX", "EPOCH_TAG", "StompServer"]

DESTINATIONS_CACHED_MAX: Final = 16_384
_DESTINATION_CHARACTERS_MAX = 256  # destinations that are longer are not remembered
EPOCH_TAG: Final = "stomp-temporary-of"  # a tag of temporary queues: the start that made them


class StompServer:
    """One for each broker that is served; see the module.

    Attributes:
        core: the broker. new_id: makes names that nobody can guess.
        received, sent: messages. unanswerable: replies to temporary queues that were gone.
        refused: connections that were ended by an ERROR.
    """

    def __init__(self, core: Core, new_id: Callable[[], str]) -> None:
        self.core = core
        self.new_id = new_id
        self.received = 0
        self.sent = 0
        self.unanswerable = 0
        self.refused = 0
        core.announcing.gauges |= {
            "stomp/clients/refused": lambda: self.refused,
            "stomp/messages/received": lambda: self.received,
            "stomp/messages/sent": lambda: self.sent,
            "stomp/replies/dropped": lambda: self.unanswerable,
        }
        self._tables = {name: HeaderTable(dialect) for name, dialect in DIALECTS.items()}
        self._targets: dict[str, dict[str, list[Target]]] = {name: {} for name in DIALECTS}
        self._end_temporary()

    def _end_temporary(self) -> None:
        """Delete the temporary queues of earlier starts: of a broker that was killed."""
        core = self.core
        if core.failed is not None:
            return
        for queue in list(core.queues.values()):
            made = queue.settings.tags.get(EPOCH_TAG)
            if made is not None and made != str(core.epoch):
                core.delete_queue(SYSTEM, queue.name, False, core.now_ms)

    def table(self, dialect: Dialect) -> HeaderTable:
        """The headers of a dialect."""
        return self._tables[dialect.name]

    def targets(self, destination: str, dialect: Dialect) -> list[Target]:
        """What the ``destination`` of a SEND names. Raises Refused."""
        known = self._targets[dialect.name]
        found = known.get(destination)
        if found is None:
            found = parse(destination, dialect, "send")
            if len(destination) <= _DESTINATION_CHARACTERS_MAX:
                if len(known) >= DESTINATIONS_CACHED_MAX:
                    known.clear()
                known[destination] = found
        return found
