"""A carrier that takes notes, a dialect that echoes, and frames as a client writes them."""

from braidmq.broker.limits import Limits
from braidmq.protocols.http.handshake import Subprotocol, WebSocketOffer
from braidmq.protocols.http.session import HttpSession, Route, Site, tell_health

MASK = b"\x11\x22\x33\x44"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 1.3
NOW = 1_000_000


class Host:
    """A carrier."""

    peer = "192.0.2.7"
    tls = False
    certificate_user = ""
    connections = 3

    def __init__(self, loopback=True):
        self.loopback = loopback
        self.woken = 0
        self.known = 0
        self.login: tuple = ()

    def wake(self):
        self.woken += 1

    def authenticate(self, user, password, callback):
        self.login = (user, password, callback)

    def scram(self):
        raise NotImplementedError

    def hurry(self) -> None:
        """Its deadline is asked for at every turn anyway."""

    def authenticated(self):
        self.known += 1


class Inner:
    """A session that writes down what it is told, and says what the test wants."""

    def __init__(self, host, now_ms):
        self.host = host
        self.begun_ms = now_ms
        self.finished = False
        self.reading = True
        self.backlog = False
        self.answering = False
        self.deadline = None
        self.got = bytearray()
        self.calls: list = []
        self.says = bytearray()
        self.login_after = -1  # bytes

    def receive_data(self, data, now_ms):
        assert data, "nothing is nothing to call for"
        self.calls.append(("data", now_ms))
        self.got += data
        if 0 <= self.login_after <= len(self.got):
            self.login_after = -1
            self.host.authenticated()

    def receive_eof(self, now_ms):
        self.calls.append(("eof", now_ms))

    def proceed(self, now_ms):
        self.calls.append(("proceed", now_ms))

    def data_to_send(self, now_ms):
        data, self.says = self.says, bytearray()
        return data

    def next_deadline(self):
        return self.deadline

    def tick(self, now_ms):
        self.calls.append(("tick", now_ms))

    def pause_writing(self):
        self.calls.append("pause")

    def resume_writing(self):
        self.calls.append("resume")

    def shut_down(self, now_ms):
        self.calls.append(("shut down", now_ms))

    def connection_lost(self, now_ms):
        self.calls.append(("lost", now_ms))


class Rig:
    """A site with one WebSocket dialect, and the sessions that were opened in it."""

    def __init__(self, origins=(), takes_text=False):
        self.inners: list[Inner] = []
        spoken = Subprotocol(self.make, takes_text)
        offer = WebSocketOffer({"mqtt": spoken, "mqttv3.1": spoken})
        routes = {
            "/": Route(websocket=offer),
            "/both": Route(tell_health, WebSocketOffer({}, spoken)),
            "/health": Route(tell_health),
            "/mqtt": Route(websocket=offer),
        }
        self.site = Site(routes, origins)

    def make(self, host, now_ms):
        self.inners.append(Inner(host, now_ms))
        return self.inners[-1]


class Line:
    """One connection of the port, and what comes out of it."""

    def __init__(self, origins=(), loopback=True, takes_text=False, **limits):
        self.rig = Rig(origins, takes_text)
        self.host = Host(loopback)
        self.limits = Limits(**limits)
        self.session = HttpSession(self.rig.site, self.limits, self.host, NOW)
        self.now = NOW

    @property
    def inner(self) -> Inner:
        return self.rig.inners[-1]

    def feed(self, data: bytes) -> bytes:
        """Send bytes, and do what a carrier does until the session rests."""
        self.session.receive_data(data, self.now)
        return self.settle()

    def settle(self) -> bytes:
        out = bytes(self.session.data_to_send(self.now))
        for _ in range(10_000):
            if self.session.finished or not self.session.backlog:
                return out
            self.session.proceed(self.now)
            out += self.session.data_to_send(self.now)
        raise AssertionError("it does not come to rest")

    def open(self, **more) -> bytes:
        """Shake hands; what came in answer."""
        return self.feed(upgrade(**more))


def upgrade(path="/mqtt", drop=(), extra: bytes = b"", method="GET", **changed) -> bytes:
    """A WebSocket handshake; keywords replace headers, with underscores for dashes."""
    headers = {
        "host": "127.0.0.1:8450",
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-key": KEY,
        "sec-websocket-version": "13",
        "sec-websocket-protocol": "mqtt",
    }
    headers |= {name.replace("_", "-"): value for name, value in changed.items()}
    lines = [f"{name}: {value}" for name, value in headers.items() if name not in drop]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode("latin-1") + extra


def frame(
    opcode, payload: bytes = b"", fin=True, mask: bytes | None = MASK, rsv=0, size=None
) -> bytes:
    """A frame as a client writes it; ``size`` picks 0, 2 or 8 bytes for the length."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    flag = 0 if mask is None else 0x80
    length = len(payload)
    size = (0 if length < 126 else 2 if length < 65_536 else 8) if size is None else size
    if size == 0:
        head = bytes((first, flag | length))
    else:
        head = bytes((first, flag | (126 if size == 2 else 127))) + length.to_bytes(size, "big")
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[at & 3] for at, byte in enumerate(payload))


def close(code: int, reason: bytes = b"") -> bytes:
    """A client's close frame."""
    return frame(8, code.to_bytes(2, "big") + reason)


def frames_of(data: bytes) -> list[tuple[int, bytes]]:
    """What a server wrote: (first byte, payload) of every frame; all of them whole."""
    found = []
    while data:
        first, length = data[0], data[1]
        assert length < 128, "a server does not mask"
        at = 2
        if length >= 126:
            at = 4 if length == 126 else 10
            length = int.from_bytes(data[2:at], "big")
        assert len(data) >= at + length
        found.append((first, data[at : at + length]))
        data = data[at + length :]
    return found


def closed(data: bytes) -> tuple[int, str]:
    """Code and reason of the close frame that a server's last words are."""
    first, payload = frames_of(data)[-1]
    assert first == 0x88
    return int.from_bytes(payload[:2], "big"), payload[2:].decode()
