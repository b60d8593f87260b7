"""The audit of topics: what was published, who subscribed, and what their applications got.

A publication is INVOKED, then OK when its exchange is over, or INFO for ever when its publisher
never heard and does not ask again. Who subscribed before is *owed* it. Which of the rules was
broken is the first word of :class:`Broken`:

lost         an OK message that an application never got
duplicate    a message of QoS 2 that an application got twice
resurrected  a message of QoS 1 delivered after its acknowledgement was confirmed
torn         a message that some of those who are owed it got, and others never
misordered   the first delivery of a message after that of a later one of the same publisher
phantom      a message that nobody sent; a topic that retains what it should not
forgotten    a topic that does not retain what was acknowledged last
"""

from dataclasses import dataclass, field

from braidmq.broker.topic import matches
from tests.sim.audit import Broken

__all__ = ["Sending", "TopicAudit"]


@dataclass
class Sending:
    """What is known of one message."""

    body: bytes
    publisher: str
    number: int
    qos: int
    owed: set[str]
    ok: bool = False
    got: dict[str, int] = field(default_factory=dict)  # application -> how often


class TopicAudit:
    """See the module."""

    def __init__(self) -> None:
        self.sendings: dict[bytes, Sending] = {}
        self.subscribed: dict[str, str] = {}  # applications -> their filter, once confirmed
        self.counts = dict.fromkeys(("sent", "ok", "got", "again", "resent", "retained"), 0)
        self._confirmed: set[tuple[str, int]] = set()  # application, message id
        self._last: dict[tuple[str, str], int] = {}  # (application, publisher) -> its number
        # By topic: what was acknowledged last, and what may have come after it.
        self._retained: dict[str, bytes] = {}
        self._maybe: dict[str, list[bytes]] = {}

    def invoked(self, topic: str, body: bytes, publisher: str, number: int, qos: int) -> None:
        """Somebody publishes, perhaps for the second time."""
        self.counts["sent"] += 1
        if body in self.sendings:
            self.counts["resent"] += 1
        else:
            owed = {name for name, filter in self.subscribed.items() if matches(filter, topic)}
            self.sendings[body] = Sending(body, publisher, number, qos, owed)

    def finished(self, body: bytes) -> None:
        """Its publisher was told that it was taken."""
        self.counts["ok"] += 1
        self.sendings[body].ok = True

    def got(self, application: str, body: bytes, id: int) -> None:
        """An application has it. What was published twice with QoS 1 has two ids."""
        sending = self.sendings.get(body)
        if sending is None:
            raise Broken(f"phantom: {body!r} for {application}")
        self.counts["got"] += 1
        count = sending.got[application] = sending.got.get(application, 0) + 1
        if (application, id) in self._confirmed:
            raise Broken(f"resurrected: {body!r}, which {application} has acknowledged")
        if count > 1:
            self.counts["again"] += 1
            if sending.qos == 2:
                raise Broken(f"duplicate: {body!r} for {application}, {count} times")
            return
        if application not in sending.owed or application == "both":
            return  # its first copy was perhaps before the subscription; members of a share race
        key = application, sending.publisher
        if self._last.get(key, 0) > sending.number:
            raise Broken(f"misordered: {body!r} for {application} after {self._last[key]}")
        self._last[key] = sending.number

    def acknowledged(self, application: str, id: int) -> None:
        """The acknowledgement of a message of QoS 1 is confirmed."""
        self._confirmed.add((application, id))

    # --- retained ---

    def retaining(self, topic: str, body: bytes) -> None:
        """Somebody publishes what is to be retained; one at a time for each topic."""
        self._maybe.setdefault(topic, []).append(body)

    def retained(self, topic: str, body: bytes) -> None:
        """And was told that it was taken."""
        self.counts["retained"] += 1
        self._retained[topic] = body
        self._maybe[topic] = []

    def check_retained(self, found: dict[str, bytes]) -> None:
        """What is there now, b"" being nothing."""
        for topic in found.keys() | self._retained.keys() | self._maybe.keys():
            body = found.get(topic, b"")
            last = self._retained.get(topic, b"")
            if body != last and body not in self._maybe.get(topic, ()):
                word = "phantom" if body else "forgotten"
                raise Broken(f"{word}: {topic} retains {body!r}, not {last!r}")

    # --- the end ---

    def close(self) -> None:
        """Everybody has taken all there was."""
        for sending in self.sendings.values():
            missing = [name for name in sending.owed if name not in sending.got]
            if sending.ok and missing:
                raise Broken(f"lost: {sending.body!r} for {missing}")
            if missing and len(missing) < len(sending.owed):
                raise Broken(f"torn: {sending.body!r}, {sorted(sending.got)} but not {missing}")
