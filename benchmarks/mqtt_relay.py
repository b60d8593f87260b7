"""No broker at all: passes bytes on, so that the load generator's own limit can be measured.

It answers CONNECT and SUBSCRIBE, hands what a publisher sends to every subscriber as it is, 256 KiB
at a time, and acknowledges QoS 1 from the cycle it knows, without looking at a packet. Whatever
the generator reaches with it, in the same scenario, is the most that it can measure of a broker.

Runs as its own process: ``python -m braidmq.benchmarks.mqtt_relay`` reads a plan from the first
line of its standard input, prints its port, and ends when its input does.
"""

import select
import socket
import subprocess
import sys
from bisect import bisect_right
from types import TracebackType
from typing import Final

import msgspec

from .drivers.mqtt_packets import DISCONNECT, PUBACK_HEAD, PUBLISH, next_packet, variable_integer
from .mqtt_cycle import Cycle, published
from .mqtt_plan import Plan
from .peer import ServerFailed

__all__ = ["RelayProcess", "serve"]

_BUFFER_BYTES: Final = 256 * 1024
_CONNECT, _SUBSCRIBE = 1, 8


class _Peer:
    """A connection: talks packet by packet until it publishes without having subscribed."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.subscribed = False
        self.streaming = False
        self.passed = 0  # bytes
        self.acknowledged = 0
        self.rest = b""


class _Relay:
    def __init__(self, plan: Plan, server: socket.socket) -> None:
        self._plan = plan
        self._cycle: Cycle = published(plan)
        self._begins = frozenset(self._cycle.starts)
        self._acks = b"".join(
            PUBACK_HEAD + number.to_bytes(2, "big") for number in range(1, len(self._cycle) + 1)
        )
        self._loaded = False  # the publisher has begun
        self._server = server
        self._peers: dict[int, _Peer] = {}
        self._buffer = bytearray(_BUFFER_BYTES)
        self._poller = select.epoll()
        self._poller.register(server, select.EPOLLIN)
        self._poller.register(0, select.EPOLLIN)

    def run(self) -> None:
        """Until the standard input ends."""
        while True:
            for number, _ in self._poller.poll():
                if number == 0:
                    return
                if number == self._server.fileno():
                    sock, _ = self._server.accept()
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._peers[sock.fileno()] = _Peer(sock)
                    self._poller.register(sock, select.EPOLLIN)
                else:
                    self._serve(self._peers[number])

    def _serve(self, peer: _Peer) -> None:
        with memoryview(self._buffer) as view:
            try:
                size = peer.socket.recv_into(view)
                if not size:
                    self._forget(peer)
                elif peer.streaming:
                    self._pass_on(peer, view[:size])
                elif not (peer.subscribed and self._loaded):  # then these are acknowledgements
                    self._talk(peer, peer.rest + view[:size])
            except (BrokenPipeError, ConnectionResetError):
                self._forget(peer)

    def _forget(self, peer: _Peer) -> None:
        self._peers.pop(peer.socket.fileno(), None)
        peer.socket.close()

    def _talk(self, peer: _Peer, data: bytes) -> None:
        view, at = memoryview(data), 0
        while not peer.streaming and (found := next_packet(view, at)) is not None:
            first, begin, end = found
            after = b"\0" if self._plan.version == 5 else b""
            if first >> 4 == _CONNECT:
                peer.socket.sendall(_packet(0x20, b"\0\0" + after))
            elif first >> 4 == _SUBSCRIBE:
                peer.subscribed = True
                count = 50 if self._plan.subscriptions else 1
                peer.socket.sendall(
                    _packet(0x90, bytes(view[begin : begin + 2]) + after + b"\1" * count)
                )
            elif first >> 4 == PUBLISH and peer.subscribed:
                peer.socket.sendall(view[at:end])  # the learner talks to itself
            elif first >> 4 == PUBLISH:
                peer.streaming = self._loaded = True
                self._pass_on(peer, view[at:])
                end = len(view)
            at = end
        peer.rest = bytes(view[at:])

    def _pass_on(self, peer: _Peer, data: memoryview) -> None:
        end = peer.passed + len(data) - len(DISCONNECT)
        if bytes(data[-2:]) == DISCONNECT and end % len(self._cycle.data) in self._begins:
            data = data[:-2]
        peer.passed += len(data)
        for each in self._peers.values():
            if each.subscribed:
                each.socket.sendall(data)
        if self._plan.qos:
            cycle = self._cycle
            rounds, rest = divmod(peer.passed, len(cycle.data))
            count = rounds * len(cycle) + bisect_right(cycle.starts, rest) - 1
            size = len(self._acks)
            begin, end = (4 * number % size for number in (peer.acknowledged, count))
            if count > peer.acknowledged:
                whole = self._acks[begin:end] if begin < end else self._acks[begin:]
                whole += b"" if begin < end else self._acks[:end]
                peer.socket.sendall(whole)
            peer.acknowledged = count


def _packet(first: int, body: bytes) -> bytes:
    return bytes([first]) + variable_integer(len(body)) + body


def serve(plan: Plan) -> None:
    """Relay the load of a plan, on a free port of loopback that is printed."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as server:
        relay = _Relay(plan, server)
        print(server.getsockname()[1], flush=True)
        relay.run()


class RelayProcess:
    """``with RelayProcess(plan) as relay: connect(relay.host, relay.port)``."""

    name = "relay"
    host = "127.0.0.1"

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.port = 0
        self.pid = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "RelayProcess":
        command = [sys.executable, "-m", __name__]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(msgspec.json.encode(self._plan) + b"\n")
        process.stdin.flush()
        self._process, self.pid = process, process.pid
        try:
            self.port = int(process.stdout.readline())
        except ValueError:
            self.__exit__(None, None, None)
            raise ServerFailed("the relay did not start") from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.communicate()


if __name__ == "__main__":
    serve(msgspec.json.decode(sys.stdin.buffer.readline(), type=Plan))
