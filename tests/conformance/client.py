"""A raw MQTT client: it sends exactly the bytes it is told to and reads whole packets.

It blocks, with a guard against waiting forever; nothing here ever waits for time to pass. What
arrives while something else is awaited goes to `inbox` and is read from there first, so a test may
await an acknowledgement without losing the messages around it. "Nothing came" is shown by
`settle`: a PINGREQ, and everything that arrived before its PINGRESP.
"""

import os
import socket
from collections import deque

from .packets import (
    CONNACK,
    DISCONNECT,
    MAXIMUM_PACKET_SIZE,
    NAMES,
    PING,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    UNSUBACK,
    V5,
    Packet,
    Properties,
    Will,
    ack,
    connect,
    decode,
    disconnect,
    publish,
    subscribe,
    unsubscribe,
)

# A broker that says nothing for so long has failed the test.
GUARD_SECONDS = float(os.environ.get("BRAIDMQ_TEST_GUARD_SECONDS", "15"))


class Closed(Exception):
    """The broker closed the connection."""


class Client:
    """One network connection. `strict`: what a server only SHOULD tell is demanded."""

    def __init__(self, address: tuple[str, int], version: int = V5, strict: bool = True) -> None:
        self.socket = socket.create_connection(address, timeout=GUARD_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.version = version
        self.strict = strict
        self.inbox: deque[Packet] = deque()
        self.connack = Packet(CONNACK, 0, b"", b"")
        self.maximum = 0  # what the broker was told as Maximum Packet Size
        self._received = b""
        self._packet_id = 0

    def close(self) -> None:
        """Close without a DISCONNECT, as a network that fails."""
        self.socket.close()

    # --- bytes and packets ---

    def send(self, *packets: bytes) -> None:
        """Send bytes in one write. A broker that has closed already shows when reading."""
        try:
            self.socket.sendall(b"".join(packets))
        except (BrokenPipeError, ConnectionResetError):
            pass

    def read(self, kind: int | None = None) -> Packet:
        """The next packet, which must be of this kind. Raises Closed."""
        found = self.inbox.popleft() if self.inbox else self._read()
        assert kind in (None, found.kind), f"expected {NAMES[kind or 0]}, got {found}"
        return found

    def _read(self) -> Packet:
        head = self._take(1)
        length, shift, size = 0, 0, b""
        while True:
            size += self._take(1)
            length |= (size[-1] & 0x7F) << shift
            shift += 7
            if not size[-1] & 0x80:
                break
            assert len(size) < 4, "a Remaining Length of more than four bytes"
        body = self._take(length)
        raw = head + size + body
        # [MQTT-3.1.2-24] nothing beyond what the client takes
        assert not self.maximum or len(raw) <= self.maximum, f"{len(raw)} bytes: {raw.hex(' ')}"
        return decode(head[0], body, self.version, raw)

    def _take(self, count: int) -> bytes:
        while len(self._received) < count:
            try:
                data = self.socket.recv(65_536)
            except ConnectionResetError:
                data = b""
            if not data:
                assert not self._received or count, "closed inside a packet"
                raise Closed
            self._received += data
        head, self._received = self._received[:count], self._received[count:]
        return head

    def wait_for(self, kind: int) -> Packet:
        """The next packet of this kind; others that come before it stay in the inbox."""
        skipped: list[Packet] = []
        try:
            while (found := self.read()).kind != kind:
                skipped.append(found)
            return found
        finally:
            self.inbox.extendleft(reversed(skipped))

    def settle(self) -> list[Packet]:
        """Everything that arrives until the broker has answered a PINGREQ sent now."""
        self.send(PING)
        seen = []
        while (found := self.read()).kind != PINGRESP:
            seen.append(found)
        return seen

    def quiet(self) -> None:
        """Nothing has come."""
        assert self.settle() == []

    def alive(self) -> None:
        """The connection is open; what has come stays to be read."""
        self.inbox.extend(self.settle())

    def closed(self, *reasons: int) -> list[Packet]:
        """The broker closes the connection; in version 5 with one of these reasons, if given.

        A DISCONNECT is demanded of a strict broker only, since a server SHOULD send it; one that
        gives another reason is always wrong. Before version 5 a server has no DISCONNECT.
        """
        seen = []
        try:
            while True:
                seen.append(self.read())
        except Closed:
            pass
        told = [each.reason for each in seen if each.kind == DISCONNECT]
        if self.version == V5 and reasons:
            assert told or not self.strict, f"closed without a DISCONNECT: {seen}"
        assert all(each in reasons for each in told if reasons), f"{told[0]:#x}, not {reasons}"
        # [MQTT-3.14.4-1] nothing follows a DISCONNECT
        assert all(each.kind != DISCONNECT for each in seen[:-1]), seen
        return seen

    # --- whole exchanges ---

    def connect(
        self,
        client_id: str | bytes = "",
        *,
        clean: bool = True,
        keep_alive: int = 60,
        will: Will | None = None,
        username: str | bytes | None = None,
        password: str | bytes | None = None,
        properties: Properties | None = None,
    ) -> Packet:
        """CONNECT and a CONNACK that accepts it."""
        self.maximum = dict(properties or []).get(MAXIMUM_PACKET_SIZE, 0)
        self.send(
            connect(
                client_id,
                version=self.version,
                clean=clean,
                keep_alive=keep_alive,
                will=will,
                username=username,
                password=password,
                properties=properties,
            )
        )
        self.connack = self.read(CONNACK)
        assert self.connack.reason == 0, self.connack
        return self.connack

    def refused(self, *reasons: int) -> Packet | None:
        """The broker refuses a CONNECT: a CONNACK with one of these reasons, and closes.

        A CONNACK is demanded of a strict broker only; without reasons there must be none.
        """
        try:
            found = self.read(CONNACK)
        except Closed:
            assert not reasons or not self.strict, "closed without a CONNACK"
            return None
        assert found.reason in reasons, f"{found}, not {reasons}"
        assert self.closed() == []
        return found

    def next_id(self) -> int:
        self._packet_id += 1
        return self._packet_id

    def subscribe(
        self, *filters: str | tuple[str, int], qos: int = 0, properties: Properties | None = None
    ) -> list[int]:
        """SUBSCRIBE and its SUBACK: the codes. Text alone is subscribed to with `qos`."""
        wanted = [each if isinstance(each, tuple) else (each, qos) for each in filters]
        number = self.next_id()
        self.send(subscribe(*wanted, packet_id=number, version=self.version, properties=properties))
        found = self.wait_for(SUBACK)
        assert found.packet_id == number, found
        assert len(found.codes) == len(wanted), found
        return found.codes

    def unsubscribe(self, *filters: str) -> list[int]:
        number = self.next_id()
        self.send(unsubscribe(*filters, packet_id=number, version=self.version))
        found = self.wait_for(UNSUBACK)
        assert found.packet_id == number, found
        return found.codes

    def publish(
        self,
        topic: str | bytes,
        payload: str | bytes = b"",
        *,
        qos: int = 1,
        retain: bool = False,
        properties: Properties | None = None,
    ) -> Packet | None:
        """Publish and go through the whole handshake: its first acknowledgement (QoS 0: None)."""
        number = self.next_id() if qos else 0
        self.send(
            publish(
                topic,
                payload,
                qos=qos,
                packet_id=number,
                retain=retain,
                version=self.version,
                properties=properties,
            )
        )
        if not qos:
            return None
        found = self.wait_for(PUBACK if qos == 1 else PUBREC)
        assert found.packet_id == number, found
        if qos == 2 and found.reason < 0x80:
            self.send(ack(PUBREL, number))
            assert self.wait_for(PUBCOMP).packet_id == number
        return found

    def receive(self, *, acknowledge: bool = True) -> Packet:
        """The next PUBLISH, acknowledged as its QoS wants."""
        found = self.wait_for(PUBLISH)
        if acknowledge and found.qos == 1:
            self.send(ack(PUBACK, found.packet_id))
        if acknowledge and found.qos == 2:
            self.send(ack(PUBREC, found.packet_id))
            assert self.wait_for(PUBREL).packet_id == found.packet_id
            self.send(ack(PUBCOMP, found.packet_id))
        return found

    def payloads(self, count: int) -> list[bytes]:
        """The payloads of the next messages."""
        return [self.receive().payload for _ in range(count)]

    def disconnect(self, reason: int | None = None, properties: Properties | None = None) -> None:
        """DISCONNECT, and wait until the broker has closed."""
        self.send(disconnect(reason, properties))
        self.closed()
