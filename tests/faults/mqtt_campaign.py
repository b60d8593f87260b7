"""A campaign for MQTT: always the same clients, whose state outlives every run of the daemon."""

from collections.abc import Callable, Sequence
from pathlib import Path

from .actors import act_until
from .campaign import Campaign, Fault
from .daemon import Daemon
from .mqtt_audit import Destination, MqttJournal
from .mqtt_load import Client, Publisher, Retained, Subscriber
from .mqtt_wire import V5, V311, Gone
from .waiting import until

__all__ = ["FAN_SESSIONS", "LISTEN", "MqttCampaign"]

LISTEN = ("--listen", "mqtt://127.0.0.1:0")
FAN_SESSIONS = 20
_LOAD, _FAN = "load/", "fan/"
UNSPECIFIED_ERROR = 0x80


class MqttCampaign(Campaign):
    """See :class:`Campaign`."""

    FLAGS = LISTEN
    GONE = (Gone,)
    BUSY_ACKED_MAX = 500
    journal: MqttJournal

    def __init__(self, data: Path, scratch: Path, seed: int) -> None:
        super().__init__(data, scratch, seed, MqttJournal())
        self.publishers = self._publishers()
        self.subscribers = self._subscribers()
        # They speak only while nobody else does. What the first publishes comes behind everything;
        # what the second does comes to nobody; when it is kept, so is all that was handled before.
        self._last = Publisher(self.journal, self.rng, "last", [f"{_LOAD}last", f"{_FAN}last"], 1)
        self._seal = Publisher(
            self.journal, self.rng, "seal", ["kept/seal"], 1, retain=True, deletes_share=0
        )

    def _publishers(self) -> list[Publisher]:
        def one(name: str, topics: str, qos: int, version: int = V5, **more: bool) -> Publisher:
            names = topics.split()
            return Publisher(self.journal, self.rng, name, names, qos, version, **more)

        load, kept = "load/one load/two/deeper load/three", "kept/a kept/b kept/c"
        publishers = [
            one("one", load, 1),
            one("one-old", load, 1, V311),
            one("once", load, 1, resumes=False),
            one("two", load, 2),
            one("two-old", load, 2, V311),
            one("zero", load, 0, resumes=False),
            one("kept-one", kept, 1, retain=True),
            one("kept-two", "kept/x/a kept/x/b", 2, V311, retain=True),
            one("fan-once", "fan/once", 1, resumes=False),
            one("fan-two", "fan/two", 2),
        ]
        for publisher in publishers[-4:]:
            publisher.pause = 0.03  # a message of the fan is twenty
        return publishers

    def _subscribers(self) -> list[Subscriber]:
        journal = self.journal
        subscribers: list[Subscriber] = []

        def add(at: Destination, name: str, filter: str, **more: object) -> None:
            if at not in journal.destinations:
                journal.destinations.append(at)
            client = Subscriber(journal, self.rng, name, at, filter, **more)  # type: ignore[arg-type]
            subscribers.append(client)

        def session(name: str, qos: int, durable: bool = True, **more: object) -> None:
            add(Destination(name, _LOAD, qos, durable), name, f"{_LOAD}#", **more)

        session("steady-one", 1, version=V311)
        session("leaving-two", 2, receive_maximum=10, hang_up_share=0.1)
        session("seldom-two", 2, version=V311, offline=0.5, hang_up_share=0.02)
        session("lazy-one", 1, lazy=True, hang_up_share=0.1, receive_maximum=100)
        session("fickle-two", 2, fickle=0.1)
        session("live-one", 1, durable=False, hang_up_share=0.02)
        session("live-zero", 0, durable=False, version=V311)
        share = Destination("share", _LOAD, 2, shared=True)
        for number in range(2):
            add(share, f"member-{number}", f"$share/members/{_LOAD}#", hang_up_share=0.1)
        for number in range(FAN_SESSIONS):
            at = Destination(f"fan-{number}", _FAN, 1 + number % 2)
            add(at, at.name, f"{_FAN}#", offline=0.5)
        return subscribers

    def expect_write_errors(self) -> None:
        self.journal.endings.add(UNSPECIFIED_ERROR)

    async def look(self, daemon: Daemon) -> None:
        """See what is retained, and subscribe whoever never did."""
        port = daemon.ports[1]
        for subscriber in self.subscribers:
            if subscriber.durable and not subscriber.destination.since:
                await subscriber.subscribe(port)
            elif subscriber.destination.shared and subscriber.wire is None:
                await subscriber.subscribe(port)  # the second member
            subscriber.hang_up()
            subscriber.prompt = False
        least, guard = self.journal.retained_for_sure(), self.guard_seconds
        self.journal.check_retained(await Retained().ask(port, "kept/#", least, guard))

    async def under_load(self, daemon: Daemon, fault: Fault) -> None:
        coming = [each for each in self.subscribers if self.rng.random() >= each.offline]
        clients: list[Client] = [*self.publishers, *coming]
        await act_until(fault(daemon), clients, daemon.ports[1], Gone)

    async def drain(self, daemon: Daemon) -> None:
        """See :meth:`Campaign.drain`: nobody publishes but what was not acknowledged yet."""
        port = daemon.ports[1]
        journal = self.journal
        speaking = [publisher for publisher in self.publishers if publisher.durable]
        durable = [each for each in self.subscribers if each.durable]
        for publisher in speaking:
            await publisher.connect(port)
        if not await self._until(lambda: not any(each.pending for each in speaking), speaking):
            names = [publisher.name for publisher in speaking if publisher.pending]
            journal.find("lost", f"no answers for {names}")
        for subscriber in durable:
            subscriber.prompt = True
            await subscriber.connect(port)
        await self._seal.connect(port)
        await self._last.connect(port)
        for topic in self._last.topics:
            self._last.publish(topic)
        everybody: list[Client] = [self._last, *durable]

        def all_came() -> bool:
            open_ones = self._last.pending or any(each.received for each in durable)
            return not open_ones and not journal.missing()

        await self._until(all_came, everybody)
        for subscriber in durable:
            await subscriber.settle()
            if subscriber.received:
                text = f"{subscriber.name}: {sorted(subscriber.received)} are not released"
                journal.find("forgotten", text)
        self._seal.publish(self._seal.topics[0])
        if not await self._until(lambda: not self._seal.pending, [self._seal, *everybody]):
            journal.find("lost", "no answer for the last of all")
        journal.emptied()
        for client in [*speaking, self._seal, *everybody]:
            client.hang_up()

    async def _until(self, done: Callable[[], bool], clients: Sequence[Client]) -> bool:
        """Wait until something is so; False: it never was. Raises Gone when the broker went."""

        def over() -> bool:
            return done() or any(each.wire is None or each.wire.gone for each in clients)

        heard = self.journal.counts.total()
        while not (was_over := await until(over, self.guard_seconds)):
            before, heard = heard, self.journal.counts.total()
            if heard == before:
                break
        for client in clients:
            client.link()
        return was_over
