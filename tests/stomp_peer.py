"""A STOMP client for tests of the session: it writes and reads frames, on a virtual clock."""

from braidmq.broker.access import Access, User
from braidmq.broker.limits import Limits
from braidmq.broker.stomp_options import StompOptions
from braidmq.protocols.stomp.frames import Frame, FrameBuffer, Version, encode
from braidmq.protocols.stomp.server import StompServer
from braidmq.protocols.stomp.session import StompSession
from tests.broker_harness import Harness

__all__ = ["Carrier", "Peer", "World"]


class Carrier:
    """A host that takes notes."""

    peer = "127.0.0.1"
    tls = False
    connections = 3

    def __init__(self, loopback: bool = True, certificate_user: str = "") -> None:
        self.loopback = loopback
        self.certificate_user = certificate_user
        self.known = 0
        self.logins: list[tuple] = []

    def wake(self) -> None:
        pass

    def hurry(self) -> None:
        pass

    def authenticate(self, user, password, callback) -> None:
        self.logins.append((user, password, callback))

    def scram(self):
        raise NotImplementedError

    def authenticated(self) -> None:
        self.known += 1


class World:
    """A broker that is served."""

    def __init__(self, harness: Harness | None = None, users: tuple[User, ...] = (), **limits):
        self.harness = harness or Harness(limits=Limits(**limits))
        if users:
            self.harness.core.access = Access(users)
        self.ids = 0
        self.server = StompServer(self.harness.core, self._new_id)
        self.peers: list[Peer] = []

    def _new_id(self) -> str:
        self.ids += 1
        return f"id{self.ids}"

    def peer(self, version: str = "1.2", connect: bool = True, **fields) -> "Peer":
        """A client; ``connect`` it at once, with ``headers`` if any are given."""
        peer = Peer(self, version, **fields)
        self.peers.append(peer)
        if connect:
            (peer.connected,) = peer.ask("CONNECT", {"accept-version": version, "host": "b"})
            assert peer.connected.command == "CONNECTED", peer.connected
        return peer

    def settle(self) -> None:
        """Let everything happen that can without time going on."""
        idle = 0
        while idle < 2:
            self.harness.settle()
            busy = [peer.step() for peer in self.peers]
            idle = 0 if any(busy) else idle + 1


class Peer:
    """One client."""

    def __init__(
        self,
        world: World,
        version: str = "1.2",
        loopback: bool = True,
        certificate_user: str = "",
        **options,
    ) -> None:
        self.world = world
        self.core = world.harness.core
        self.version = Version(version)
        self.host = Carrier(loopback, certificate_user)
        self.session = StompSession(
            self.core,
            self.host,
            world.harness.clock.ms,
            StompOptions(**options),
            world.server,
        )
        self.frames = FrameBuffer(10**9, 1_000, 10**6)
        self.connected = Frame("", {})
        self.is_lost = False

    # --- the wire ---

    def write(self, command: str, headers: dict[str, str], body: bytes = b"") -> None:
        """Write a frame, and let nothing else happen."""
        self.feed(encode(command, headers.items(), body, self.frames.version))

    def feed(self, data: bytes) -> None:
        self.session.receive_data(data, self.world.harness.clock.ms)

    def step(self) -> bool:
        """Do what a carrier would; whether something happened."""
        if self.is_lost:
            return False
        now_ms = self.world.harness.clock.ms
        backlog = self.session.backlog
        if backlog:
            self.session.proceed(now_ms)
        data = self.session.data_to_send(now_ms)
        self.frames.feed(bytes(data))
        if self.session.finished:
            self.lose()
        return bool(data) or backlog

    def lose(self) -> None:
        """The connection is gone."""
        self.is_lost = True
        self.session.connection_lost(self.world.harness.clock.ms)

    def read(self) -> list[Frame]:
        """All frames that come without time going on."""
        self.world.settle()
        found = []
        while (frame := self.frames.next_frame()) is not None:
            found.append(frame)
            if frame.command == "CONNECTED":
                self.frames.version = Version(frame.headers["version"])
        return found

    # --- what clients do ---

    def ask(self, command: str, headers: dict[str, str], body: bytes = b"") -> list[Frame]:
        """Send a frame; all that comes."""
        self.write(command, headers, body)
        return self.read()

    def sure(self, command: str, headers: dict[str, str], body: bytes = b"") -> list[Frame]:
        """Send a frame with a receipt, which must come; what came besides."""
        found = self.ask(command, {**headers, "receipt": "sure"}, body)
        receipts = [frame for frame in found if frame.headers.get("receipt-id") == "sure"]
        assert [frame.command for frame in receipts] == ["RECEIPT"], found
        return [frame for frame in found if frame not in receipts]

    def send(self, destination: str, body: bytes = b"x", **headers: str) -> list[Frame]:
        """SEND with a receipt; what came besides."""
        named = {_spelt(name): value for name, value in headers.items()}
        return self.sure("SEND", {"destination": destination, **named}, body)

    def subscribe(self, destination: str, id: str = "s", **headers: str) -> list[Frame]:
        """SUBSCRIBE with a receipt; what came besides."""
        named = {_spelt(name): value for name, value in headers.items()}
        return self.sure("SUBSCRIBE", {"destination": destination, "id": id, **named})

    def error(self, command: str, headers: dict[str, str], body: bytes = b"") -> Frame:
        """Send a frame that must be answered by an ERROR and the end."""
        found = self.ask(command, headers, body)
        assert found and found[-1].command == "ERROR", found
        assert self.is_lost
        return found[-1]

    def ack_of(self, message: Frame) -> dict[str, str]:
        """The headers of an ACK or NACK of a message, in this version."""
        if self.version == "1.2":
            return {"id": message.headers["ack"]}
        names = ("message-id", "subscription") if self.version == "1.1" else ("message-id",)
        return {name: message.headers[name] for name in names}

    def bodies(self) -> list[bytes]:
        """The bodies of the messages that come now."""
        return [frame.body for frame in self.read() if frame.command == "MESSAGE"]


def _spelt(keyword: str) -> str:
    return keyword.replace("_", "-") if keyword.islower() else keyword
